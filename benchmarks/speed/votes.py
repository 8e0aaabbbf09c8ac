"""Speed of the tally against unpacking and adding, and against memcpy, side by side in one run."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.errors import InputError
from mpfl.mask import Layout, Mask
from mpfl.seeding import numpy_rng
from mpfl.vote import Tally, tally

Work = Callable[[], NDArray[np.uint32] | None]


def votes_table(
    units: int = 10_000_000, ballots: int = 101, repeats: int = 5
) -> list[dict[str, Any]]:
    """Time the ways to count `ballots` random ballots of `units` units on one core.

    Every way gets the same ballots, and takes its turn `repeats` times, so that a busy machine
    disturbs all alike; the fastest turn counts. Time is processor time of this thread.

    Returns
    -------
    list of dict
        A row per way: ``way``; ``kernel``, what does the work; ``seconds``, to accept all
        ballots; ``counts_seconds``, to return the counts afterwards; ``gigabytes_per_second``
        of packed ballots accepted; ``ratio_to_unpack`` and ``ratio_to_memcpy`` of that speed;
        ``bit_planes``, peak memory in planes of units / 8 bytes. Memory copies count nothing
        and have None there.

    Raises
    ------
    InputError
        If the ways do not agree on the counts.
    """
    rng = numpy_rng(0, "bench votes")
    layout = Layout(("all",), (units,))
    packed = [rng.integers(0, 256, (units + 7) // 8, np.uint8) for _ in range(ballots)]
    masks = [_mask(layout, raw) for raw in packed]
    buffers = [np.frombuffer(mask.packed(), np.uint8) for mask in masks]
    copies = [np.ones_like(buffer) for buffer in buffers]
    ways: dict[str, _Way] = {
        "tally": _Counting(layout, masks),
        "unpack and add": _Unpacking(layout, masks),
        "memcpy": _Copying(buffers, copies),
        "memcpy to one place": _Copying(buffers, copies[:1] * ballots),
    }
    best = {name: _Times() for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            best[name].take(way)
    agreed = {times.counts for times in best.values() if times.counts is not None}
    if len(agreed) != 1:
        raise InputError("the ways to count disagree")
    size = sum(buffer.nbytes for buffer in buffers)
    speed = {name: size / times.accept / 1e9 for name, times in best.items()}
    return [
        {
            "way": name,
            "kernel": _kernel(name),
            "seconds": times.accept,
            "counts_seconds": times.finish if times.counts is not None else None,
            "gigabytes_per_second": speed[name],
            "ratio_to_unpack": speed[name] / speed["unpack and add"],
            "ratio_to_memcpy": speed[name] / speed["memcpy"],
            "bit_planes": _peak_bytes(ways[name]) / (units / 8) if times.counts else None,
        }
        for name, times in best.items()
    ]


class _Way:
    """One way to take in all ballots, and then to return their counts (None: it has none)."""

    def accept(self) -> None:
        raise NotImplementedError

    def finish(self) -> NDArray[np.uint32] | None:
        return None


class _Counting(_Way):
    def __init__(self, layout: Layout, masks: list[Mask]) -> None:
        self._layout, self._masks = layout, masks
        self._tally = Tally(layout)

    def accept(self) -> None:
        self._tally = Tally(self._layout)
        for mask in self._masks:
            self._tally.add(mask)

    def finish(self) -> NDArray[np.uint32]:
        return self._tally.counts()


class _Unpacking(_Way):
    """The naive way at its best: the narrowest counters that can hold the sum."""

    def __init__(self, layout: Layout, masks: list[Mask]) -> None:
        self._units, self._masks = layout.total, masks
        self._kind = np.uint8 if len(masks) < 256 else np.uint16
        self._sum: NDArray[Any] = np.zeros(0, self._kind)

    def accept(self) -> None:
        self._sum = np.zeros(self._units, self._kind)
        for mask in self._masks:
            raw = np.frombuffer(memoryview(mask.bits), np.uint8)
            self._sum += np.unpackbits(raw, count=self._units, bitorder="little")

    def finish(self) -> NDArray[np.uint32]:
        return self._sum.astype(np.uint32)


class _Copying(_Way):
    """Ballot by ballot with NumPy's copy, which is memcpy; all pages touched before."""

    def __init__(self, sources: list[NDArray[np.uint8]], copies: list[NDArray[np.uint8]]) -> None:
        self._pairs = list(zip(sources, copies, strict=True))

    def accept(self) -> None:
        for source, copy in self._pairs:
            np.copyto(copy, source)


class _Times:
    """The fastest turn of one way, and a digest of what it counted."""

    def __init__(self) -> None:
        self.accept = self.finish = float("inf")
        self.counts: bytes | None = None

    def take(self, way: _Way) -> None:
        begin = time.thread_time()
        way.accept()
        middle = time.thread_time()
        counts = way.finish()
        self.finish = min(self.finish, time.thread_time() - middle)
        self.accept = min(self.accept, middle - begin)
        self.counts = None if counts is None else counts.tobytes()


def _mask(layout: Layout, raw: NDArray[np.uint8]) -> Mask:
    bools = np.unpackbits(raw, count=layout.total, bitorder="little").view(np.bool_)
    return Mask.from_bools(layout, bools)


def _kernel(way: str) -> str:
    return "compiled" if way == "tally" and tally.COMPILED is not None else "NumPy"


def _peak_bytes(way: _Way) -> int:
    tracemalloc.start()
    way.accept()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
