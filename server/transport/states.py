"""Client states as bytes, each content held once however many clients have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np


class StateStore(MutableMapping[int, bytes]):
    """Node id → state. Clients that saw the same rounds hold equal bytes: these are shared."""

    def __init__(self) -> None:
        self._states: dict[int, bytes] = {}
        self._users: dict[bytes, list[Any]] = {}  # content → [the one object, number of nodes]

    def __getitem__(self, node: int) -> bytes:
        return self._states[node]

    def __setitem__(self, node: int, state: bytes) -> None:
        entry = self._users.setdefault(state, [state, 0])
        entry[1] += 1
        self._release(self._states.get(node))
        self._states[node] = entry[0]

    def __delitem__(self, node: int) -> None:
        self._release(self._states.pop(node))

    def __iter__(self) -> Iterator[int]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)

    @property
    def distinct(self) -> int:
        """Different contents held."""
        return len(self._users)

    def _release(self, state: bytes | None) -> None:
        if state is None:
            return
        entry = self._users[state]
        entry[1] -= 1
        if not entry[1]:
            del self._users[state]

    def arrays(self) -> dict[str, Any]:
        """Return what `restore` needs: every content once, and who holds which."""
        number = {state: i for i, state in enumerate(self._users)}
        pairs = [(node, number[state]) for node, state in sorted(self._states.items())]
        return {
            "holders": np.array(pairs, np.int64).reshape(-1, 2),
            "contents": {str(i): np.frombuffer(s, np.uint8) for s, i in number.items()},
        }

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Take over what `arrays` returned."""
        contents = {int(i): raw.tobytes() for i, raw in arrays.get("contents", {}).items()}
        for node, number in arrays.get("holders", []):
            self[int(node)] = contents[int(number)]
