"""The courier: frames out, frames back, the length of every message beside them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from mpfl.errors import InputError
from mpfl.faults.replies import loss_reason
from mpfl.wire.frame import RECORD
from server.transport.flower import (
    Reply,
    blob_message,
    read_message,
    read_reply,
    serialize,
)
from server.transport.grid import LocalGrid

_POLL_SECONDS = 0.1
_WINDOW = 64  # messages under way at once on a local grid: memory does not grow with clients


@dataclass(frozen=True)
class Delivery:
    """What became of one request.

    Attributes
    ----------
    request_bytes, reply_bytes
        Lengths of the serialized messages.
    reply
        The frame that came back; None if none did.
    reason, error
        Why none did: a word or two for the record, and in full.
    """

    client: int
    request_bytes: int
    reply: bytes | None = None
    reply_bytes: int = 0
    reason: str = "no reply"
    error: str = ""


class Courier:
    """Sends requests to clients (by partition number) over any Flower grid.

    Parameters
    ----------
    timeout
        Seconds a request may take.
    """

    def __init__(self, grid: Grid, clients: int, timeout: float) -> None:
        self._grid, self._timeout = grid, timeout
        self._local = grid if isinstance(grid, LocalGrid) else None
        self.discovery_bytes = 0
        self._nodes = self._discover(clients)

    def deliver(
        self, round_number: int, requests: Iterable[tuple[int, bytes]]
    ) -> Iterator[Delivery]:
        """Yield one delivery for each request, in the order of arrival."""
        source = iter(requests)
        waiting: dict[str, tuple[int, int, float]] = {}
        while True:
            room = _WINDOW - len(waiting) if self._local else None
            for client, frame in islice(source, room):
                message_id, size = self._send(client, frame, round_number)
                waiting[message_id] = client, size, time.monotonic() + self._timeout
            if not waiting:
                return
            for reply in self._collect(waiting):
                client, size, _ = waiting.pop(reply.request_id)
                yield self.receive(client, size, reply)
            yield from self._expire(waiting)
            if waiting and not self._local:
                time.sleep(_POLL_SECONDS)

    def message(self, client: int, frame: bytes, round_number: int) -> Message:
        """Return the message that carries a frame to a client."""
        return blob_message(frame, self._nodes[client], str(round_number))

    @staticmethod
    def receive(client: int, request_bytes: int, reply: Reply) -> Delivery:
        """Return the delivery that a reply completes."""
        if reply.error is not None:
            code, text = reply.error
            reason = loss_reason(code)
            return Delivery(client, request_bytes, reason=reason, error=text or "unknown error")
        if reply.blob is None:
            return Delivery(client, request_bytes, error="the reply carries no frame")
        return Delivery(client, request_bytes, reply.blob, reply.size)

    def _send(self, client: int, frame: bytes, round_number: int) -> tuple[str, int]:
        if self._local:
            return self._local.post(self._nodes[client], frame, str(round_number))
        message = self.message(client, frame, round_number)
        (message_id,) = self._grid.push_messages([message])
        return message_id, len(serialize(message))

    def _collect(self, waiting: Iterable[str]) -> Iterator[Reply]:
        if self._local:
            yield from map(read_reply, self._local.collect())
        else:
            yield from map(read_message, self._grid.pull_messages(list(waiting)))

    def _expire(self, waiting: dict[str, tuple[int, int, float]]) -> Iterator[Delivery]:
        now, overdue = time.monotonic(), []
        for message_id, (_, _, deadline) in waiting.items():  # oldest first
            if deadline > now:
                break
            overdue.append(message_id)
        if overdue and self._local:
            self._local.abandon(overdue)
        for message_id in overdue:
            client, size, _ = waiting.pop(message_id)
            yield Delivery(client, size, error=f"no reply within {self._timeout:g} s")

    def _discover(self, clients: int) -> dict[int, int]:
        """Return partition → node id. Engines other than ours number nodes at random: ask."""
        if self._local:
            return {i: self._local.node_id(i) for i in range(clients)}
        nodes: dict[int, int] = {}
        deadline = time.monotonic() + self._timeout
        while len(nodes) < clients and time.monotonic() < deadline:
            unknown = set(self._grid.get_node_ids()) - set(nodes.values())
            asked = [Message(RecordDict(), node, "query") for node in sorted(unknown)]
            for reply in self._grid.send_and_receive(asked, timeout=self._timeout):
                partition = self._partition(reply, clients)
                if partition < clients:
                    nodes[partition] = reply.metadata.src_node_id
                self.discovery_bytes += len(serialize(reply))
            self.discovery_bytes += sum(len(serialize(message)) for message in asked)
            time.sleep(_POLL_SECONDS)
        if len(nodes) < clients:
            raise InputError(
                f"data.clients: got {clients}, but only {len(nodes)} nodes answered "
                f"within {self._timeout:g} s"
            )
        return nodes

    @staticmethod
    def _partition(reply: Message, clients: int) -> int:
        if reply.has_error():
            raise InputError(f"a node cannot tell its partition: {reply.error.reason}")
        facts = reply.content[RECORD]
        if int(facts["num-partitions"]) < clients:
            raise InputError(
                f"data.clients: got {clients}, but the federation has {facts['num-partitions']} "
                f"nodes; flwr run takes --federation-config 'num-supernodes={clients}'"
            )
        return int(facts["partition-id"])
