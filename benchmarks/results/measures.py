"""What is measured on runs: pure functions from `RunData` to numbers, no input or output."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from benchmarks.results.rundata import RunData
from mpfl.errors import InputError
from server.records import KINDS, UPLINK, RoundRecord
from server.transport.overhead import transport_overhead

_SAME = 1e-9
"""Accuracies nearer to each other than this are equal: no test set has so many samples."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval.

    Attributes
    ----------
    mean
        Arithmetic or geometric mean, as the maker says.
    low, high
        Ends of the interval; None for fewer than two values.
    count
        Number of values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; None for fewer than two values."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class Link:
    """A modelled access link: each client has one of its own, the server's is unlimited."""

    name: str
    uplink_bits_per_second: float
    downlink_bits_per_second: float
    round_trip_seconds: float


LINKS = (
    Link("3G", 0.768e6, 1.6e6, 0.300),
    Link("4G", 9e6, 9e6, 0.170),
    Link("Wi-Fi", 40e6, 40e6, 0.010),
    Link("Ethernet", 1e9, 1e9, 0.001),
)
"""3G and 4G as in WebPageTest's profiles of those names; Wi-Fi and Ethernet are round figures."""


@dataclass(frozen=True)
class Spread:
    """How accuracy differs between clients: shares between 0 and 1."""

    lowest: float
    median: float
    highest: float


@dataclass(frozen=True)
class Tested:
    """A round that every run of a group evaluated: bytes until then and accuracy over the runs."""

    round: int
    total_bytes: float
    accuracy: Estimate


def mean_interval(values: Sequence[float]) -> Estimate:
    """Return the mean and its two-sided Student t interval of 95 %.

    Raises
    ------
    InputError
        For no values.
    """
    if not values:
        raise InputError("a mean needs at least one value")
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None, 1)
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
    from scipy.special import stdtrit  # half a second that a run of one seed does without

    quantile = float(stdtrit(len(values) - 1, 0.975))
    half = quantile * deviation / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Return the mean; None where a value is missing, or all are."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def geometric_interval(ratios: Sequence[float]) -> Estimate:
    """Return the geometric mean of positive ratios and the t interval of their logarithms."""
    if any(ratio <= 0 for ratio in ratios):
        raise InputError("a geometric mean needs positive ratios")
    logs = mean_interval([math.log(ratio) for ratio in ratios])
    ends = [None if end is None else math.exp(end) for end in (logs.low, logs.high)]
    return Estimate(math.exp(logs.mean), ends[0], ends[1], logs.count)


def final_accuracy(run: RunData) -> float:
    """Return the test accuracy of the last evaluated round (never the best one).

    Raises
    ------
    InputError
        If no round was evaluated.
    """
    if not run.evaluated:
        raise InputError(f"{run.folder}: rounds.jsonl holds no test accuracy")
    return _accuracy(run.evaluated[-1])


def held_accuracy(run: RunData, window: int = 3) -> float:
    """Return the accuracy a run holds at its end: the median of its last evaluated rounds.

    A peak touched once does not count; a single bad last round does not either. Targets are made
    of it: it is the accuracy on validation samples, if the run has any.
    """
    last = [deciding(line) for line in run.evaluated[-window:]]
    if not last:
        raise InputError(f"{run.folder}: rounds.jsonl holds no test accuracy")
    return float(np.median(last))


def bytes_to_accuracy(run: RunData, accuracy: float) -> int | None:
    """Return the total bytes spent when the accuracy was first reached; None if it never was.

    That is the accuracy on validation samples, if the run has any. A share less a margin is seldom
    the float that a share of as many samples is, so what is equal but for that counts as reached.
    """
    for line in run.evaluated:
        if deciding(line) >= accuracy - _SAME:
            return line.total_bytes
    return None


def accuracy_within(run: RunData, budget_bytes: float) -> float | None:
    """Return the accuracy of the model one has when stopping within a byte budget.

    This is the last evaluated round within the budget, not the best one; None where not even the
    first fits.
    """
    affordable = [line for line in run.evaluated if line.total_bytes <= budget_bytes]
    return _accuracy(affordable[-1]) if affordable else None


def area_under_curve(run: RunData, low_bytes: float, high_bytes: float) -> float:
    """Return the mean test accuracy over log(total bytes) between two byte counts.

    Accuracy counts from the moment its bytes were spent (a step function), as 0 before the first
    evaluation, and stays at its last value after the run's end. The result lies between 0 and 1.

    Raises
    ------
    InputError
        Unless 0 < low < high.
    """
    if not 0 < low_bytes < high_bytes:
        raise InputError(f"expected 0 < low < high bytes, got {low_bytes} and {high_bytes}")
    inside = [n.total_bytes for n in run.evaluated if low_bytes < n.total_bytes < high_bytes]
    edges = [low_bytes, *inside, high_bytes]
    steps = [
        math.log(after / before) * (accuracy_within(run, before) or 0.0)
        for before, after in itertools.pairwise(edges)
    ]
    return math.fsum(steps) / math.log(high_bytes / low_bytes)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the indices of the points (cost, value) that no other point beats, by rising cost.

    A point is beaten by one that costs no more and is worth no less, and is better in one of the
    two. Equal points are all kept.
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1], i))
    front: list[int] = []
    for index in order:
        cost, value = points[index]
        if not front or value > points[front[-1]][1] or points[front[-1]] == (cost, value):
            front.append(index)
    return front


def group_runs(runs: Sequence[RunData]) -> dict[str, list[RunData]]:
    """Return the repetitions of each label and sweep value, ordered by seed."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        groups.setdefault(run.name, []).append(run)
    return {name: sorted(group, key=lambda run: run.seed) for name, group in groups.items()}


def baseline_of(run: RunData, runs: Sequence[RunData], baseline: str) -> RunData | None:
    """Return the baseline's run on the same work: same seed, same swept values.

    A baseline that was not swept over a key serves all its values, if there is only one such run.
    None where there is no run to compare with: the work of another value is other work.
    """
    same_seed = [r for r in runs if r.label == baseline and r.seed == run.seed]
    for wanted in (dict(run.sweep), {}):
        for other in same_seed:
            if dict(other.sweep) == wanted:
                return other
    able = [r for r in same_seed if all(run.sweep.get(k, v) == v for k, v in r.sweep.items())]
    return able[0] if len(able) == 1 else None


def paired_ratios(pairs: Sequence[tuple[float, float]]) -> Estimate | None:
    """Return the geometric mean of value / reference over pairs; None if one is not positive."""
    if not pairs or any(value <= 0 or reference <= 0 for value, reference in pairs):
        return None
    return geometric_interval([value / reference for value, reference in pairs])


def byte_composition(run: RunData, phase: str = "") -> dict[str, dict[str, int]]:
    """Return bytes per direction (``uplink``, ``downlink``) and kind, summed over messages.

    Only the messages of `phase` count, if it is given.
    """
    ledger = run.ledger
    among = np.array([not phase or own == phase for own in ledger.phase], np.bool_)
    return {
        direction: {kind: int(ledger.kinds[kind][among & chosen].sum()) for kind in KINDS}
        for direction, chosen in (("uplink", ledger.uplink), ("downlink", ~ledger.uplink))
    }


def bits_per_parameter(run: RunData, direction: str) -> float | None:
    """Return the mean bits of a message for each of the model's parameters.

    That is 8 · bytes / (messages · parameters) of a direction (``uplink``, ``downlink``), with
    framing, over all parameters that can be trained, pruned or not: a round's bits for a client.
    None where nothing is sent.
    """
    chosen = run.ledger.uplink if direction == UPLINK else ~run.ledger.uplink
    sent, messages = int(run.ledger.message_bytes[chosen].sum()), int(np.count_nonzero(chosen))
    return 8 * sent / (messages * run.summary.parameters) if messages else None


def bytes_with_transport(run: RunData) -> int:
    """Return what the sockets of a deployment carried or, where nobody measured it, would carry.

    That is the total bytes and what `transport_overhead` adds for so many messages.
    """
    if run.socket_bytes is not None:
        return run.socket_bytes
    up = int(np.count_nonzero(run.ledger.uplink))
    return run.total_bytes + transport_overhead(up, len(run.ledger) - up)


def transfer_seconds(run: RunData, link: Link) -> float:
    """Return the modelled time all rounds spend on transfers over a link.

    Clients of a round transfer at the same time, each over its own link; a round lasts as long as
    its slowest client: downlink time + uplink time + one round trip.
    """
    ledger = run.ledger
    rate = np.where(ledger.uplink, link.uplink_bits_per_second, link.downlink_bits_per_second)
    seconds = ledger.message_bytes * 8 / rate
    rounds: dict[int, dict[int, float]] = {}
    for number, client, value in zip(ledger.round, ledger.client, seconds, strict=True):
        clients = rounds.setdefault(int(number), {})
        clients[int(client)] = clients.get(int(client), link.round_trip_seconds) + float(value)
    return math.fsum(max(clients.values()) for clients in rounds.values())


def client_spread(run: RunData) -> Spread | None:
    """Return how the final model's accuracy differs between clients; None if not measured."""
    if not run.client_accuracy:
        return None
    values = run.client_accuracy
    return Spread(min(values), float(np.median(values)), max(values))


def common_rounds(group: Sequence[RunData]) -> list[Tested]:
    """Return what was measured in the rounds that were evaluated in every run."""
    tables: list[Mapping[int, RoundRecord]] = [{n.round: n for n in run.evaluated} for run in group]
    numbers = sorted(set(tables[0]).intersection(*tables[1:])) if tables else []
    return [
        Tested(
            number,
            fmean(table[number].total_bytes for table in tables),
            mean_interval([_accuracy(table[number]) for table in tables]),
        )
        for number in numbers
    ]


def _accuracy(line: RoundRecord) -> float:
    if line.test_accuracy is None:
        raise InputError(f"round {line.round} was not evaluated")
    return line.test_accuracy


def deciding(line: RoundRecord) -> float:
    """Return the accuracy that targets go by; InputError for a round without one."""
    if line.deciding_accuracy is None:
        raise InputError(f"round {line.round} was not evaluated")
    return line.deciding_accuracy
