"""Mask: one bit per prunable unit, layer after layer, packed; its algebra and its file."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from bitarray import bitarray, frozenbitarray
from bitarray.util import count_and, ones, zeros
from numpy.typing import NDArray

from mpfl.errors import shown

_MAGIC = b"MPFLMASK"
_HEADER = struct.Struct("<8sBII")  # magic, version, length of the JSON, CRC-32 of all the rest
_MOST_LAYERS, _LONGEST_NAME = 65_535, 200


@dataclass(frozen=True)
class Layout:
    """The names and unit counts of the prunable layers, in order.

    Attributes
    ----------
    names
        Layer names.
    units
        Units per layer, same length.
    """

    names: tuple[str, ...]
    units: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units) or len(set(self.names)) != len(self.names):
            raise ValueError("a layout needs one unit count per layer and distinct layer names")
        if any(count < 1 for count in self.units):
            raise ValueError("every layer of a layout needs at least one unit")

    @cached_property
    def total(self) -> int:
        """Units of all layers together (d)."""
        return sum(self.units)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each layer begins, and, last, the total."""
        edges = [0]
        for count in self.units:
            edges.append(edges[-1] + count)
        return tuple(edges)

    def slices(self) -> list[slice]:
        """Return each layer's slice of a vector over all units."""
        edges = self.offsets
        return [slice(a, b) for a, b in pairwise(edges)]

    def split(self, vector: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        """Cut a vector of shape [d] into views, one per layer."""
        if vector.shape != (self.total,):
            raise ValueError(f"expected a vector of {self.total} units, got shape {vector.shape}")
        return [vector[part] for part in self.slices()]


class Mask:
    """An immutable mask over a layout: bit 1 = keep.

    Bits of all layers stand one after another without gaps, little-endian within bytes; the
    padding after the last one is zero.
    """

    __slots__ = ("_bits", "_hash", "layout")

    def __init__(self, layout: Layout, bits: bitarray) -> None:
        if len(bits) != layout.total:
            raise ValueError(f"expected {layout.total} mask bits, got {len(bits)}")
        if bits.endian != "little":
            raise ValueError("mask bits must be little-endian")
        self.layout = layout
        self._bits = frozenbitarray(bits)
        self._hash: int | None = None

    @classmethod
    def full(cls, layout: Layout) -> Mask:
        """Return the mask that keeps everything."""
        return cls(layout, ones(layout.total, endian="little"))

    @classmethod
    def empty(cls, layout: Layout) -> Mask:
        """Return the mask that keeps nothing."""
        return cls(layout, zeros(layout.total, endian="little"))

    @classmethod
    def from_bools(cls, layout: Layout, keep: NDArray[np.bool_]) -> Mask:
        """Pack a boolean vector of shape [d]."""
        if keep.shape != (layout.total,) or keep.dtype != np.bool_:
            raise ValueError(f"expected bool[{layout.total}], got {keep.dtype}{list(keep.shape)}")
        return cls.from_packed(layout, np.packbits(keep, bitorder="little").tobytes())

    @classmethod
    def from_layers(cls, layers: Mapping[str, NDArray[np.bool_]]) -> Mask:
        """Build layout and mask from one boolean vector per layer."""
        layout = Layout(tuple(layers), tuple(int(v.size) for v in layers.values()))
        return cls.from_bools(layout, np.concatenate([v.ravel() for v in layers.values()]))

    @classmethod
    def from_packed(cls, layout: Layout, packed: bytes) -> Mask:
        """Read ⌈d/8⌉ packed bytes. ValueError on a wrong length or non-zero padding."""
        expected = (layout.total + 7) // 8
        if len(packed) != expected:
            raise ValueError(f"expected {expected} mask bytes, got {len(packed)}")
        bits = bitarray(endian="little")
        bits.frombytes(packed)
        if bits[layout.total :].any():
            raise ValueError("padding bits of a mask must be zero")
        del bits[layout.total :]
        return cls(layout, bits)

    @property
    def bits(self) -> frozenbitarray:
        """The bits of all layers, read-only."""
        return self._bits

    def packed(self) -> bytes:
        """Return ⌈d/8⌉ bytes, padding zero."""
        return self._bits.tobytes()

    def bools(self) -> NDArray[np.bool_]:
        """Return a boolean vector of shape [d]."""
        raw = np.frombuffer(self._bits.tobytes(), np.uint8)
        return np.unpackbits(raw, count=self.layout.total, bitorder="little").view(np.bool_)

    def layers(self) -> dict[str, NDArray[np.bool_]]:
        """Return one boolean vector per layer."""
        bools = self.bools()
        return {
            name: bools[part]
            for name, part in zip(self.layout.names, self.layout.slices(), strict=True)
        }

    def count(self) -> int:
        """Return the number of kept units."""
        return self._bits.count()

    def counts(self) -> list[int]:
        """Return the number of kept units of each layer."""
        return [self._bits.count(1, part.start, part.stop) for part in self.layout.slices()]

    def density(self) -> float:
        """Return kept units / units."""
        return self.count() / self.layout.total

    def layer_densities(self) -> dict[str, float]:
        """Return kept units / units of each layer."""
        rows = zip(self.layout.names, self.counts(), self.layout.units, strict=True)
        return {name: kept / units for name, kept, units in rows}

    def jaccard(self, other: Mask) -> float:
        """Return |A ∩ B| / |A ∪ B| (1.0 for two empty masks)."""
        self._check(other)
        both = count_and(self._bits, other._bits)
        either = self.count() + other.count() - both
        return both / either if either else 1.0

    def issubset(self, other: Mask) -> bool:
        """Tell whether every unit kept here is kept in `other`."""
        self._check(other)
        return count_and(self._bits, other._bits) == self.count()

    def __and__(self, other: Mask) -> Mask:
        self._check(other)
        return Mask(self.layout, self._bits & other._bits)

    def __or__(self, other: Mask) -> Mask:
        self._check(other)
        return Mask(self.layout, self._bits | other._bits)

    def __xor__(self, other: Mask) -> Mask:
        self._check(other)
        return Mask(self.layout, self._bits ^ other._bits)

    def __invert__(self) -> Mask:
        return Mask(self.layout, ~self._bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.layout == other.layout and self._bits == other._bits

    def __hash__(self) -> int:
        if self._hash is None:  # asked for again and again by whoever keeps things by mask
            self._hash = hash((self.layout, self.packed()))
        return self._hash

    def __reduce__(self) -> tuple[type[Mask], tuple[Layout, bitarray]]:
        return Mask, (self.layout, self._bits)  # another process hashes differently

    def __repr__(self) -> str:
        return f"Mask({self.count()} of {self.layout.total} units, density {self.density():.4f})"

    def _check(self, other: Mask) -> None:
        if self.layout != other.layout:
            raise ValueError("the two masks have different layouts")

    def digest(self) -> str:
        """Return the SHA-256 of layout and bits, in hexadecimal."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of a ``.mpfl`` mask file; `from_bytes` reads it."""
        table = {"names": self.layout.names, "units": self.layout.units}
        text = json.dumps(table, separators=(",", ":")).encode()
        body = text + self.packed()
        return _HEADER.pack(_MAGIC, 1, len(text), zlib.crc32(body)) + body

    @classmethod
    def from_bytes(cls, blob: bytes) -> Mask:
        """Read what `to_bytes` wrote. ValueError saying what is wrong if it is damaged."""
        if len(blob) < _HEADER.size or blob[:8] != _MAGIC:
            raise ValueError("not a mask file (bad magic)")
        _, version, length, checksum = _HEADER.unpack_from(blob)
        if version != 1:
            raise ValueError(f"mask file version {version} is not supported (expected 1)")
        body = blob[_HEADER.size :]
        if len(body) < length or zlib.crc32(body) != checksum:
            raise ValueError("mask file is truncated or damaged (checksum mismatch)")
        try:
            layout = _layout_of(json.loads(body[:length]))
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"mask file has a bad layer table: {error}") from error
        return cls.from_packed(layout, body[length:])


def _layout_of(table: Any) -> Layout:
    """Return the layout that a mask file names; ValueError for what no network has."""
    names, units = table["names"], table["units"]
    if not isinstance(names, list) or not isinstance(units, list):
        raise ValueError("names and units must be lists")
    if not 0 < len(names) <= _MOST_LAYERS:
        raise ValueError(f"{len(names):,} layers, expected 1 to {_MOST_LAYERS:,}")
    for name in names:
        if not isinstance(name, str) or not name.isprintable() or len(name) > _LONGEST_NAME:
            raise ValueError(f"a layer {shown(name)}, expected {_LONGEST_NAME} printable letters")
    if not all(type(count) is int for count in units):
        raise ValueError("units must be whole numbers")
    return Layout(tuple(names), tuple(units))
