"""Which reply suffers which fault.

Every draw has a stream of its own, keyed by fault, round and client, so that a run is the same
whatever the number of workers and wherever it was restarted.
"""

from __future__ import annotations

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


LOSSES = {
    "drop_before": (1001, "dropped before training"),
    "drop_after": (1002, "dropped after training"),
    "straggle": (1003, "after the deadline"),
}
"""Faults that swallow a reply: the code of the error message, and what the record calls it."""
RAISED = 2
"""Flower's code for an error message from a client whose app raised."""


CLIENT_ERROR = "client error"
"""Why there is no frame: the client's app raised, or answered without one."""
CLIENT_CRASHED = "client crashed"
"""Why there is no reply: the process that worked at it is gone."""
NODE_GONE = "node gone"
"""Why there is none: the node that holds the client's data is not there, or went away."""
NO_REPLY = "no reply"
"""Why there is none: nothing was heard until the timeout."""
CLIENT_FAILURES = (CLIENT_ERROR, CLIENT_CRASHED)
"""Reasons that are the fault of a client, not of nodes and network or of the configuration."""


def tolerated(tolerate: str, simulated: bool, reason: str) -> bool:
    """Return whether a run goes on after a reply was lost for this reason.

    Parameters
    ----------
    tolerate
        ``faults.tolerate``.
    simulated
        Whether all clients are this machine's: one that fails is a bug, or too little memory.
    """
    if tolerate == "auto":
        tolerate = "nothing" if simulated else "everything"
    return reason not in CLIENT_FAILURES or tolerate in ("everything", reason)


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
