"""How a run fares: rounds that counted, replies lost and why, and whether there is a result."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mpfl.errors import RunError
from server.custody import add, check_file, drop, write_atomically, writing
from server.records import Failure, RoundRecord, from_json, json_text

FAILURE = "failure.json"


@dataclass
class Standing:
    """How a run has fared so far.

    Attributes
    ----------
    rounds
        Phase → rounds that counted, rounds that were run.
    lost
        Reason → replies that did not count.
    causes
        Phase → why the first of its rounds that did not count did not.
    """

    rounds: dict[str, list[int]] = field(default_factory=dict)
    lost: Counter[str] = field(default_factory=Counter)
    causes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[RoundRecord]) -> Standing:
        """Return the standing after these rounds."""
        standing = cls()
        for record in records:
            standing.add(record)
        return standing

    def add(self, record: RoundRecord) -> None:
        """Take in one round."""
        tally = self.rounds.setdefault(record.phase, [0, 0])
        tally[0] += record.counted
        tally[1] += 1
        self.lost.update(record.rejected)
        if not record.counted:
            self.causes.setdefault(record.phase, _cause(record))

    def without_result(self, phases: Iterable[str] = ()) -> str:
        """Return which phase has no round that counted, and the first cause; empty for none.

        Only `phases` are looked at, if any are given.
        """
        for phase in phases or self.rounds:
            counted, run = self.rounds[phase]
            if not counted:
                rounds = "round" if run == 1 else "rounds"
                cause = self.causes[phase]
                return (
                    f"none of the {run} {rounds} of phase {phase!r} counted; first cause: {cause}"
                )
        return ""

    def check(self, phase: str) -> None:
        """Raise RunError if no round of a phase counted, now that it is over."""
        if why := self.without_result([phase]):
            raise RunError(why)


def _cause(record: RoundRecord) -> str:
    usable = f"{record.clients_replied} of {record.clients_sampled} replies were usable"
    return "; ".join([f"round {record.round}: {usable}", *record.errors[:1]])


def failure_of(standing: Standing, loss: float | None, finite: bool = True) -> str | None:
    """Return why what a run ended with is no result; None if it is one.

    Parameters
    ----------
    loss
        That of the final model on held-out data; None or not finite where it diverged.
    finite
        Whether all numbers of the final model are.
    """
    if why := standing.without_result():
        return why
    if loss is None or not math.isfinite(loss):
        return "diverged: the loss of the final model on held-out data is not finite"
    return None if finite else "diverged: the final model has numbers that are not finite"


def lost_text(lost: Mapping[str, int]) -> str:
    """Return how many replies were lost to what, in words.

    Examples
    --------
    >>> lost_text({"no reply": 2, "client error": 1})
    '1 (client error), 2 (no reply)'
    """
    return ", ".join(f"{count} ({reason})" for reason, count in sorted(lost.items()))


def ignored_text(ignored: Mapping[str, str]) -> str:
    """Return which settings have no effect and why, each reason once.

    Examples
    --------
    >>> ignored_text({"a.b": "x is off", "a.c": "x is off"})
    'a.b, a.c (x is off)'
    """
    reasons: dict[str, list[str]] = {}
    for key, why in ignored.items():
        reasons.setdefault(why, []).append(key)
    return "; ".join(f"{', '.join(keys)} ({why})" for why, keys in reasons.items())


def write_failure(folder: Path, failure: Failure) -> None:
    """Say in a run folder why the run ended without a result."""
    content = (json_text(failure, indent=2) + "\n").encode()
    with writing(folder, ""):
        write_atomically(folder / FAILURE, content)
        add(folder, FAILURE, content)


def read_failure(folder: Path) -> Failure | None:
    """Return why the run in a folder failed, None if it did not; InputError if edited."""
    check_file(folder, FAILURE)
    file = folder / FAILURE
    if not file.is_file():
        return None
    return from_json(Failure, file.read_text(encoding="utf-8", errors="replace"), str(file))


def forget_failure(folder: Path) -> None:
    """Begin another attempt: how the last one ended is no longer true."""
    with writing(folder, ""):
        (folder / FAILURE).unlink(missing_ok=True)
        drop(folder, FAILURE)
