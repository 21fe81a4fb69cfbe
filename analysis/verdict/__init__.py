"""What can be said in plain sentences of runs and studies, from their tables: never more than the noise allows."""
