"""The courier: what becomes of a request, over this machine's grid and over any other."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from mpfl.errors import InputError
from mpfl.faults.replies import CLIENT_CRASHED, CLIENT_ERROR, LOSSES, NO_REPLY, NODE_GONE
from mpfl.wire.discovery import Fingerprint, Introduction
from server.transport.courier import Courier, Delivery, reason_of
from server.transport.grid import LocalGrid
from tests.grids import BareGrid

app = ClientApp()
TIMEOUT, SLOW = 4, 5
"""Seconds: the others must answer within the first, on however busy a machine."""
FINGERPRINT = Fingerprint(*[bytes(8)] * 4)


@app.train()
def train(message: Message, context: Context) -> Message:
    blob, partition = message.content["m"]["m"], context.node_config["partition-id"]
    match blob, partition:
        case b"raise", 1:
            raise ValueError("no such luck\nand no explanation")
        case b"leave", 1:
            sys.exit(0)
        case b"exit", 1:
            os._exit(1)
        case b"sleep", 1:
            time.sleep(SLOW)
        case b"empty", 1:
            return Message(RecordDict(), reply_to=message)
        case b"lose", 1:
            return Message(Error(*LOSSES["straggle"]), reply_to=message)
    answer = blob + f" {partition}".encode()
    return Message(RecordDict({"m": ConfigRecord({"m": answer})}), reply_to=message)


@app.query()
def query(message: Message, context: Context) -> Message:
    keys = ("partition-id", "num-partitions")
    partition, partitions = (int(context.node_config[key]) for key in keys)
    facts = Introduction(partition, partitions, FINGERPRINT).facts()
    return Message(RecordDict({"m": ConfigRecord(dict(facts))}), reply_to=message)


class Foreign(BareGrid):
    """A grid that nothing is known about: a local one behind Flower's own interface."""

    def __init__(self, grid: LocalGrid) -> None:
        self._grid = grid
        self.messages: Counter[str] = Counter()

    def get_node_ids(self) -> Iterable[int]:
        return reversed(self._grid.get_node_ids())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        self.messages.update(message.metadata.message_type for message in messages)
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        messages = list(messages)
        self.messages.update(message.metadata.message_type for message in messages)
        return self._grid.send_and_receive(messages, timeout=timeout)


@pytest.fixture(params=["0 workers", "2 workers", "foreign"])
def grid(request: pytest.FixtureRequest) -> Iterator[Grid]:
    workers = 0 if request.param == "0 workers" else 2
    with LocalGrid(app, 4, {}, workers) as local:
        yield Foreign(local) if request.param == "foreign" else local


def delivered(grid: Grid, word: bytes, timeout: float = 60) -> dict[int, Delivery]:
    courier = Courier(grid, 4, timeout, lambda: FINGERPRINT)
    found = list(courier.deliver(1, [(client, word) for client in range(4)]))
    assert len(found) == 4
    return {delivery.client: delivery for delivery in found}


def test_every_client_is_asked_and_answers(grid: Grid) -> None:
    for client, delivery in delivered(grid, b"hello").items():
        assert delivery.reply == f"hello {client}".encode()
        assert delivery.request_bytes > len(b"hello")
        assert delivery.reply_bytes > delivery.request_bytes


def test_all_engines_count_the_same_bytes_for_the_same_frames() -> None:
    with LocalGrid(app, 4, {}, 0) as grid:
        local, foreign = delivered(grid, b"hello"), delivered(Foreign(grid), b"hello")
        assert local == foreign


@pytest.mark.parametrize(
    ("word", "reason", "error"),
    [
        (b"raise", CLIENT_ERROR, "ValueError: no such luck"),
        (b"leave", CLIENT_ERROR, "SystemExit: 0"),
        (b"empty", CLIENT_ERROR, "the reply carries no frame"),
        (b"lose", "after the deadline", "after the deadline"),
    ],
)
def test_a_client_that_fails_costs_its_own_reply_and_says_why(
    grid: Grid, word: bytes, reason: str, error: str
) -> None:
    deliveries = delivered(grid, word)
    failed = deliveries.pop(1)
    assert (failed.reply, failed.reason) == (None, reason)
    assert failed.error.splitlines()[0] == error
    assert ("Traceback" in failed.error) == (word in {b"raise", b"leave"})
    assert all(delivery.reply for delivery in deliveries.values())


def test_a_client_that_is_slower_than_the_timeout_has_not_replied(grid: Grid) -> None:
    failed = delivered(grid, b"sleep", timeout=TIMEOUT)[1]
    assert (failed.reply, failed.reason) == (None, NO_REPLY)
    assert failed.error == "no reply within 4 s"


def test_a_slow_client_in_this_process_takes_no_time_from_the_others() -> None:
    with LocalGrid(app, 4, {}, 0) as grid:
        deliveries = delivered(grid, b"sleep", timeout=TIMEOUT)
    assert [client for client, delivery in deliveries.items() if not delivery.reply] == [1]


@pytest.mark.parametrize("foreign", [False, True])
def test_a_client_that_kills_its_process_has_crashed(foreign: bool) -> None:
    with LocalGrid(app, 4, {}, 2) as grid:
        deliveries = delivered(Foreign(grid) if foreign else grid, b"exit")
    failed = deliveries.pop(1)
    assert (failed.reply, failed.reason) == (None, CLIENT_CRASHED)
    assert failed.error == "its worker process died 3 times, the last time with exit status 1"
    assert all(delivery.reply for delivery in deliveries.values())


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (ErrorCode.UNKNOWN, CLIENT_CRASHED),
        (ErrorCode.LOAD_CLIENT_APP_EXCEPTION, CLIENT_ERROR),
        (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, CLIENT_ERROR),
        (ErrorCode.MESSAGE_UNAVAILABLE, NO_REPLY),
        (ErrorCode.REPLY_MESSAGE_UNAVAILABLE, NO_REPLY),
        (ErrorCode.NODE_UNAVAILABLE, NODE_GONE),
        (ErrorCode.MOD_FAILED_PRECONDITION, CLIENT_ERROR),
        (ErrorCode.INVALID_FAB, CLIENT_ERROR),
        (8, CLIENT_CRASHED),  # CLIENT_APP_CRASHED, which older versions have not
        *LOSSES.values(),
    ],
)
def test_error_codes_of_every_engine_have_a_reason(code: int, reason: str) -> None:
    assert reason_of(code) == reason


def test_a_foreign_grid_is_asked_who_is_who_and_a_local_one_is_not() -> None:
    with LocalGrid(app, 4, {}, 0) as grid:
        foreign = Foreign(grid)
        delivered(foreign, b"hello")
        assert foreign.messages == {"query": 4, "train": 4}


def test_too_few_nodes_are_refused_with_the_way_to_more() -> None:
    with (
        LocalGrid(app, 4, {}, 0) as grid,
        pytest.raises(InputError, match=r"got 5, but .* num-partitions: got 4, .*supernodes=5"),
    ):
        Courier(Foreign(grid), 5, 0.5, lambda: FINGERPRINT)


def test_a_local_grid_holds_at_most_a_window_of_requests() -> None:
    made: list[int] = []

    def requests() -> Iterator[tuple[int, bytes]]:
        for client in range(200):
            made.append(client)
            yield client, b"hello"

    with LocalGrid(app, 200, {}, 2) as grid:
        courier = Courier(grid, 200, 60, lambda: FINGERPRINT)
        for answered, _ in enumerate(courier.deliver(1, requests())):
            assert len(made) <= answered + 64
    assert len(made) == 200
