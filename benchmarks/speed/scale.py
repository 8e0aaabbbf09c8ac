"""One round of masks at any number of units, stage by stage, beside memcpy of the same bytes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.ranking import rank
from mpfl.ranking.selection import units_to_keep
from mpfl.seeding import numpy_rng
from mpfl.vote import Tally, VoteContext, decide
from mpfl.wire import decode_mask, encode_mask, magnitude_classes
from server.checkpoint import save_checkpoint

LAYERS, CLASSES, BALLOTS = 20, 8, 3
_TALLIES = 8
"""How often every ballot is counted: 24 of them, so that none waits when the time is taken."""
_LEAST_UNITS = 1000
_SAMPLE = 12
"""Units whose place in a ranking is counted by going through all others."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """A timed piece of work.

    Attributes
    ----------
    name
        Column ``stage``.
    work
        What is timed.
    bytes
        What it reads or writes once, at least: the size of the copy beside it.
    times
        How often `work` does it.
    """

    name: str
    work: Callable[[], Any]
    bytes: int
    times: int = 1


def scale_table(
    units: int = 10_000_000, density: float = 0.1, seed: int = 0
) -> list[dict[str, Any]]:
    """Time the stages that a mask goes through in a round, on a made-up network.

    The network has twenty layers of unequal size and normal weights; scores are |w0| times noise,
    so that ballots agree in part, as trained ones do. Ranking is ``flat``, the rule ``budget``.

    Returns
    -------
    list of dict
        A row per stage: ``stage``; ``seconds`` of processor time, of this process; ``bytes``;
        ``memcpy_seconds``, to copy as many; ``share_of_memcpy``, of that speed;
        ``peak_memory_bytes``, the highest resident set meanwhile, inputs and all (None where the
        system does not tell).

    Raises
    ------
    InputError
        If there are too few units, or the density is not above 0 and below 1.
    RuntimeError
        If a result is not what slow counting gives for a sample of units.
    """
    if units < _LEAST_UNITS:
        raise InputError(f"units: got {units}, expected at least {_LEAST_UNITS}")
    if not 0 < density < 1:
        raise InputError(f"density: got {density}, expected above 0 and below 1")
    return [_measured(stage) for stage in _stages(units, density, seed)]


def _stages(units: int, density: float, seed: int) -> Iterator[Stage]:
    """Give the stages one after another: each needs what the ones before made, and checks it."""
    layout, full = _layout(units), Mask.full(_layout(units))
    w0 = np.abs(_normal(units, seed))
    held: dict[str, Any] = {}

    def keep(name: str, work: Callable[[], Any]) -> Callable[[], None]:
        return lambda: held.update({name: work()})

    parts = [w0[part] for part in layout.slices()]
    yield Stage("classes", keep("classes", lambda: magnitude_classes(parts, CLASSES)), 4 * units)
    classes = held["classes"]
    ballots = []
    for client in range(BALLOTS):
        scores = _normal(units, seed, client)
        np.exp(scores, out=scores)
        scores *= w0

        def vote(scores: Floats = scores) -> tuple[Mask, bytes]:
            ballot = rank([scores[p] for p in layout.slices()], layout, density, full, "flat")
            return ballot, encode_mask(ballot, classes=classes)

        if client:
            ballots.append(vote()[0])
            continue
        yield Stage("ballot", keep("ballot", vote), 4 * units)
        ballot, payload = held["ballot"]
        _check_best(ballot.bools(), (scores,), units_to_keep(density, units), seed)
        yield Stage(
            "decode",
            keep("back", partial(decode_mask, payload, layout, classes=classes)),
            units // 8,
        )
        if held.pop("back") != ballot:
            raise RuntimeError("a payload does not give back its ballot")
        ballots.append(ballot)
    tally, ballots = Tally(layout), ballots * _TALLIES

    def count() -> None:
        for ballot in ballots:
            tally.add(ballot)

    yield Stage("tally", count, units // 8, len(ballots))
    context = VoteContext(layout, density, full, w0)

    def elect() -> tuple[NDArray[np.uint32], Mask]:
        counts = tally.counts()
        return counts, decide("budget", counts, tally.weight, context)

    yield Stage("vote", keep("vote", elect), 4 * units)
    counts, mask = held["vote"]
    _check_counts(counts, ballots, seed)
    _check_best(mask.bools(), (counts, w0), units_to_keep(density, units), seed)
    with tempfile.TemporaryDirectory() as folder:
        state = {"mask": np.frombuffer(mask.packed(), np.uint8), "model": w0}
        path = Path(folder) / "latest"
        yield Stage("checkpoint", lambda: save_checkpoint(path, {}, state), 4 * units + units // 8)


def _layout(units: int) -> Layout:
    """Return twenty layers, each a little larger than the one before."""
    edges = [units * i * (i + 1) // (LAYERS * (LAYERS + 1)) for i in range(LAYERS + 1)]
    sizes = tuple(int(size) for size in np.diff(edges))
    return Layout(tuple(f"layer{i}" for i in range(LAYERS)), sizes)


def _normal(units: int, seed: int, *key: int) -> Floats:
    return numpy_rng(seed, "scale", *key).standard_normal(units, np.float32)


def _measured(stage: Stage) -> dict[str, Any]:
    copying = _copying(stage.bytes * stage.times) / stage.times
    _forget_peak()
    taken = _seconds(stage.work) / stage.times
    return {
        "stage": stage.name,
        "seconds": taken,
        "bytes": stage.bytes,
        "memcpy_seconds": copying,
        "share_of_memcpy": copying / taken if taken else float("inf"),
        "peak_memory_bytes": _peak(),
    }


def _copying(size: int) -> float:
    """Return the fewest seconds of three copies of so many bytes, all pages touched before."""
    source = np.ones(size, np.uint8)
    copy = np.ones_like(source)
    return min(_seconds(lambda: np.copyto(copy, source)) for _ in range(3))


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def _check_best(
    keep: NDArray[np.bool_], keys: tuple[NDArray[Any], ...], count: int, seed: int
) -> None:
    """Check that a sample of units is kept just where fewer than `count` others come before it."""
    if int(np.count_nonzero(keep)) != count:
        raise RuntimeError(f"{np.count_nonzero(keep)} units are kept, expected {count}")
    rng = numpy_rng(seed, "scale sample")
    kept = np.flatnonzero(keep)
    some = [*rng.choice(kept, _SAMPLE // 2), *rng.integers(0, keep.size, _SAMPLE // 2)]
    for unit in (int(u) for u in some):
        before, tied = 0, np.arange(keep.size)
        for key in keys:
            before += int(np.count_nonzero(key[tied] > key[unit]))
            tied = tied[key[tied] == key[unit]]
        before += int(np.count_nonzero(tied < unit))
        if keep[unit] != (before < count):
            raise RuntimeError(f"unit {unit} is in place {before} of {count} that are kept")


def _check_counts(counts: NDArray[np.uint32], ballots: list[Mask], seed: int) -> None:
    rng = numpy_rng(seed, "scale sample")
    for unit in rng.integers(0, counts.size, 1000).tolist():
        if counts[unit] != sum(ballot.bits[unit] for ballot in ballots):
            raise RuntimeError(f"the tally of unit {unit} is wrong")


_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _forget_peak() -> None:
    """Let the highest resident set begin anew, where Linux does that."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")


def _peak() -> int | None:
    if not _STATUS.exists():
        return None
    lines = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None
