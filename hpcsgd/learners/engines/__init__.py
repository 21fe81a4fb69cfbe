"""Ways to take the passes of all learners of a stack, with the same result."""
