"""Runs and studies: their logs, what they are, and which belong together. Imports nothing else of analysis/."""
