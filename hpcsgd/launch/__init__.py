"""From a recipe to Slurm jobs and back: scripts, studies, their state, and a look at the machine (``doctor``)."""
