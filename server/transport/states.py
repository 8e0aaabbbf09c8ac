"""Client states as bytes, each content held once however many clients have it."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Holdings:
    """What a checkpoint keeps: every content once, and which of them each node holds."""

    contents: list[bytes] = field(default_factory=list)
    holders: dict[int, int] = field(default_factory=dict)


class StateStore(UserDict[int, bytes]):
    """Node id → state. Clients that saw the same rounds hold equal bytes: these are shared."""

    def __init__(self) -> None:
        super().__init__()
        self._users: dict[bytes, list[Any]] = {}  # content → [the one object, number of nodes]

    def __setitem__(self, node: int, state: bytes) -> None:
        entry = self._users.setdefault(state, [state, 0])
        entry[1] += 1
        self._release(self.data.get(node))
        self.data[node] = entry[0]

    def __delitem__(self, node: int) -> None:
        self._release(self.data.pop(node))

    def _release(self, state: bytes | None) -> None:
        if state is None:
            return
        entry = self._users[state]
        entry[1] -= 1
        if not entry[1]:
            del self._users[state]

    def holdings(self) -> Holdings:
        """Return what `restore` needs."""
        place = {state: i for i, state in enumerate(self._users)}
        return Holdings(list(place), {node: place[state] for node, state in self.items()})

    def restore(self, holdings: Holdings) -> None:
        """Take over what `holdings` returned."""
        for node, place in holdings.holders.items():
            self[node] = holdings.contents[place]
