"""Masked pruning over federated learning: the algorithm, without any transport."""

__version__ = "0.1.0"
