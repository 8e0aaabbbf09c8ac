"""A researcher's own parts: files and modules that a configuration names as ``plugins``."""

from mpfl.plugins.loading import blamed, digest, load
from mpfl.plugins.source import Plugin, resolved

__all__ = ["Plugin", "blamed", "digest", "load", "resolved"]
