"""Gradients of small feed-forward networks, written out."""

from mpfl.training.feedforward.gradients import Feedforward

__all__ = ["Feedforward"]
