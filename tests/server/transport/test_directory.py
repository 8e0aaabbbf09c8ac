"""Who holds which partition: nodes that lie, err, leave and return, on a grid that is scripted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NoReturn

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, RecordDict

from mpfl.errors import InputError
from mpfl.faults.replies import NODE_GONE
from mpfl.wire.discovery import Fingerprint, Introduction
from server.transport import directory as module
from server.transport.courier import Courier
from server.transport.directory import Directory
from server.transport.flower import address, identify
from tests.grids import BareGrid

OURS = Fingerprint(*[bytes([i]) * 8 for i in range(4)])
Said = RecordDict | Error | None
PATIENCE = 0.3


def introduced(partition: int, partitions: int = 3, fingerprint: Fingerprint = OURS) -> RecordDict:
    return told(Introduction(partition, partitions, fingerprint).facts())


def told(facts: Mapping[str, Any]) -> RecordDict:
    return RecordDict({"m": ConfigRecord(dict(facts))})


class Scripted(BareGrid):
    """Nodes that are asked answer what `says` has for them; None: they stay silent.

    Requests are answered with the number of the node.
    """

    def __init__(self, says: dict[int, Said]) -> None:
        identify(1, 1)
        self.says = says
        self.asked: Counter[int] = Counter()
        self._replies: dict[str, Message] = {}

    def get_node_ids(self) -> Iterable[int]:
        return list(self.says)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids: list[Any] = []
        for message in messages:
            node = message.metadata.dst_node_id
            if node not in self.says:
                ids.append(None)  # as Flower does
                continue
            ids.append(f"{node} {len(self._replies)} {sum(self.asked.values())}")
            address(message, ids[-1], 1, 1)
            said: Said = RecordDict({"m": ConfigRecord({"m": str(node).encode()})})
            if message.metadata.message_type == "query":
                self.asked[node] += 1
                said = self.says[node]
            if said is not None:
                self._replies[ids[-1]] = Message(said, reply_to=message)
                address(self._replies[ids[-1]], "reply", 1, node)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(i) for i in list(message_ids) if i in self._replies]

    def send_and_receive(self, *arguments: object, **options: object) -> NoReturn:
        raise NotImplementedError


class InMemoryGrid(Scripted):
    """Called as that of Flower's simulation."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "_SAY_SECONDS", 0.1)
    monkeypatch.setattr(module, "_ASK_AGAIN_SECONDS", 0.05)


def all_present() -> dict[int, Said]:
    return {70: introduced(0), 71: introduced(1), 72: introduced(2)}


def found(grid: Scripted, clients: int = 3) -> Directory:
    directory = Directory(grid, clients, OURS)
    directory.wait_for_all(PATIENCE)
    return directory


OTHER = bytes(8)
WRONG = [
    (introduced(-1), "partition-id: got -1, expected 0 to 2"),
    (introduced(3), "partition-id: got 3, expected 0 to 2"),
    (introduced(0), "partition-id: 0 is what node 70 holds"),
    (introduced(2, 4), "num-partitions: got 4, expected data.clients = 3"),
    (introduced(2, 2), "num-partitions: got 2, expected data.clients = 3"),
    (introduced(2, fingerprint=replace(OURS, w0=bytes(7) + b"x")), "w0 is 0000000000000078"),
    (introduced(2, fingerprint=replace(OURS, configuration=OTHER)), "another experiment"),
    (introduced(2, fingerprint=replace(OURS, data=OTHER)), "fingerprint: data is 0000"),
    (introduced(2, fingerprint=replace(OURS, streams=OTHER)), "fingerprint: streams is 0000"),
    (told({"partition-id": 2, "fingerprint": OURS.pack()}), "num-partitions: .* got nothing"),
    (told({"num-partitions": 3, "fingerprint": OURS.pack()}), "partition-id: .* got nothing"),
    (told({"partition-id": 2, "num-partitions": 3}), "fingerprint: expected bytes, got NoneType"),
    (told({**introduced(2)["m"], "partition-id": 2.0}), "partition-id: .* integer, got 2.0"),
    (told({**introduced(2)["m"], "partition-id": True}), "partition-id: .* integer, got True"),
    (told({**introduced(2)["m"], "partition-id": "2"}), "partition-id: .* integer, got '2'"),
    (told({**introduced(2)["m"], "partition-id": [2]}), r"partition-id: .* integer, got \[2\]"),
    (told({**introduced(2)["m"], "fingerprint": b"short"}), "expected 32 bytes, got 5"),
    (told({**introduced(2)["m"], "fingerprint": "text"}), "expected bytes, got str"),
    (told({}), "fingerprint: expected bytes, got NoneType"),
    (RecordDict(), "reply: it carries no facts"),
    (RecordDict({"m": ArrayRecord({})}), "reply: it carries no facts"),
    (RecordDict({"other": ConfigRecord({"partition-id": 2})}), "reply: it carries no facts"),
    (Error(2, "InputError: data.folder: no files\nTraceback"), "reply: InputError: data.folder"),
    (Error(8), "reply: code 8"),
]


@pytest.mark.parametrize(("said", "why"), WRONG)
def test_a_node_that_fits_nowhere_is_refused_by_name_and_harms_nobody(
    said: Said, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    grid = Scripted({**all_present(), 666: said})
    directory = found(grid)
    directory.look()
    assert [directory.node(number) for number in range(3)] == [70, 71, 72]
    del grid.says[72]
    with pytest.raises(InputError, match=f"node 666 is refused: .*{why}") as error:
        found(grid)
    assert "no node holds partition 2" in str(error.value)
    assert "\n" not in str(error.value)
    assert f"node 666 is refused: {grid_reason(str(error.value))}" in caplog.text


def grid_reason(error: str) -> str:
    return error.split("node 666 is refused: ")[1]


def test_refusals_are_said_once_each(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError):
        found(Scripted({70: introduced(0), 71: introduced(-1)}))
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert said == ["node 71 is refused: partition-id: got -1, expected 0 to 2"]


def test_a_run_that_waits_says_for_what(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="got 3, but after 0 s no node holds partition 1, 2"):
        found(Scripted({70: introduced(0), 71: None}))
    waiting = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert waiting
    assert waiting[0] == (
        "waiting up to 0.3 s: no node holds partition 1, 2; nodes that have not answered: 1"
    )


def test_a_refused_node_that_is_mended_is_let_in() -> None:
    grid = Scripted({**all_present(), 72: introduced(9)})
    directory = Directory(grid, 3, OURS)
    directory.look()
    directory.look()
    assert directory.missing == [2]
    grid.says[72] = introduced(2)
    directory.wait_for_all(10)
    assert directory.node(2) == 72


def test_a_node_is_asked_once_while_it_is_there() -> None:
    grid = Scripted(all_present())
    directory = found(grid)
    for _ in range(5):
        directory.look()
    assert grid.asked == {70: 1, 71: 1, 72: 1}


@pytest.mark.parametrize("returned", [72, 99])
def test_a_node_that_went_away_is_asked_again_when_it_comes_back(returned: int) -> None:
    grid = Scripted(all_present())
    directory = found(grid)
    del grid.says[72]
    directory.look()
    assert directory.node(2) is None
    grid.says[returned] = introduced(2)
    directory.wait_for_all(10)
    assert directory.node(2) == returned
    assert grid.asked[returned] == (2 if returned == 72 else 1)


def test_a_node_that_comes_back_as_another_one_takes_the_other_part() -> None:
    grid = Scripted({70: introduced(0), 71: introduced(1), 72: introduced(2)})
    directory = found(grid)
    del grid.says[71], grid.says[72]
    directory.look()
    grid.says |= {71: introduced(2), 72: introduced(1)}
    directory.wait_for_all(10)
    assert [directory.node(number) for number in range(3)] == [70, 72, 71]


def test_a_second_holder_of_a_partition_steps_in_when_the_first_goes() -> None:
    grid = Scripted({**all_present(), 80: introduced(1)})
    directory = found(grid)
    directory.look()
    assert directory.node(1) == 71
    del grid.says[71]
    directory.wait_for_all(10)
    assert directory.node(1) == 80


@pytest.mark.parametrize(("kind", "again"), [(Scripted, True), (InMemoryGrid, False)])
def test_a_node_that_does_not_answer_is_asked_again_unless_nothing_can_get_lost(
    kind: type[Scripted], again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNANSWERED_SECONDS", 0.02)
    grid = kind({70: introduced(0, 2), 71: None})
    with pytest.raises(InputError, match="no node holds partition 1"):
        Directory(grid, 2, OURS).wait_for_all(PATIENCE)
    assert (grid.asked[71] > 1) == again


def test_a_simulation_waits_for_no_node_that_cannot_come() -> None:
    grid = InMemoryGrid({70: introduced(0, 2), 71: introduced(1, 2)})
    with pytest.raises(InputError, match=r"after 0 s .*--federation-config 'num-supernodes=3'"):
        Directory(grid, 3, OURS).wait_for_all(3600)


def replies(courier: Courier, number: int) -> dict[int, bytes | str]:
    deliveries = courier.deliver(number, [(client, b"frame") for client in range(3)])
    return {d.client: d.reply or f"{d.reason}: {d.error}" for d in deliveries}


def test_rounds_go_on_without_a_node_and_with_it_again_when_it_is_back() -> None:
    grid = Scripted(all_present())
    courier = Courier(grid, 3, 10, lambda: OURS)
    assert replies(courier, 1) == {0: b"70", 1: b"71", 2: b"72"}
    del grid.says[71]
    assert replies(courier, 2)[1] == f"{NODE_GONE}: no node holds partition 1"
    grid.says[99] = introduced(1)
    replies(courier, 3)  # it is asked who it is
    assert replies(courier, 4) == {0: b"70", 1: b"99", 2: b"72"}


def test_a_node_that_takes_no_message_is_gone() -> None:
    grid = Scripted(all_present())
    courier = Courier(grid, 3, 10, lambda: OURS)
    grid.get_node_ids = lambda: [70, 71, 72]  # type: ignore[method-assign]
    del grid.says[71]
    assert replies(courier, 1)[1] == f"{NODE_GONE}: node 71 takes no message"


def test_a_request_that_no_node_took_weighs_nothing() -> None:
    grid = Scripted(all_present())
    courier = Courier(grid, 3, 10, lambda: OURS)
    del grid.says[71]
    sizes = {d.client: d.request_bytes for d in courier.deliver(1, [(0, b"f"), (1, b"f")])}
    assert sizes[0] > 0 == sizes[1]


def test_a_method_without_clients_waits_for_none() -> None:
    assert list(Courier(Scripted({}), 0, 3600, lambda: OURS).deliver(1, [])) == []
