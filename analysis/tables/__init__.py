"""Runs in, frames out: what is drawn, and what stands in the tables behind it."""
