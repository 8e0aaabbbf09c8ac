"""What this project expects of Flower's private names; a new release fails here first."""

from __future__ import annotations

import importlib.util
import inspect

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from hypothesis import given
from hypothesis import strategies as st

from server.transport.flower import (
    MESSAGE_ID_LENGTH,
    Reply,
    RequestWriter,
    address,
    blob_message,
    deserialize,
    deserialize_state,
    identify,
    read_reply,
    serialize,
    serialize_state,
)
from server.transport.grid import FIRST_NODE, RUN_ID
from tests.memory import resident_bytes

SERVER = 1


def request(blob: bytes = b"blob", message_id: str = "0" * MESSAGE_ID_LENGTH) -> Message:
    identify(RUN_ID, SERVER)
    content = RecordDict({"m": ConfigRecord({"m": blob})})
    message = Message(content, FIRST_NODE, "train", group_id="1")
    address(message, message_id, RUN_ID, SERVER)
    return message


@given(st.binary(min_size=1, max_size=2000))
def test_message_round_trip_keeps_content_and_address(blob: bytes) -> None:
    again = deserialize(serialize(request(blob)))
    assert again.content["m"]["m"] == blob
    metadata = again.metadata
    assert (metadata.message_id, metadata.run_id) == ("0" * MESSAGE_ID_LENGTH, RUN_ID)
    assert (metadata.src_node_id, metadata.dst_node_id) == (SERVER, FIRST_NODE)
    assert (metadata.message_type, metadata.group_id) == ("train", "1")


def test_round_trip_shares_nothing() -> None:
    message = request(b"before")
    copy = deserialize(serialize(message))
    copy.content.config_records["m"]["m"] = b"after"
    assert message.content["m"]["m"] == b"before"


def test_serialization_is_deterministic() -> None:
    message = request()
    assert serialize(message) == serialize(message) == serialize(deserialize(serialize(message)))


@pytest.mark.parametrize("length", [0, 1, 16, MESSAGE_ID_LENGTH])
def test_message_id_costs_its_length_and_two_bytes(length: int) -> None:
    without = len(serialize(request(message_id="")))
    expected = length + 2 if length else 0
    assert len(serialize(request(message_id="f" * length))) - without == expected


def test_one_blob_in_a_config_record_costs_less_than_170_bytes() -> None:
    blob = np.random.default_rng(0).bytes(1000)
    assert len(serialize(request(blob))) - len(blob) < 170


def test_a_reply_names_its_request_and_goes_back_to_the_sender() -> None:
    reply = Message(RecordDict(), reply_to=request(message_id="a" * MESSAGE_ID_LENGTH))
    address(reply, "b" * MESSAGE_ID_LENGTH, RUN_ID, FIRST_NODE)
    again = deserialize(serialize(reply))
    assert again.metadata.reply_to_message_id == "a" * MESSAGE_ID_LENGTH
    assert again.metadata.src_node_id == FIRST_NODE
    assert again.metadata.dst_node_id == SERVER


def test_an_error_reply_survives_the_wire() -> None:
    reply = Message(Error(code=2, reason="why"), reply_to=request())
    address(reply, "b" * MESSAGE_ID_LENGTH, RUN_ID, FIRST_NODE)
    again = deserialize(serialize(reply))
    assert again.has_error()
    assert (again.error.code, again.error.reason) == (2, "why")


def test_state_round_trip() -> None:
    state = RecordDict({"s": ConfigRecord({"b": b"\0\xff", "n": 3})})
    again = deserialize_state(serialize_state(state))
    assert again["s"] == state["s"]


def test_empty_state_is_no_bytes() -> None:
    assert serialize_state(RecordDict()) == b""


def test_messages_need_an_identity_where_flower_has_one() -> None:
    if importlib.util.find_spec("flwr.supercore.task_identity") is None:
        pytest.skip("this Flower has no task identity (before 1.38)")
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = None
    with pytest.raises(RuntimeError):
        Message(RecordDict(), FIRST_NODE, "train")
    identify(RUN_ID, SERVER)
    assert Message(RecordDict(), FIRST_NODE, "train").metadata.run_id == RUN_ID


def test_grid_has_the_abstract_methods_that_the_local_grid_implements() -> None:
    assert Grid.__abstractmethods__ == {
        "create_message",
        "get_node_ids",
        "pull_messages",
        "push_messages",
        "run",
        "send_and_receive",
        "set_run",
    }


def test_context_takes_what_the_local_grid_gives() -> None:
    assert {"run_id", "node_id", "node_config", "state", "run_config"} <= set(
        inspect.signature(Context).parameters
    )


def test_client_app_is_a_plain_callable_of_message_and_context() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    context = Context(RUN_ID, FIRST_NODE, {"partition-id": 0}, RecordDict(), {})
    assert app(deserialize(serialize(request(b"x"))), context).content["m"]["m"] == b"x"


@given(st.binary(max_size=500), st.integers(0, 1000), st.text("0123456789", max_size=4))
def test_requests_written_directly_are_the_bytes_of_messages(blob, node, group) -> None:
    identify(RUN_ID, SERVER)
    raw = RequestWriter(RUN_ID, SERVER).write("a" * 64, FIRST_NODE + node, group, blob)
    message = blob_message(blob, FIRST_NODE + node, group)
    address(message, "a" * 64, RUN_ID, SERVER)
    message.metadata.created_at = deserialize(raw).metadata.created_at
    assert raw == serialize(message)


def test_requests_leave_no_memory_behind() -> None:
    identify(RUN_ID, SERVER)
    writer, blob = RequestWriter(RUN_ID, SERVER), bytes(100_000)
    before = resident_bytes()
    for _ in range(2000):
        writer.write("a" * 64, FIRST_NODE, "1", blob)
    assert resident_bytes() - before < 20_000_000  # of the 200 MB written


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (RecordDict({"m": ConfigRecord({"m": b"blob"})}), {"blob": b"blob"}),
        (RecordDict({"m": ConfigRecord({"other": 1, "m": b"blob"})}), {"blob": b"blob"}),
        (RecordDict({"m": ConfigRecord({"m": "text"})}), {}),
        (RecordDict({"m": ConfigRecord({"other": b"blob"})}), {}),
        (RecordDict({"other": ConfigRecord({"m": b"blob"})}), {}),
        (RecordDict(), {}),
        (Error(code=7, reason="why"), {"error": (7, "why")}),
        (Error(code=7), {"error": (7, "")}),
    ],
)
def test_replies_are_read_from_their_bytes(reply, said) -> None:
    message = Message(reply, reply_to=request(message_id="a" * MESSAGE_ID_LENGTH))
    address(message, "b" * MESSAGE_ID_LENGTH, RUN_ID, FIRST_NODE)
    raw = serialize(message)
    assert read_reply(raw) == Reply("a" * MESSAGE_ID_LENGTH, len(raw), **said)
