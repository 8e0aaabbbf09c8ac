"""A researcher's own parts: files and modules that a configuration names as ``plugins``."""

from mpfl.plugins.loading import digest, load
from mpfl.plugins.source import Plugin, resolved

__all__ = ["Plugin", "digest", "load", "resolved"]
