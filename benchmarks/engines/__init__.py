"""Flower's own engines: Ray, and a deployment with SuperLink and SuperNodes."""
