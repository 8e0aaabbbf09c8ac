"""Frames to the clients of any Flower grid: a simulation's, or a deployment's."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from mpfl.errors import InputError
from mpfl.wire.frame import RECORD
from server.transport.flower import Reply, blob_message, read_reply, serialize

_POLL_SECONDS = 0.1


class RemoteTransport:
    """Pushes messages and polls for replies.

    Parameters
    ----------
    timeout
        Seconds until as many nodes as clients must have told their partitions.
    """

    window = sys.maxsize

    def __init__(self, grid: Grid, clients: int, timeout: float) -> None:
        self._grid, self._nodes = grid, discover(grid, clients, timeout)

    def send(self, client: int, frame: bytes, round_number: int) -> tuple[str, int]:
        """Push a frame; returns the message's id and the bytes it takes."""
        message = blob_message(frame, self._nodes[client], str(round_number))
        (message_id,) = self._grid.push_messages([message])
        return message_id, len(serialize(message))

    def collect(self, message_ids: Collection[str]) -> Iterable[Reply]:
        """Return those replies to these messages that came; waits a moment if there is none."""
        replies = list(self._grid.pull_messages(list(message_ids)))
        if not replies:
            time.sleep(_POLL_SECONDS)
        return map(read_reply, map(serialize, replies))

    def abandon(self, message_ids: Collection[str]) -> None:
        """Do nothing: a node cannot be told to stop, and nobody pulls its reply."""


def discover(grid: Grid, clients: int, timeout: float) -> dict[int, int]:
    """Ask every node for its partition; returns partition → node id.

    Engines other than ours number nodes at random. These queries are in no ledger.

    Raises
    ------
    InputError
        If there are fewer nodes than clients, or they do not answer within `timeout` seconds.
    """
    nodes: dict[int, int] = {}
    deadline = time.monotonic() + timeout
    while len(nodes) < clients and time.monotonic() < deadline:
        unknown = set(grid.get_node_ids()) - set(nodes.values())
        asked = [Message(RecordDict(), node, "query") for node in sorted(unknown)]
        for reply in grid.send_and_receive(asked, timeout=timeout):
            partition = _partition(reply, clients)
            if partition < clients:
                nodes[partition] = reply.metadata.src_node_id
        time.sleep(_POLL_SECONDS)
    if len(nodes) < clients:
        raise InputError(
            f"data.clients: got {clients}, but only {len(nodes)} nodes answered "
            f"within {timeout:g} s"
        )
    return nodes


def _partition(reply: Message, clients: int) -> int:
    if reply.has_error():
        raise InputError(f"a node cannot tell its partition: {reply.error.reason}")
    facts = reply.content[RECORD]
    partition, nodes = (int(str(facts[key])) for key in ("partition-id", "num-partitions"))
    if nodes < clients:
        raise InputError(
            f"data.clients: got {clients}, but the federation has {nodes} nodes; "
            f"flwr run takes --federation-config 'num-supernodes={clients}'"
        )
    return partition
