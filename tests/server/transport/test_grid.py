"""The local grid: isolation, failures that cost one reply, crashes that cost nothing."""

import os
import signal
import time
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from mpfl.faults.replies import RAISED
from server.transport.flower import DIED
from server.transport.grid import LocalGrid, worker_count

app = ClientApp()


@app.train()
def train(message, context):
    blob = message.content["m"]["m"]
    partition = int(context.node_config["partition-id"])
    word = blob.split(b" ")[0]
    if word == b"raise" and partition == 1:
        raise ValueError("no such luck")
    if word == b"none" and partition == 1:
        return None
    if word == b"die" and partition == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b"die-once" and partition == 1:
        tried = Path(blob.decode().split(" ")[1]) / "tried"
        if not tried.exists():
            tried.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if word == b"sleep" and partition == 1:
        time.sleep(60)
    if word == b"overwrite":
        message.content["m"]["m"] = b"overwritten"
    count = int(context.state["n"]["n"]) + 1 if "n" in context.state else 1
    context.state["n"] = ConfigRecord({"n": count})
    answer = blob + f" {partition} {count}".encode()
    return Message(RecordDict({"m": ConfigRecord({"m": answer})}), reply_to=message)


def ask(grid, blob, nodes=4, **options):
    messages = [
        Message(RecordDict({"m": ConfigRecord({"m": blob})}), grid.node_id(i), "train")
        for i in range(nodes)
    ]
    replies = list(grid.send_and_receive(messages, **options))
    by_node = {r.metadata.src_node_id - grid.node_id(0): r for r in replies}
    assert len(by_node) == len(replies)
    return by_node


@pytest.fixture(params=[0, 1, 2])
def grid(request):
    with LocalGrid(app, 4, {}, workers=request.param) as it:
        yield it


def text(reply):
    return reply.content["m"]["m"]


def test_every_node_answers_and_keeps_its_state(grid):
    for count in (1, 2, 3):
        replies = ask(grid, b"hello")
        assert {i: text(r) for i, r in replies.items()} == {
            i: f"hello {i} {count}".encode() for i in range(4)
        }


def test_a_client_that_overwrites_its_message_harms_nobody(grid):
    content = RecordDict({"m": ConfigRecord({"m": b"overwrite"})})
    messages = [Message(content, grid.node_id(i), "train") for i in range(4)]
    replies = grid.send_and_receive(messages)
    assert {text(r) for r in replies} == {f"overwrite {i} 1".encode() for i in range(4)}
    assert content["m"]["m"] == b"overwrite"


@pytest.mark.parametrize("blob", [b"raise", b"none"])
def test_a_failing_client_costs_only_its_own_reply(grid, blob):
    replies = ask(grid, blob)
    assert sorted(replies) == [0, 1, 2, 3]
    assert replies[1].has_error()
    assert replies[1].error.code == RAISED
    assert all(replies[i].has_content() for i in (0, 2, 3))
    if blob == b"raise":
        assert replies[1].error.reason.startswith("ValueError: no such luck\nTraceback")
    assert text(ask(grid, b"again")[1]) == b"again 1 1"  # its state did not move


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_replaced_and_its_clients_are_served(tmp_path, workers):
    with LocalGrid(app, 4, {}, workers=workers) as grid:
        replies = ask(grid, b"die-once " + str(tmp_path).encode())
        assert all(r.has_content() for r in replies.values())
        assert (tmp_path / "tried").exists()


def test_a_client_that_always_kills_its_worker_gets_an_error_reply():
    with LocalGrid(app, 4, {}, workers=2) as grid:
        replies = ask(grid, b"die")
        assert (replies[1].error.code, replies[1].error.reason) == (
            DIED,
            "its worker process died 3 times, the last time with signal SIGKILL",
        )
        assert all(replies[i].has_content() for i in (0, 2, 3))
        assert text(ask(grid, b"after")[0]) == b"after 0 2"


def test_an_abandoned_message_frees_its_worker():
    with LocalGrid(app, 4, {}, workers=1) as grid:
        message = Message(
            RecordDict({"m": ConfigRecord({"m": b"sleep"})}), grid.node_id(1), "train"
        )
        ids = grid.push_messages([message])
        assert not grid.pull_messages(ids)
        grid.abandon(ids)
        assert text(ask(grid, b"free")[1]) == b"free 1 1"


def test_worker_count_follows_the_machine_and_the_nodes():
    assert worker_count(3, 10) == 3
    assert worker_count(3, 2) == 2
    assert worker_count(0, 10) == 0
    assert 1 <= worker_count(-1, 1000) <= (os.cpu_count() or 1)
