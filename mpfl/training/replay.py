"""Steps of training that a GPU replays: recorded once as a CUDA graph, then one launch each.

Small networks keep a GPU waiting for the processor, which has hundreds of kernels to launch a step.
A replay runs the same kernels on the same memory, so that results are what they were.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import Any

import torch
from torch import Tensor

Step = Callable[..., Tensor]

_WAITING, _PROTOTYPE = "called a synchronizing CUDA", "Synchronization debug mode is a prototype"

WARM = 2
"""Calls with tensors of one shape, one after another, before they are recorded."""


@contextmanager
def side_stream(device: torch.device) -> Iterator[None]:
    """Do the work inside on a stream of its own, as recording asks for; on a processor just do it.

    Whoever comes after waits for it.
    """
    if device.type != "cuda":
        yield
        return
    around = torch.cuda.current_stream(device)
    inside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    inside.wait_stream(around)
    try:
        with torch.cuda.stream(inside):
            yield
    finally:
        around.wait_stream(inside)


class Replayed:
    """A step that is recorded once its arguments keep their shapes, and replayed from then on.

    Parameters
    ----------
    step
        Computes on its arguments, all tensors of one GPU, and on tensors that stay where they are,
        never on numbers that change between calls. What it returns is overwritten by the next call.
        One that waits for the GPU is never recorded: what it does may hang on what it has found.
    place
        Steps that may run at the same time need different ones.
    """

    def __init__(self, step: Step, place: int = 0) -> None:
        self._step, self._place = step, place
        self._inputs: tuple[Tensor, ...] = ()
        self._recorded: object = None
        self._last: object = None
        self._seen = count(1)
        self._waits = False

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Take the step; returns what it returns."""
        shape = tuple((part.shape, part.stride(), part.dtype) for part in inputs)
        if shape != self._last:
            self._last, self._seen = shape, count(1)
        if shape != self._recorded:
            calls = next(self._seen)
            if self._waits or calls < WARM:
                return self._step(*inputs)
            if calls == WARM:
                return self._watched(inputs)
            self._record(inputs)
        for place, part in zip(self._inputs, inputs, strict=True):
            place.copy_(part)
        self._graph.replay()
        return self._output

    def _watched(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Take the step, and see whether it waits for the GPU."""
        usual = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                output = self._step(*inputs)
            finally:
                torch.cuda.set_sync_debug_mode(usual)
        for one in told:
            if _WAITING in str(one.message):
                self._waits = True
            elif _PROTOTYPE not in str(one.message):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
        return output

    def _record(self, inputs: tuple[Tensor, ...]) -> None:
        """Record the step for inputs like these, in place of what was."""
        self._recorded = None
        self._inputs = tuple(torch.empty_like(part).copy_(part) for part in inputs)
        graph = torch.cuda.CUDAGraph()
        torch.cuda.current_stream().synchronize()
        graph.capture_begin(_pool(self._place), capture_error_mode="thread_local")
        try:
            self._output = self._step(*self._inputs)
        finally:
            graph.capture_end()
        self._graph, self._recorded = graph, self._last


@cache
def _pool(place: int) -> Any:
    """Return memory that the recordings of a place share, one after another.

    It is given back when nothing recorded is left in it, and something always is: a recording for
    every client would otherwise take memory of its own.
    """
    pool = torch.cuda.graph_pool_handle()
    graph = torch.cuda.CUDAGraph()
    graph.capture_begin(pool, capture_error_mode="thread_local")
    _held.append((graph, torch.zeros(1, device="cuda")))
    graph.capture_end()
    return pool


_held: list[object] = []
