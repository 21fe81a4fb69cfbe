"""The ways in from Python: a run whose parts are brought along, a loop of the user's own, and a look at a recipe."""
