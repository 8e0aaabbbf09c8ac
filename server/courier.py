"""The courier: frames out, frames back, the length of every message beside them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from mpfl.faults import loss_reason
from server.flower import serialize
from server.grid import LocalGrid

_RECORD = _BLOB = "m"
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
        self.discovery_bytes = 0
        self._nodes = self._discover(clients)

    def deliver(
        self, round_number: int, requests: Iterable[tuple[int, bytes]]
    ) -> Iterator[Delivery]:
        """Yield one delivery for each request, in the order of arrival."""
        source = iter(requests)
        local = isinstance(self._grid, LocalGrid)
        waiting: dict[str, tuple[int, int, float]] = {}
        while True:
            room = _WINDOW - len(waiting) if local else None
            for client, frame in islice(source, room):
                message_id, size = self._push(client, frame, round_number)
                waiting[message_id] = client, size, time.monotonic() + self._timeout
            if not waiting:
                return
            for reply in self._grid.pull_messages(list(waiting)):
                client, size, _ = waiting.pop(reply.metadata.reply_to_message_id)
                yield self.receive(client, size, reply)
            yield from self._expire(waiting)
            if waiting and not local:
                time.sleep(_POLL_SECONDS)

    def _push(self, client: int, frame: bytes, round_number: int) -> tuple[str, int]:
        message = self.message(client, frame, round_number)
        (message_id,) = self._grid.push_messages([message])
        return message_id, self.size(message)

    def message(self, client: int, frame: bytes, round_number: int) -> Message:
        """Return the message that carries a frame to a client."""
        content = RecordDict({_RECORD: ConfigRecord({_BLOB: frame})})
        return Message(content, self._nodes[client], "train", group_id=str(round_number))

    def size(self, message: Message) -> int:
        """Return the length of a message that was pushed or pulled, serialized."""
        if isinstance(self._grid, LocalGrid):
            return self._grid.message_sizes.pop(message.metadata.message_id)
        return len(serialize(message))

    def receive(self, client: int, request_bytes: int, reply: Message) -> Delivery:
        """Return the delivery that a reply completes."""
        size = self.size(reply)
        if reply.has_error():
            text = reply.error.reason or "unknown error"
            reason = loss_reason(reply.error.code)
            return Delivery(client, request_bytes, reason=reason, error=text)
        try:
            frame = reply.content[_RECORD][_BLOB]
        except KeyError:
            frame = None
        if not isinstance(frame, bytes):
            return Delivery(client, request_bytes, error="the reply carries no frame")
        return Delivery(client, request_bytes, frame, size)

    def _expire(self, waiting: dict[str, tuple[int, int, float]]) -> Iterator[Delivery]:
        now = time.monotonic()
        overdue = [i for i, (_, _, deadline) in waiting.items() if deadline < now]
        if overdue and isinstance(self._grid, LocalGrid):
            self._grid.abandon(overdue)
        for message_id in overdue:
            client, size, _ = waiting.pop(message_id)
            yield Delivery(client, size, error=f"no reply within {self._timeout:g} s")

    def _discover(self, clients: int) -> dict[int, int]:
        """Return partition → node id. Engines other than ours number nodes at random: ask."""
        if isinstance(self._grid, LocalGrid):
            return {i: self._grid.node_id(i) for i in range(clients)}
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
            raise ValueError(
                f"data.clients: got {clients}, but only {len(nodes)} nodes answered "
                f"within {self._timeout:g} s"
            )
        return nodes

    @staticmethod
    def _partition(reply: Message, clients: int) -> int:
        if reply.has_error():
            raise ValueError(f"a node cannot tell its partition: {reply.error.reason}")
        facts = reply.content[_RECORD]
        if int(facts["num-partitions"]) < clients:
            raise ValueError(
                f"data.clients: got {clients}, but the federation has {facts['num-partitions']} "
                f"nodes; flwr run takes --federation-config 'num-supernodes={clients}'"
            )
        return int(facts["partition-id"])
