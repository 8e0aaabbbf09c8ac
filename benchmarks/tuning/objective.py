"""How good a trial is, in one number, by validation data alone; and what it cost."""

from __future__ import annotations

import math

from benchmarks.results.measures import bytes_to_accuracy, held_accuracy
from benchmarks.results.rundata import RunData
from mpfl.ranking.schedule import density_path

MISSED, FAILED = 100.0, 200.0


def score(run: RunData | None, target: float) -> float:
    """Return how bad a trial is; the smallest is chosen.

    ======================  =================================================================
    reached the target      log10(bytes until then), all clients, both directions: below 19
    missed it               100 + 1 − the accuracy held at the end
    no result, or diverged  200
    ======================  =================================================================

    So every trial that reaches the target is better than any that does not, fewer bytes are
    better among the former, and whatever ends nearer to it among the latter.

    Parameters
    ----------
    run
        None if it came to no result.
    target
        The accuracy to reach, on validation samples.
    """
    if run is None or run.failed:
        return FAILED
    spent = bytes_to_accuracy(run, target)
    if spent is not None:
        return math.log10(max(spent, 1))
    return MISSED + 1 - held_accuracy(run)


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
