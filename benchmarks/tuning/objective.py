"""How good a trial is, in one number, by validation data alone; and what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.results.measures import (
    area_under_curve,
    bytes_to_accuracy,
    deciding,
    held_accuracy,
)
from benchmarks.results.rundata import RunData
from mpfl.ranking.schedule import density_path

MISSED, FAILED = 100.0, 200.0
_SPAN = 1e4
"""Of the bytes over which the area of a trial that missed is measured: most / fewest."""


@dataclass(frozen=True)
class Target:
    """What a trial shall reach.

    Attributes
    ----------
    accuracy
        On validation samples.
    most_bytes
        What a run of the baseline sends in all, at most.
    """

    accuracy: float
    most_bytes: int


def score(run: RunData | None, target: Target) -> float:
    """Return how bad a trial is; the smallest is chosen.

    ======================  =================================================================
    reached the target      log10(bytes until then), all clients, both directions: below 19
    missed it               100 + 1 − the mean accuracy over log(bytes), from a ten-thousandth
                            of `Target.most_bytes` to that
    no result, or diverged  200
    ======================  =================================================================

    So every trial that reaches the target is better than any that does not, fewer bytes are
    better among the former, and a higher curve among the latter.

    Parameters
    ----------
    run
        None if it came to no result.
    """
    if run is None or run.failed:
        return FAILED
    spent = bytes_to_accuracy(run, target.accuracy)
    if spent is not None:
        return math.log10(max(spent, 1))
    area = area_under_curve(run, target.most_bytes / _SPAN, target.most_bytes, deciding)
    return MISSED + 1 - area


def baseline_score(run: RunData | None) -> float:
    """Return by what the baseline is searched, which has no target yet: 1 − accuracy at its end."""
    return FAILED if run is None or run.failed else 1 - held_accuracy(run)


def client_epochs(run: RunData) -> int:
    """Return the local epochs of all clients that were asked to train, over all rounds."""
    epochs, prune = run.config["train"]["epochs"], run.config["prune"]
    unread = run.summary.health.ignored if run.summary.health else {}
    of_masks = epochs if "prune.epochs" in unread else prune["epochs"] or epochs
    if run.config["method"] == "prunefl":  # its first mask is made by training and pruning in turns
        of_masks *= len(density_path(prune["schedule"], prune["density"], prune["rounds"]))
    of_phase = {"score": 0, "mask": of_masks}
    return sum(line.clients_sampled * of_phase.get(line.phase, epochs) for line in run.rounds)
