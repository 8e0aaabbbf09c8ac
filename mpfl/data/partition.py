"""Who holds which training samples: one array of positions per client.

All partitions but ``virtual`` are disjoint and complete.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpfl.config import DataConfig
from mpfl.data.virtual import Parts, Positions, Virtual
from mpfl.errors import InputError, keyed, shown
from mpfl.registry import Registry
from mpfl.seeding import numpy_rng, plain_rng

_DRAWS, _LEAST = 100, 10  # of NIID-Bench's partition: draws at most, samples that all must have


@dataclass(frozen=True)
class Division:
    """What a partitioner is asked to divide.

    Attributes
    ----------
    labels
        Class of every sample, 0-based and without gaps, int64 [n].
    clients
        Number of clients, at most n.
    rng
        The stream to draw from.
    groups
        Natural client of every sample, int64 [n], or None.
    """

    labels: NDArray[np.int64]
    clients: int
    rng: np.random.Generator
    groups: NDArray[np.int64] | None


def partition(
    config: DataConfig,
    targets: NDArray[np.int64],
    seed: int,
    groups: NDArray[np.int64] | None = None,
) -> Parts:
    """Divide the training samples among the clients.

    Parameters
    ----------
    config
        ``clients`` and ``partition`` are used.
    targets
        Class of every training sample, [n]. Of token sequences, [n, length], the groups take the
        place of the classes.
    seed
        The run's seed.
    groups
        Natural client of every sample, [n], where the data has one.

    Returns
    -------
    sequence of numpy.ndarray
        One ascending int64 array of positions per client, none empty; every position is in
        exactly one. Of ``virtual``, an array is drawn when it is asked for.

    Raises
    ------
    InputError
        For more clients than samples, an unknown partition or unfit arguments, or one of one's own
        that does not give every sample to a client, and each client one.
    """
    samples = len(targets)
    with keyed("data.partition"):
        divide = PARTITIONS.bind(config.partition)
    if config.clients > samples and getattr(divide, "func", divide) is not virtual:
        raise InputError(
            f"data.clients: got {config.clients}, expected at most the {samples} training samples"
        )
    labels = targets if targets.ndim == 1 else groups
    if labels is None:
        labels = np.zeros(samples, np.int64)
    _, dense = np.unique(labels, return_inverse=True)
    task = Division(dense, config.clients, numpy_rng(seed, "partition"), groups)
    with keyed("data.partition"):
        divided = divide(task)
        if isinstance(divided, Virtual):
            return divided
        return tuple(_gather(_checked(divided, task), config.clients))


def iid(task: Division) -> NDArray[np.int64]:
    """Deal shuffled samples out evenly; sizes differ by one at most."""
    owner = np.empty(len(task.labels), np.int64)
    owner[task.rng.permutation(len(owner))] = _even(len(owner), task.clients)
    return owner


def dirichlet(task: Division, alpha: float) -> NDArray[np.int64]:
    """Skew the labels: every class is divided in proportions drawn from Dir(alpha, ..., alpha).

    For each class in turn, p ~ Dir_K(alpha) over the K clients is drawn, the class's samples are
    shuffled and cut at ⌊n_c · (p_1 + ... + p_k)⌋ (Yurochkin et al. 2019, the common form of the
    label skew of Hsu et al. 2019, who draw over classes for each client instead). A client left
    with nothing is then given one sample, drawn at random, of the client that has most.
    NIID-Bench's are more skewed: see `labeldir`.
    """
    _check_alpha(alpha)
    return _fill_empty(_by_shares(task, alpha, math.inf), task.clients, task.rng)


def labeldir(task: Division, alpha: float, draw: int = -1) -> NDArray[np.int64]:
    """Skew the labels as NIID-Bench's ``noniid-labeldir`` does (Li et al. 2022).

    As `dirichlet`, but of further classes a client that has its even share of all samples gets
    nothing, and everything is drawn anew until every client has ten samples; after a hundred draws
    the last one is taken, and who has nothing gets a sample as by `dirichlet`. So clients differ
    less in size, and more in their classes.

    With a `draw` from 0 the division is the same whatever the run's seed: the one that Flower's
    baseline ``niid_bench`` draws from that seed, to a sample where edges are rounded. All that it
    publishes is of 42.
    """
    _check_alpha(alpha)
    if draw >= 0:
        task = replace(task, rng=plain_rng(draw))
    for _ in range(_DRAWS):
        owner = _by_shares(task, alpha, len(task.labels) / task.clients, early=draw >= 0)
        if np.bincount(owner, minlength=task.clients).min() >= _LEAST:
            break
    return _fill_empty(owner, task.clients, task.rng)


def _by_shares(task: Division, alpha: float, most: float, early: bool = False) -> NDArray[np.int64]:
    """Divide class after class in shares drawn from Dir(alpha) among who has less than `most`.

    A class is shuffled after its shares are drawn, or `early`, before.
    """
    owner = np.empty(len(task.labels), np.int64)
    sizes = np.zeros(task.clients, np.int64)
    for members in _by_class(task.labels):
        shuffled = task.rng.permutation(members) if early else members
        share = task.rng.dirichlet(np.full(task.clients, alpha))
        takes = sizes < most
        if not takes.all():
            share = share * takes if (share * takes).any() else takes.astype(np.float64)
            share /= share.sum()
        edges = np.floor(np.cumsum(share) * len(members)).astype(np.int64)
        edges[np.flatnonzero(takes)[-1] :] = len(members)
        counts = np.diff(edges, prepend=0)
        sizes += counts
        owner[shuffled if early else task.rng.permutation(members)] = np.repeat(
            np.arange(task.clients), counts
        )
    return owner


def shards(task: Division, k: int = 2) -> NDArray[np.int64]:
    """Give every client k shards of the samples sorted by class (McMahan et al. 2017).

    The samples are sorted by class, at random within one, and cut into clients · k shards whose
    sizes differ by one at most; the shards are dealt out at random.
    """
    if k < 1:
        raise InputError(f"the shards of a client must be a whole number from 1, got {k}")
    total = k * task.clients
    if total > len(task.labels):
        raise InputError(
            f"{task.clients} clients need {total} shards, but there are {len(task.labels)} samples"
        )
    shuffled = task.rng.permutation(len(task.labels))
    order = shuffled[np.argsort(task.labels[shuffled], kind="stable")]
    holder = task.rng.permutation(np.repeat(np.arange(task.clients), k))
    owner = np.empty(len(order), np.int64)
    owner[order] = holder[_even(len(order), total)]
    return owner


def labels(task: Division, k: int) -> NDArray[np.int64]:
    """Give every client samples of k classes (``#C = k`` of NIID-Bench, Li et al. 2022).

    Client i has class i mod C and k − 1 others, drawn at random; the samples of a class, shuffled,
    are divided evenly among the clients that have it. A client left with nothing, because a class
    has fewer samples than clients, is given one sample as by `dirichlet`.
    """
    classes = int(task.labels.max()) + 1
    if not 1 <= k <= classes:
        raise InputError(f"got {k} classes for a client, expected 1 to {classes}")
    if task.clients < classes:
        raise InputError(
            f"'labels': data.clients is {task.clients}, expected at least the {classes} classes, "
            "so that each has a client"
        )
    holders: list[list[int]] = [[] for _ in range(classes)]
    for client in range(task.clients):
        own = client % classes
        others = task.rng.permutation(np.delete(np.arange(classes), own))[: k - 1]
        for name in (own, *others):
            holders[name].append(client)
    owner = np.empty(len(task.labels), np.int64)
    for members, among in zip(_by_class(task.labels), holders, strict=True):
        dealt = np.array(among)[_even(len(members), len(among))]
        owner[task.rng.permutation(members)] = dealt
    return _fill_empty(owner, task.clients, task.rng)


def quantity(task: Division, alpha: float) -> NDArray[np.int64]:
    """Skew the sizes: shuffled samples, client sizes in proportions drawn from Dir(alpha).

    Every client has one sample for certain; the rest is divided as ⌊·⌋ of the proportions, what
    is left over going to the largest remainders (NIID-Bench, Li et al. 2022).
    """
    _check_alpha(alpha)
    share = task.rng.dirichlet(np.full(task.clients, alpha))
    spare = len(task.labels) - task.clients
    exact = share * spare
    sizes = np.floor(exact).astype(np.int64)
    order = np.argsort(sizes - exact, kind="stable")
    sizes[order[: spare - int(sizes.sum())]] += 1
    owner = np.empty(len(task.labels), np.int64)
    owner[task.rng.permutation(len(owner))] = np.repeat(np.arange(task.clients), sizes + 1)
    return owner


def natural(task: Division) -> NDArray[np.int64]:
    """Give every client whole groups, evened out by number of samples.

    Groups go, largest first (at random among equals), each to the client that has fewest
    samples so far; a client per group if there are as many of either.
    """
    if task.groups is None:
        raise InputError("'natural' needs data with groups of its own, such as pydoc")
    _, group, sizes = np.unique(task.groups, return_inverse=True, return_counts=True)
    if task.clients > len(sizes):
        raise InputError(
            f"'natural': data.clients is {task.clients}, expected at most {len(sizes)}, "
            "the number of groups"
        )
    shuffled = task.rng.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    loads = [(0, client) for client in range(task.clients)]
    holder = np.empty(len(sizes), np.int64)
    for index in order:
        load, client = heapq.heappop(loads)
        holder[index] = client
        heapq.heappush(loads, (load + int(sizes[index]), client))
    return holder[group]


def virtual(task: Division, n: int, alpha: float) -> Virtual:
    """Give each of any number of clients n samples of its own class mix, drawn from Dir(alpha).

    Nothing is kept of a client: what it holds is drawn from the seed whenever it is asked for, as
    `mpfl.data.virtual.Virtual` says. Clients may share samples, and some samples nobody may hold.
    """
    _check_alpha(alpha)
    members = tuple(part for part in _by_class(task.labels) if part.size)
    if not 1 <= n <= len(task.labels):
        raise InputError(f"the samples of a client must be 1 to {len(task.labels)}, got {n}")
    return Virtual(task.clients, n, alpha, int(task.rng.integers(1 << 62)), members)


Partitioner = Callable[..., NDArray[np.int64] | Virtual]
"""(division, and the partition's arguments) -> the client of every sample, int64 [n]."""

PARTITIONS: Registry[Partitioner] = Registry(
    "partition",
    {
        "iid": iid,
        "dirichlet": dirichlet,
        "labeldir": labeldir,
        "labels": labels,
        "shards": shards,
        "quantity": quantity,
        "natural": natural,
        "virtual": virtual,
    },
    given=1,
)
"""(`Division`, and its arguments) -> the client that holds each training sample."""


def _check_alpha(alpha: float) -> None:
    if not 1e-3 <= alpha <= 1e6:
        raise InputError(f"got alpha = {alpha:g}, expected 0.001 <= alpha <= 1000000")


def _even(samples: int, clients: int) -> NDArray[np.int64]:
    """Return 0, ..., 0, 1, ..., clients − 1, each repeated equally often to within one."""
    return np.arange(samples, dtype=np.int64) * clients // samples


def _by_class(labels: NDArray[np.int64]) -> list[Positions]:
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels))[:-1])


def _checked(owner: NDArray[np.int64], task: Division) -> NDArray[np.int64]:
    """Return what a partitioner said, if it gives every sample to a client and none is empty."""
    samples, array = len(task.labels), isinstance(owner, np.ndarray)
    if not array or owner.dtype.kind not in "iu" or owner.shape != (samples,):
        got = f"{owner.dtype}{list(owner.shape)}" if array else shown(owner)
        raise InputError(f"got {got}, expected the client of every sample, int64[{samples}]")
    if not 0 <= owner.min() <= owner.max() < task.clients:
        found = f"{owner.min()} to {owner.max()}"
        raise InputError(f"got clients {found}, expected 0 to {task.clients - 1}")
    empty = np.flatnonzero(np.bincount(owner, minlength=task.clients) == 0)
    if len(empty):
        raise InputError(f"client {empty[0]} has no sample, expected one for each at least")
    return owner.astype(np.int64)


def _gather(owner: NDArray[np.int64], clients: int) -> list[Positions]:
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.cumsum(np.bincount(owner, minlength=clients))[:-1])


def _fill_empty(
    owner: NDArray[np.int64], clients: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    sizes = np.bincount(owner, minlength=clients)
    empty = np.flatnonzero(sizes == 0)
    if not len(empty):
        return owner
    largest = [(-int(size), client) for client, size in enumerate(sizes)]
    heapq.heapify(largest)
    gives = np.zeros(clients, np.int64)
    for _ in empty:
        size, client = largest[0]
        gives[client] += 1
        heapq.heapreplace(largest, (size + 1, client))
    parts = _gather(owner, clients)
    given = [rng.permutation(parts[client])[: gives[client]] for client in np.flatnonzero(gives)]
    filled = owner.copy()
    filled[np.concatenate(given)] = empty
    return filled
