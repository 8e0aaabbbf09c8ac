"""Runs built by hand: from messages, and from what was reached with how many bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results.loading import read_summary
from benchmarks.results.rundata import Ledger, RunData
from server.records import DOWNLINK, UPLINK, RoundRecord, Row

_SUMMARY = read_summary(Path(__file__).parent / "golden" / "folders" / "finished" / "summary.json")


def record(number: int, total: int, accuracy: float | None) -> RoundRecord:
    """Return a round of one client after which `total` bytes are spent."""
    return RoundRecord(
        round=number,
        phase="train",
        density=0.5,
        density_all_parameters=0.5,
        test_accuracy=accuracy,
        test_loss=None,
        uplink_bytes=total // 2,
        downlink_bytes=total - total // 2,
        total_bytes=total,
        clients_sampled=1,
        clients_replied=1,
        counted=True,
        rejected={},
        errors=[],
        layer_density={},
        seconds=0.0,
    )


def ledger(rows: Sequence[tuple[int, int, bool, int]]) -> Ledger:
    """Build a ledger of (round, client, uplink, bytes), all of it values."""
    return Ledger.of(
        [
            Row(r, c, UPLINK if up else DOWNLINK, "train", 0, size, 0, 0, 0, 0, size, 0.0, 0.0)
            for r, c, up, size in rows
        ]
    )


def run_of(
    points: Sequence[tuple[int, float | None]],
    label: str = "mpfl",
    seed: int = 0,
    sweep: dict[str, Any] | None = None,
    messages: Ledger | None = None,
) -> RunData:
    """Build a run from (total bytes, accuracy) per round."""
    return RunData(
        folder="f",
        label=label,
        seed=seed,
        sweep=sweep or {},
        config={},
        rounds=tuple(record(n, total, a) for n, (total, a) in enumerate(points, start=1)),
        ledger=messages or ledger([]),
        summary=_SUMMARY,
    )
