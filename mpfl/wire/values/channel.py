"""How weights are written one way: a codec, what it needs to know, and what it has lost so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mpfl.network.footprint import Footprint
from mpfl.recent import Fixed, Recent
from mpfl.wire.values.base import ValueContext
from mpfl.wire.values.codecs import (
    decode_values,
    encode_values,
    formula_bits,
    value_codec,
    values_bound_bytes,
)
from mpfl.wire.values.contexts import movement_classes
from mpfl.wire.values.grid import GridCodec

Floats = NDArray[np.float32]


@dataclass
class Memory:
    """What a sender keeps from one message to its next.

    Attributes
    ----------
    residual
        float32[n]: what its updates have lost so far.
    previous
        Its last payload, from which some codecs go on.
    """

    residual: Floats | None = None
    previous: bytes | None = None

    def refit(self, before: Footprint, after: Footprint) -> None:
        """Follow a new mask: what entries that go have lost is forgotten."""
        self.previous = None
        if self.residual is not None:
            self.residual = refitted(self.residual, before, after)


def refitted(values: Floats, before: Footprint, after: Footprint) -> Floats:
    """Return the values of one footprint on another; zero where they are new."""
    full = np.zeros(before.keep.size, np.float32)
    full[before.keep] = values
    return full[after.keep]


@dataclass(frozen=True)
class Channel:
    """How the values of one footprint are written, on both of its ends.

    An absolute codec writes the values, a relative one the difference to a reference that both
    ends hold: float32[n], what the receiver has.

    Attributes
    ----------
    codec
        As in `mpfl.wire.values`.
    footprint
        What travels, n values.
    feedback
        Whether what the codec loses is added to the next difference, where it needs that.
    start
        float32[P + B], what training under the footprint's mask starts from: differences are coded
        in classes by how far rows and columns of the reference have moved from there
        (`movement_classes`). None: in one class.
    classes
        Those of the last references: all clients of a round write against the same one.
    """

    codec: str
    footprint: Footprint
    feedback: bool = True
    start: Floats | None = None
    classes: Recent[tuple[Fixed, Fixed, bytes], NDArray[np.uint8]] = field(
        default_factory=lambda: Recent(1), repr=False, compare=False
    )

    @property
    def relative(self) -> bool:
        """Whether the codec writes differences."""
        return value_codec(self.codec).relative

    @property
    def grid(self) -> GridCodec | None:
        """The codec, if what several messages change can be said in one, exactly."""
        codec = value_codec(self.codec)
        return codec if isinstance(codec, GridCodec) else None

    @property
    def formula_bytes(self) -> float:
        """What a paper would say that the values cost: nominal bits, nothing coded."""
        context = ValueContext(shapes=self.footprint.shapes)
        return formula_bits(self.codec, self.footprint.segments, context=context) / 8

    def write(
        self,
        target: Floats,
        reference: Floats,
        rng: np.random.Generator,
        memory: Memory | None = None,
        progress: float = 0.0,
    ) -> bytes:
        """Return what leads a receiver that holds `reference` to (about) `target`.

        Parameters
        ----------
        memory
            The sender's, brought up to date; None where nothing is to be remembered.
        progress
            Share of the rounds of training that is over, for codecs that follow it.
        """
        memory = Memory() if memory is None else memory
        owes = self.feedback and value_codec(self.codec).feedback
        values = target - reference if self.relative else target
        if owes and memory.residual is not None:
            values = values + memory.residual
        context = self.context(reference, memory.previous or b"", progress)
        segments = self.footprint.segments
        payload = encode_values(values, self.codec, segments, rng, context=context)
        if owes:
            memory.residual = values - self.read(payload, reference)
            memory.previous = payload
        return payload

    def read(self, payload: bytes, reference: Floats) -> Floats:
        """Return the values of a payload, or their differences to `reference`; WireError if bad."""
        context = self.context(reference)
        return decode_values(payload, self.codec, self.footprint.segments, context=context)

    def arrived(self, payload: bytes, reference: Floats) -> Floats:
        """Return what a receiver that held `reference` holds after a payload; WireError if bad."""
        values = self.read(payload, reference)
        return reference + values if self.relative else values

    def bound(self, payload: bytes, reference: Floats) -> float:
        """Return the entropy bound of a legal payload in bytes."""
        context = self.context(reference)
        return values_bound_bytes(payload, self.codec, self.footprint.segments, context=context)

    def context(
        self, reference: Floats, previous: bytes = b"", progress: float = 0.0
    ) -> ValueContext:
        """Return what both ends know where differences to `reference` are written."""
        classes, start = None, self.start
        if start is not None and self.relative:
            kept = np.packbits(self.footprint.keep).tobytes()
            key = Fixed.of(reference), Fixed.of(start), kept
            classes = self.classes.get(key, lambda: self._movement(reference, start))
        return ValueContext(classes, self.footprint.shapes, previous, progress)

    def _movement(self, reference: Floats, start: Floats) -> NDArray[np.uint8]:
        keep = self.footprint.keep
        moved = np.zeros_like(start)
        moved[keep] = reference - start[keep]
        return movement_classes(moved, keep, self.footprint.tensors)[keep]
