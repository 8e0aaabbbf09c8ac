"""The client halves of every method."""
