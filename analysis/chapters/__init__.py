"""The figures as values, a module for each script: what they answer, how they are read, drawn, and what they need."""
