"""Runs built by hand: from messages, and from what was reached with how many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.results.rundata import KINDS, Ledger, Round, RunData


def ledger(rows: Sequence[tuple[int, int, bool, int]]) -> Ledger:
    """Build a ledger of (round, client, uplink, bytes), all of it values."""
    table = np.array([row[:2] + row[3:] for row in rows], np.int64).reshape(-1, 3)
    sizes = table[:, 2]
    return Ledger(
        round=table[:, 0],
        client=table[:, 1],
        phase=("train",) * len(rows),
        uplink=np.array([row[2] for row in rows], np.bool_),
        kinds={kind: sizes if kind == "values" else np.zeros_like(sizes) for kind in KINDS},
        message_bytes=sizes,
        formula_bytes=np.full(len(rows), np.nan),
        bound_bytes=np.full(len(rows), np.nan),
    )


def run_of(
    points: Sequence[tuple[int, float | None]],
    label: str = "mpfl",
    seed: int = 0,
    sweep: dict[str, Any] | None = None,
    messages: Ledger | None = None,
) -> RunData:
    """Build a run from (total bytes, accuracy) per round."""
    rounds = tuple(
        Round(
            round=number,
            phase="train",
            uplink_bytes=total // 2,
            downlink_bytes=total - total // 2,
            total_bytes=total,
            density=0.5,
            test_accuracy=accuracy,
        )
        for number, (total, accuracy) in enumerate(points, start=1)
    )
    return RunData(
        folder="f",
        label=label,
        method=label,
        seed=seed,
        sweep=sweep or {},
        config={},
        rounds=rounds,
        ledger=messages or ledger([]),
        summary={},
    )
