"""A run, from its recipe to what it leaves."""
