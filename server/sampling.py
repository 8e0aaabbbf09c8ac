"""Who is asked in a round: clients drawn from the seed, then the method's own choice of them."""

from __future__ import annotations

from mpfl.config import Experiment
from mpfl.seeding import numpy_rng
from server.methods.base import ServerMethod


def sample_clients(experiment: Experiment, round_number: int) -> list[int]:
    """Return the sampled partitions of a round, sorted; a function of (seed, round) alone."""
    count, chosen = experiment.data.clients, experiment.federation.clients_per_round
    if chosen in (0, count):
        return list(range(count))
    rng = numpy_rng(experiment.seed, "sampling", round_number)
    return sorted(int(i) for i in rng.choice(count, chosen, replace=False))


def asked_clients(experiment: Experiment, method: ServerMethod, round_number: int) -> list[int]:
    """Return the partitions that a method asks in a round, sorted."""
    if not method.uses_clients:
        return []
    return sorted(method.choose(round_number, sample_clients(experiment, round_number)))
