"""What was made last, kept for whoever asks next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values by key; those asked for longest ago are forgotten.

    Clients of a round ask for the same things one after another: the start under a mask, a
    decoded message. Values are shared, so nobody may write to them.

    Parameters
    ----------
    most
        How much is kept.
    size
        How much a value counts; by default each counts 1.
    """

    def __init__(self, most: int, size: Callable[[Value], int] = lambda value: 1) -> None:
        self._most, self._size = most, size
        self._values: OrderedDict[Key, Value] = OrderedDict()

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made now if it is not there."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        value = self._values[key]
        while sum(map(self._size, self._values.values())) > self._most:
            self._values.popitem(last=False)
        return value


@dataclass(frozen=True, eq=False)
class Fixed:
    """A vector to look up by: a read-only one by what it is, any other by its content.

    What all clients of a round need again is so found without reading millions of entries.

    Attributes
    ----------
    vector
        Read-only.
    key
        What equal ones have in common.
    """

    vector: NDArray[Any]
    key: Hashable

    @classmethod
    def of(cls, vector: NDArray[Any]) -> Fixed:
        """Return the vector itself if nobody can write to it, else a copy."""
        if vector.flags.writeable or vector.base is not None:
            content = vector.tobytes()
            same = np.frombuffer(content, vector.dtype).reshape(vector.shape)
            return cls(same, (vector.shape, vector.dtype.str, content))
        return cls(vector, id(vector))  # which is nobody else's while this is kept

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.key == other.key
