"""A method of your own with an option, beside federated averaging.

Each round a random share of the weights is averaged; both sides draw which, so that no message
says so, and what a client does not send it keeps for later.

Run it with ``python examples/custom_method.py``; it needs no data and takes a few seconds. The same
file is a plugin: ``mpfl run demo --plugin examples/custom_method.py --set 'method=randk(0.05)'``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients import Client, follow
from mpfl import (
    METHODS,
    Frame,
    InputError,
    Kind,
    Method,
    Section,
    World,
    decode_values,
    encode_values,
    numpy_rng,
)
from server import Receipt, WeightMethod, claimed_samples


@dataclass(frozen=True)
class Options:
    """What stands in the parentheses of ``randk(0.1)``."""

    fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"got fraction = {self.fraction:g}, expected 0 < fraction <= 1")


def places(world: World, round_number: int, count: int) -> NDArray[np.int64]:
    """Return the entries that are sent in a round: both sides draw them from the same stream."""
    rng = numpy_rng(world.experiment.seed, "randk", round_number)
    wanted = max(1, round(world.options.fraction * count))
    return np.sort(rng.choice(count, wanted, replace=False))


def handle(request: Frame, client: Client) -> Frame:
    """Train the common model; send some entries of the change, and keep the rest for later."""
    replica = follow(client.world, client.state, request)
    rounds = client.world.experiment.federation.rounds
    result = client.train_public(replica, request.round, rounds)
    keep = replica.footprint.keep
    change = client.world.model.read_model()[keep] - replica.public[keep]
    if client.state.sent.residual is not None:
        change = change + client.state.sent.residual
    chosen = places(client.world, request.round, change.size)
    sent, stream = change[chosen], client.rng("uplink", request.round)
    client.state.sent.residual = change.copy()
    client.state.sent.residual[chosen] = 0
    values = encode_values(sent, "float32", (sent.size,), stream)
    sections = {Section.VALUES: values, Section.METRICS: client.metrics(result)}
    return Frame(Kind.UPDATE, request.round, sections)


class RandK(WeightMethod):
    """Average a random share of the entries each round."""

    # What of [wire] matters: the model goes down as it says, the entries come up as float32.
    reads = ("train.*", "wire.down", "wire.error_feedback", "wire.value_classes")

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add the entries that a client sent to the mean."""
        samples = claimed_samples(self.world, client, reply, Kind.UPDATE)
        change = np.zeros(self.channel.footprint.count, np.float32)
        chosen = places(self.world, self.round, change.size)
        payload = reply.sections.get(Section.VALUES, b"")
        change[chosen] = decode_values(payload, "float32", (chosen.size,))
        self.mean.add(change, samples)
        self.confirm(client)
        return Receipt(formula_bytes=4.0 * chosen.size, bound_bytes=float(len(payload)))

    def average(self) -> NDArray[np.float32]:
        """Return the model after the mean change."""
        model = self.state.model.public.copy()
        model[self.channel.footprint.keep] += self.mean.mean()
        return model


METHODS.register("randk", Method(client=handle, server=RandK, options=Options))


def main() -> None:
    import benchmarks  # not on the nodes of a deployment, which need the parts above alone

    comparison = benchmarks.compare(
        "demo",
        {"plugins": [__file__], "federation.rounds": 12},
        methods=["randk(0.1)", "randk(0.3)", "fedavg"],
    )
    for row in comparison.rows:
        print(
            f"{row.method:<12} test accuracy {100 * row.accuracy.mean:5.2f} %  "
            f"uplink {row.uplink_bytes / 1000:,.0f} kB"
        )
    print("One seed on one small data set: a start, not a verdict.")
    print(f"runs: {comparison.folder}")


if __name__ == "__main__":
    main()
