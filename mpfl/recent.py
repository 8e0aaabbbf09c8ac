"""What was made last, kept for whoever asks next."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

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
