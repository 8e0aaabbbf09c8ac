"""Frames to the clients of any Flower grid: a simulation's, or a deployment's."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Iterator

from flwr.serverapp import Grid

from mpfl.wire.discovery import Fingerprint
from server.transport.directory import Directory
from server.transport.flower import GONE, Reply, blob_message, read_reply, serialize

_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.0


class RemoteTransport:
    """Pushes messages and polls for replies.

    Parameters
    ----------
    timeout
        Seconds until every client must have a node; and, later, any.
    fingerprint
        What nodes must have derived, too.
    """

    window = sys.maxsize

    def __init__(self, grid: Grid, clients: int, timeout: float, fingerprint: Fingerprint) -> None:
        self._grid, self._timeout = grid, timeout
        self._directory = Directory(grid, clients, fingerprint)
        self._directory.wait_for_all(timeout)
        self._nodes: dict[str, int] = {}
        self._unsent: dict[str, str] = {}
        self._looked = time.monotonic()

    def begin(self) -> None:
        """See which nodes are there; waits while there is none at all."""
        self._directory.wait_for_one(self._timeout)

    def send(self, client: int, frame: bytes, round_number: int) -> tuple[str, int]:
        """Push a frame; returns the message's id and the bytes it takes: none without a node."""
        node = self._directory.node(client)
        if node is None:
            return self._not_sent(f"no node holds partition {client}", client), 0
        message = blob_message(frame, node, str(round_number))
        message_id, *_ = [*self._grid.push_messages([message]), ""]
        if not message_id:
            return self._not_sent(f"node {node} takes no message", client), 0
        self._nodes[message_id] = node
        return message_id, len(serialize(message))

    def collect(self, message_ids: Collection[str]) -> Iterable[Reply]:
        """Return those replies to these messages that came; waits a moment if there is none."""
        replies = {reply.request_id: reply for reply in self._unsent_or_gone(message_ids)}
        sent = [i for i in message_ids if i in self._nodes]
        if sent:
            came = map(read_reply, map(serialize, self._grid.pull_messages(sent)))
            replies |= {reply.request_id: reply for reply in came}
        for message_id in replies:
            self._nodes.pop(message_id, None)
        if not replies:
            time.sleep(_POLL_SECONDS)
        return replies.values()

    def abandon(self, message_ids: Collection[str]) -> None:
        """Forget the messages: a node cannot be told to stop, and nobody pulls its reply."""
        for message_id in message_ids:
            self._nodes.pop(message_id, None)

    def _not_sent(self, why: str, client: int) -> str:
        message_id = f"unsent {client}"
        self._unsent[message_id] = why
        return message_id

    def _unsent_or_gone(self, message_ids: Collection[str]) -> Iterator[Reply]:
        """Yield error replies to messages that no node can answer."""
        for message_id in self._unsent.keys() & set(message_ids):
            yield Reply(message_id, 0, error=(GONE, self._unsent.pop(message_id)))
        if time.monotonic() >= self._looked + _LOOK_SECONDS:
            self._directory.look()
            self._looked = time.monotonic()
            for message_id in self._nodes.keys() & set(message_ids):
                node = self._nodes[message_id]
                if not self._directory.is_present(node):
                    yield Reply(message_id, 0, error=(GONE, f"node {node} is gone"))
