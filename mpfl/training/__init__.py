"""Local training and evaluation under a mask."""
