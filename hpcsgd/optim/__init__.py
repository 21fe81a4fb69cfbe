"""Learning-rate schedules and momentum SGD on flat buffers."""
