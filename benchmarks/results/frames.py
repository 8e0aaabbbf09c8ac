"""Results as pandas DataFrames, for those who have pandas."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from benchmarks.results.measures import Estimate
from benchmarks.results.rows import Row
from benchmarks.results.rundata import RunData
from mpfl.errors import install_text
from server.records import DOWNLINK, UPLINK

_NESTED = ("rejected", "errors", "layer_density", "extra", "vote")


def rounds_frame(run: RunData) -> Any:
    """Return one row a round, indexed by round.

    Densities of layers are called ``layer_density.name``, a method's own numbers ``extra.name``.
    Of a vote there are ``vote.unanimity`` and ``vote.overlap``; ``rejected`` counts replies.
    """
    rows = []
    for line in run.rounds:
        row = {name: value for name, value in vars(line).items() if name not in _NESTED}
        row["rejected"] = sum(line.rejected.values())
        if line.vote:
            row |= {f"vote.{name}": getattr(line.vote, name) for name in ("unanimity", "overlap")}
        for key, nested in (("layer_density", line.layer_density), ("extra", line.extra or {})):
            row |= {f"{key}.{name}": value for name, value in nested.items()}
        rows.append(row)
    return _pandas().DataFrame(rows).set_index("round")


def ledger_frame(run: RunData) -> Any:
    """Return one row a message: round, client, phase, direction, and its bytes by kind."""
    ledger = run.ledger
    columns: dict[str, Any] = {
        "round": ledger.round,
        "client": ledger.client,
        "phase": list(ledger.phase),
        "direction": [UPLINK if up else DOWNLINK for up in ledger.uplink],
        **{f"{kind}_bytes": values for kind, values in ledger.kinds.items()},
        "message_bytes": ledger.message_bytes,
        "formula_bytes": ledger.formula_bytes,
        "bound_bytes": ledger.bound_bytes,
    }
    return _pandas().DataFrame(columns)


def comparison_frame(rows: Sequence[Row]) -> Any:
    """Return one row per method, indexed by it; an estimate is its mean, low and high ends.

    Without the further targets, which `comparison_table` has.
    """
    return _pandas().DataFrame([_flat(row) for row in rows]).set_index("method")


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for item in fields(row):
        value = getattr(row, item.name)
        if item.name in ("sweep", "reaches"):
            continue
        if isinstance(value, Estimate):
            flat |= {
                item.name: value.mean,
                f"{item.name}_low": value.low,
                f"{item.name}_high": value.high,
            }
        else:
            flat[item.name] = value
    return flat


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError:
        text = f"to_pandas: pandas is not installed; {install_text('pandas')}"
        raise ImportError(text) from None
