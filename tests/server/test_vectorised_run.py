"""Clients that are trained together: every message, error and fault stays its own client's."""

import threading

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from mpfl.mask import Mask
from mpfl.training.gang import in_gang, meet
from server.methods import METHODS
from server.transport.grid import LocalGrid
from tests.processes import PATIENCE_SECONDS
from tests.runs import digests, records, run_small

METHOD_NAMES = [name for name in METHODS.names() if name != "centralized"]

app = ClientApp()


def served(requests):
    """Answer with how many asked together; client 2's request cannot be served."""
    return [ValueError("unfit") if r == 2 else len(requests) for r in requests]


@app.train()
def train(message, context):
    word, partition = message.content["m"]["m"], int(context.node_config["partition-id"])
    if word == b"early" and partition == 1:
        raise ValueError("before the meeting")
    count = meet(served, partition if word == b"unfit" else 0) if in_gang() else 1
    if word == b"late" and partition == 1:
        raise ValueError("after the meeting")
    rounds = int(context.state["n"]["n"]) + 1 if "n" in context.state else 1
    context.state["n"] = ConfigRecord({"n": rounds})
    answer = f"{partition} {count} {rounds}".encode()
    return Message(RecordDict({"m": ConfigRecord({"m": answer})}), reply_to=message)


def ask(grid, word, nodes):
    messages = [
        Message(RecordDict({"m": ConfigRecord({"m": word})}), grid.node_id(i), "train")
        for i in nodes
    ]
    return {
        r.metadata.reply_to_message_id: r.error.reason if r.has_error() else r.content["m"]["m"]
        for r in grid.send_and_receive(messages, timeout=PATIENCE_SECONDS)
    }


def test_as_many_clients_as_wanted_meet_and_the_rest_follow():
    with LocalGrid(app, 5, {}, workers=2, together=3) as grid:
        assert grid.workers == 0
        replies = ask(grid, b"hello", range(5))
        assert set(replies.values()) == {b"0 3 1", b"1 3 1", b"2 3 1", b"3 2 1", b"4 2 1"}


def test_two_messages_to_one_client_are_answered_one_after_the_other():
    with LocalGrid(app, 3, {}, together=3) as grid:
        assert set(ask(grid, b"hello", [0, 0, 1]).values()) == {b"0 1 1", b"0 2 2", b"1 2 1"}


@pytest.mark.parametrize(
    ("word", "reason", "client", "met"),
    [
        (b"early", "before the meeting", 1, 3),
        (b"late", "after the meeting", 1, 4),
        (b"unfit", "unfit", 2, 4),
    ],
)
def test_a_failing_client_costs_only_its_own_reply(word, reason, client, met):
    before = threading.active_count()
    with LocalGrid(app, 4, {}, together=4) as grid:
        replies = list(ask(grid, word, range(4)).values())
        failed = [reply for reply in replies if isinstance(reply, str)]
        assert len(failed) == 1
        assert failed[0].startswith(f"ValueError: {reason}\nTraceback")
        others = {f"{i} {met} 1".encode() for i in range(4) if i != client}
        assert others == {reply for reply in replies if isinstance(reply, bytes)}
    assert threading.active_count() == before


def outcome(folder):
    mask = Mask.from_bytes((folder / "mask.mpfl").read_bytes())
    return records(folder)[-1]["test_accuracy"], mask


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_a_run_ends_with_the_same_accuracy_and_nearly_the_same_mask(tmp_path, method):
    for name, together in (("alone", 0), ("together", 3)):
        run_small(tmp_path / name, method=method, engine__vectorised=together)
    (accuracy, mask), (wanted, expected) = (outcome(tmp_path / n) for n in ("together", "alone"))
    assert abs(accuracy - wanted) <= 0.02
    assert mask.jaccard(expected) > 0.98
    assert all(r["rejected"] == {} for r in records(tmp_path / "together"))


def test_a_run_that_trains_together_repeats_itself(tmp_path):
    runs = [run_small(tmp_path / n, engine__vectorised=4) for n in ("a", "b")]
    assert digests(runs[0]) == digests(runs[1])


def test_faults_hit_the_same_clients(tmp_path):
    faults = {"faults__drop_before": 0.2, "faults__drop_after": 0.2, "faults__truncate": 0.2}
    for name, together in (("alone", 0), ("together", 4)):
        run_small(tmp_path / name, engine__vectorised=together, data__clients=8, **faults)
    counts = [[r["rejected"] for r in records(tmp_path / n)] for n in ("alone", "together")]
    assert counts[0] == counts[1]
    assert any(counts[0])


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("method", "granularity"),
    [
        *[("mpfl", "weight"), ("mpfl", "filter"), ("fedavg", "weight"), ("fedpm", "weight")],
        ("centralized", "weight"),
    ],
)
def test_a_run_on_a_gpu_ends_as_on_the_processor(tmp_path, method, granularity):
    for device in ("cpu", "cuda"):
        run_small(
            tmp_path / device, method=method, train__device=device, prune__granularity=granularity
        )
    (accuracy, mask), (wanted, expected) = (outcome(tmp_path / d) for d in ("cuda", "cpu"))
    assert abs(accuracy - wanted) <= 0.02
    assert mask.jaccard(expected) > 0.98
