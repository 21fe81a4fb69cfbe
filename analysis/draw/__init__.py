"""Frames in, files out: how figures look, and what the scripts share."""
