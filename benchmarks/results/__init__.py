"""Finished folders, read back and measured."""
