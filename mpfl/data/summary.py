"""Who holds how much of which class, as a matrix and as a table of plain characters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpfl.data.samples import IGNORED

_SHADES = " .:-=+*#%@"
_COUNTED, _SAMPLED = 10_000, 1000  # clients up to which all are counted; of more, so many
_WIDEST = 40  # classes beyond this are shown in merged columns


@dataclass(frozen=True, eq=False)
class PartitionSummary:
    """Counts of a partition.

    Attributes
    ----------
    counts
        Samples per client and class, int64 [clients counted, classes].
    clients
        The clients that were counted, int64 [clients counted].
    population
        How many clients there are.
    """

    counts: NDArray[np.int64]
    clients: NDArray[np.int64]
    population: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Samples per client, int64 [clients]."""
        return np.asarray(self.counts.sum(axis=1), np.int64)

    def skew(self) -> float:
        """Return the mean total variation distance of the clients' labels from the pooled ones.

        0: every client has the pooled class shares; near 1: hardly any overlap with them.
        """
        pooled = self.counts.sum(axis=0) / self.counts.sum()
        shares = self.counts / self.sizes[:, None]
        return float(np.abs(shares - pooled).sum(axis=1).mean() / 2)

    def text(self, rows: int = 20) -> str:
        """Return a table: a client a line, its size, and a shade per class.

        A shade is the class's share of the client's samples, from blank (none) to ``@`` (over
        90 %). Of more clients than `rows`, those at evenly spaced ranks of size are shown.
        """
        clients, classes = self.counts.shape
        sizes = self.sizes
        shown = np.arange(clients)
        if clients > rows:
            ranks = np.linspace(0, clients - 1, rows).round().astype(np.int64)
            shown = np.argsort(-sizes, kind="stable")[ranks]
        counted = "" if clients == self.population else f"{self.population} clients, of which "
        lines = [
            f"{counted}{clients} clients, {int(sizes.sum())} samples, {classes} classes; "
            f"per client min {sizes.min()}, median {np.median(sizes):g}, max {sizes.max()}; "
            f"label skew {self.skew():.3f}",
            f"{'client':>7} {'samples':>8}  share per class: none '{_SHADES[0]}', "
            f"then '{_SHADES[1:]}' to 100 %",
        ]
        if clients > rows:
            lines[0] += f"; {rows} of the clients, by size"
        lines += [f"{self.clients[c]:>7} {sizes[c]:>8}  |{_shades(self.counts[c])}|" for c in shown]
        return "\n".join(lines)


def summary(
    parts: Sequence[NDArray[np.int64]],
    targets: NDArray[np.int64],
    classes: int,
) -> PartitionSummary:
    """Count what every client holds, or, of very many, what every so manyth holds.

    Parameters
    ----------
    parts
        Positions of each client's samples.
    targets
        Class of every sample, 0 to classes − 1: [n], or [n, length], where every position counts.
        Targets that are to be ignored do not.
    classes
        Number of classes.
    """
    population = len(parts)
    shown = _SAMPLED if population > _COUNTED else population
    clients = np.array([place * population // shown for place in range(shown)], np.int64)
    held = (targets[parts[int(client)]].ravel() for client in clients)
    counts = [np.bincount(own[own != IGNORED], minlength=classes) for own in held]
    table = np.array(counts, np.int64).reshape(len(clients), classes)
    return PartitionSummary(table, clients, population)


def _shades(counts: NDArray[np.int64]) -> str:
    step = -(-len(counts) // _WIDEST)
    merged = np.add.reduceat(counts, np.arange(0, len(counts), step))
    levels = -(-merged * (len(_SHADES) - 1) // max(1, int(counts.sum())))
    return "".join(_SHADES[level] for level in levels)
