"""Runs and comparisons from Python: ``benchmarks.run`` and ``benchmarks.compare``."""

from __future__ import annotations

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from benchmarks.api.calls import Config, compare, load, run
from benchmarks.api.finished import Comparison, Run

__all__ = ["Comparison", "Config", "Run", "compare", "load", "run"]
