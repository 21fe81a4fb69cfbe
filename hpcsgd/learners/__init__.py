"""How many models train on a device."""
