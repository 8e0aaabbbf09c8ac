"""Which reply suffers which fault.

Every draw has a stream of its own, keyed by fault, round and client, so that a run is the same
whatever the number of workers and wherever it was restarted.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from mpfl.config import Experiment
from mpfl.seeding import numpy_rng

FAULTS = (
    "drop_before",
    "drop_after",
    "straggle",
    "corrupt",
    "truncate",
    "replay",
    "wrong_round",
    "not_finite",
)
"""What can happen to a reply, in order of precedence: one reply suffers one fault at most."""


class Loss(IntEnum):
    """Why a simulated reply never arrives; the value is the code of the error message."""

    DROP_BEFORE = 1001
    DROP_AFTER = 1002
    STRAGGLE = 1003

    @property
    def reason(self) -> str:
        """What the round's record calls it."""
        return _REASONS[self]


_REASONS = {
    Loss.DROP_BEFORE: "dropped before training",
    Loss.DROP_AFTER: "dropped after training",
    Loss.STRAGGLE: "after the deadline",
}


def fault_of(experiment: Experiment, round_number: int, client: int) -> str:
    """Return the fault that a client's reply suffers in a round; empty for none."""
    for name in FAULTS:
        probability = getattr(experiment.faults, name)
        if probability and fault_rng(experiment, name, round_number, client).random() < probability:
            return name
    return ""


def fault_rng(
    experiment: Experiment, fault: str, round_number: int, client: int
) -> np.random.Generator:
    """Return the stream (fault, round, client); its first draw decides whether it happens."""
    return numpy_rng(experiment.seed, f"fault {fault}", round_number, client)
