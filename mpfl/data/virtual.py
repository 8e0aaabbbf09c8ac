"""Any number of clients: what each holds is a function of the client, drawn when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from mpfl.seeding import numpy_rng

Positions = NDArray[np.int64]
Parts = Sequence[Positions]
"""Positions of each client's training samples, by client."""


@dataclass(frozen=True, eq=False)
class Virtual(Sequence[Positions]):
    """What a population holds, of which nothing is kept: the same client gets the same again.

    A client has a class mix of its own, drawn from Dir(alpha, ..., alpha) over the classes as by
    Hsu et al. 2019 (arXiv 1909.06335), and as many samples of every class as a multinomial draw
    of that mix says. These are different samples where the class has as many, else drawn one by
    one; two clients may share some.

    Attributes
    ----------
    clients
        How many there are.
    size
        Samples of each.
    alpha
        Concentration of the class mixes.
    seed
        Of all draws.
    members
        Positions of each class's samples.
    """

    clients: int
    size: int
    alpha: float
    seed: int
    members: tuple[Positions, ...]

    def __len__(self) -> int:
        return self.clients

    @overload
    def __getitem__(self, client: int) -> Positions: ...
    @overload
    def __getitem__(self, client: slice) -> Sequence[Positions]: ...
    def __getitem__(self, client: int | slice) -> Positions | Sequence[Positions]:
        """Return the positions of a client's samples, int64[size], ascending."""
        if isinstance(client, slice):
            return [self[i] for i in range(*client.indices(self.clients))]
        if not 0 <= client < self.clients:
            raise IndexError(f"client {client} of {self.clients}")
        rng = numpy_rng(self.seed, "virtual client", client)
        mix = rng.dirichlet(np.full(len(self.members), self.alpha))
        counts = rng.multinomial(self.size, mix)
        drawn = [
            own[rng.choice(own.size, count, replace=bool(count > own.size))]
            for own, count in zip(self.members, counts, strict=True)
            if count
        ]
        return np.sort(np.concatenate(drawn))


def held_in_a_round(parts: Parts, asked: int) -> int:
    """Return the most samples that the clients of a round hold together; of a table, all of them.

    One that two clients hold counts twice.
    """
    if isinstance(parts, Virtual):
        return asked * parts.size
    return sum(map(len, parts))


def pooled(parts: Parts) -> Positions:
    """Return the positions of all samples that some client may hold, ascending."""
    everything = parts.members if isinstance(parts, Virtual) else parts
    return np.sort(np.concatenate(list(everything)))


def contents(parts: Parts) -> Iterable[bytes]:
    """Return bytes that are those of another division only if it is the same.

    A population is known by what it is a function of.
    """
    if isinstance(parts, Virtual):
        yield f"virtual {parts.clients} {parts.size} {parts.alpha!r} {parts.seed}".encode()
        parts = parts.members
    for part in parts:
        yield len(part).to_bytes(8, "little") + part.astype("<i8").tobytes()
