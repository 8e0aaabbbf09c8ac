"""Frames to the clients of this machine's own grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from server.transport.flower import Reply, read_reply
from server.transport.grid import LocalGrid

_WINDOW = 64  # memory does not grow with clients


class LocalTransport:
    """Hands frames to a local grid as bytes, without making messages.

    Where clients run in this process, only those are sent for that run at once: a client's
    time must not be counted against those that wait for it.
    """

    def __init__(self, grid: LocalGrid) -> None:
        self._grid = grid
        self.window = _WINDOW if grid.workers else grid.together

    def begin(self) -> None:
        """Do nothing: all nodes are there."""

    def send(self, client: int, frame: bytes, round_number: int) -> tuple[str, int]:
        """Queue a frame; returns the message's id and the bytes it takes."""
        return self._grid.post(self._grid.node_id(client), frame, str(round_number))

    def collect(self, message_ids: Collection[str]) -> Iterable[Reply]:
        """Return all replies that came; waits briefly if there is none."""
        return map(read_reply, self._grid.collect())

    def abandon(self, message_ids: Collection[str]) -> None:
        """Give up on messages; a worker that is busy with one is replaced."""
        self._grid.abandon(message_ids)
