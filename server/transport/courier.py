"""The courier: frames out, frames back, the length of every message beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Protocol

from flwr.serverapp import Grid

from mpfl.faults.replies import CLIENT_CRASHED, CLIENT_ERROR, LOSSES, NO_REPLY, NODE_GONE
from mpfl.wire.discovery import Fingerprint
from server.transport.flower import CRASHED, GONE, UNAVAILABLE, Reply
from server.transport.grid import LocalGrid
from server.transport.local import LocalTransport
from server.transport.remote import RemoteTransport


@dataclass(frozen=True)
class Delivery:
    """What became of one request.

    Attributes
    ----------
    request_bytes, reply_bytes
        Lengths of the serialized messages; 0 for a request that no node was there to take.
    reply
        The frame that came back; None if none did.
    reason, error
        Why none did: a word or two for the record; in one line, a traceback may follow.
    """

    client: int
    request_bytes: int
    reply: bytes | None = None
    reply_bytes: int = 0
    reason: str = NO_REPLY
    error: str = NO_REPLY


def delivery(client: int, request_bytes: int, reply: Reply) -> Delivery:
    """Return the delivery that a reply completes."""
    if reply.error is not None:
        code, text = reply.error
        return Delivery(client, request_bytes, reason=reason_of(code), error=text or f"code {code}")
    if reply.blob is None:
        error = "the reply carries no frame"
        return Delivery(client, request_bytes, reason=CLIENT_ERROR, error=error)
    return Delivery(client, request_bytes, reply.blob, reply.size)


def reason_of(code: int) -> str:
    """Return what the record calls the code of an error reply, whatever engine it is from."""
    if code in CRASHED:
        return CLIENT_CRASHED
    if code == GONE:
        return NODE_GONE
    if code in UNAVAILABLE:
        return NO_REPLY
    return dict(LOSSES.values()).get(code, CLIENT_ERROR)


class Transport(Protocol):
    """How frames travel to clients, which are known by partition number, and back.

    Attributes
    ----------
    window
        Messages that may be under way at once.
    """

    window: int

    def begin(self) -> None:
        """Get ready for the requests of a round."""

    def send(self, client: int, frame: bytes, round_number: int) -> tuple[str, int]:
        """Send a frame; returns the message's id and the bytes it takes."""

    def collect(self, message_ids: Collection[str]) -> Iterable[Reply]:
        """Return those replies to these messages that came; waits briefly if there is none."""

    def abandon(self, message_ids: Collection[str]) -> None:
        """Give up on messages: nobody will collect the replies."""


@dataclass(frozen=True)
class _Sent:
    """A request that waits for its reply."""

    client: int
    size: int
    deadline: float


class Courier:
    """Sends requests to clients (by partition number) over any Flower grid.

    Parameters
    ----------
    timeout
        Seconds a request may take.
    fingerprint
        Makes what clients on other machines must have derived, too.
    """

    def __init__(
        self, grid: Grid, clients: int, timeout: float, fingerprint: Callable[[], Fingerprint]
    ) -> None:
        self._timeout = timeout
        self._transport: Transport = (
            LocalTransport(grid)
            if isinstance(grid, LocalGrid)
            else RemoteTransport(grid, clients, timeout, fingerprint())
        )

    def deliver(
        self, round_number: int, requests: Iterable[tuple[int, bytes]]
    ) -> Iterator[Delivery]:
        """Yield one delivery for each request, in the order of arrival."""
        source, transport = iter(requests), self._transport
        waiting: dict[str, _Sent] = {}
        transport.begin()
        while True:
            for client, frame in islice(source, transport.window - len(waiting)):
                message_id, size = transport.send(client, frame, round_number)
                waiting[message_id] = _Sent(client, size, time.monotonic() + self._timeout)
            if not waiting:
                return
            replies = {reply.request_id: reply for reply in transport.collect(waiting)}
            overdue = _overdue(waiting)
            if overdue:
                transport.abandon(overdue)
            for message_id in dict.fromkeys([*overdue, *replies]):
                sent = waiting.pop(message_id)
                if message_id in overdue:
                    error = f"no reply within {self._timeout:g} s"
                    yield Delivery(sent.client, sent.size, error=error)
                else:
                    yield delivery(sent.client, sent.size, replies[message_id])


def _overdue(waiting: dict[str, _Sent]) -> list[str]:
    """Return the messages whose deadline has passed; a reply that comes now comes too late."""
    now = time.monotonic()
    return list(takewhile(lambda message: waiting[message].deadline <= now, waiting))
