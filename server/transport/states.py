"""Client states as bytes, each piece of content held once however many clients have it."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field

PIECE = 1 << 14
"""Bytes that are shared together: what clients hold alike stands at the same place in each."""


@dataclass(frozen=True)
class Holdings:
    """What a checkpoint keeps: every piece once, how many each node holds, and which, in order."""

    pieces: list[bytes] = field(default_factory=list)
    counts: dict[int, int] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)


class StateStore(MutableMapping[int, bytes]):
    """Node id → state. Masks and models that clients hold alike are held once."""

    def __init__(self) -> None:
        self._held: dict[int, tuple[bytes, ...]] = {}
        self._pieces: dict[bytes, tuple[bytes, list[int]]] = {}  # → the one object, its uses

    def __getitem__(self, node: int) -> bytes:
        return b"".join(self._held[node])

    def __iter__(self) -> Iterator[int]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    @property
    def size(self) -> int:
        """Bytes of all pieces, each counted once."""
        return sum(map(len, self._pieces))

    def __setitem__(self, node: int, state: bytes) -> None:
        pieces = (state[i : i + PIECE] for i in range(0, max(len(state), 1), PIECE))
        self._hold(node, tuple(pieces))

    def _hold(self, node: int, pieces: tuple[bytes, ...]) -> None:
        found = [self._pieces.setdefault(piece, (piece, [0])) for piece in pieces]
        for _, uses in found:
            uses[0] += 1
        self._release(self._held.get(node, ()))
        self._held[node] = tuple(piece for piece, _ in found)

    def __delitem__(self, node: int) -> None:
        self._release(self._held.pop(node))

    def _release(self, pieces: tuple[bytes, ...]) -> None:
        for piece in pieces:
            _, uses = self._pieces[piece]
            uses[0] -= 1
            if not uses[0]:
                del self._pieces[piece]

    def holdings(self) -> Holdings:
        """Return what `restore` needs."""
        place = {piece: i for i, piece in enumerate(self._pieces)}
        counts = {node: len(pieces) for node, pieces in sorted(self._held.items())}
        places = [place[piece] for node in counts for piece in self._held[node]]
        return Holdings(list(place), counts, places)

    def restore(self, holdings: Holdings) -> None:
        """Take over what `holdings` returned."""
        places = iter(holdings.places)
        for node, count in holdings.counts.items():
            self._hold(node, tuple(holdings.pieces[next(places)] for _ in range(count)))
