"""What a node answers when it is asked who it is."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from clients.app import app
from mpfl.config import to_toml
from mpfl.wire.discovery import Introduction
from mpfl.world import world_from_toml
from server.transport.flower import RequestWriter, deserialize, identify, serialize
from tests.federation import tiny

TEXT = to_toml(tiny())
THIS = {"partition-id": 2, "num-partitions": 4}


def asked(node_config: dict[str, Any], text: str = TEXT) -> Message:
    identify(1, 1)
    message = deserialize(RequestWriter(1, 1).write("a" * 64, 7, "", b""))
    message.metadata.message_type = "query"
    return app(message, Context(1, 7, node_config, RecordDict(), {"experiment": text}))


def test_a_node_tells_its_partition_and_what_it_derived() -> None:
    said = Introduction.read(asked(THIS).content["m"])
    assert (said.partition, said.partitions) == (2, 4)
    assert said.fingerprint == world_from_toml(TEXT).fingerprint


def test_the_fingerprint_costs_less_than_a_hundred_bytes() -> None:
    reply = asked(THIS)
    whole = len(serialize(reply))
    del reply.content["m"]["fingerprint"]
    assert whole - len(serialize(reply)) < 100


@pytest.mark.parametrize(
    ("node_config", "got"),
    [
        ({"num-partitions": 4}, "node-config partition-id: got nothing"),
        ({"partition-id": 2}, "node-config num-partitions: got nothing"),
        ({}, "node-config partition-id: got nothing"),
        ({**THIS, "partition-id": "two"}, "node-config partition-id: got 'two'"),
        ({**THIS, "partition-id": 2.5}, "node-config partition-id: got 2.5"),
        ({**THIS, "num-partitions": True}, "node-config num-partitions: got True"),
    ],
)
def test_a_node_that_cannot_tell_says_which_key_is_wrong(node_config, got) -> None:
    reply = asked(node_config)
    line, *_ = reply.error.reason.splitlines()
    assert reply.error.code == 2
    assert got in line
    assert "--node-config 'partition-id=0 num-partitions=3'" in line


def test_a_node_without_the_data_says_so() -> None:
    reply = asked(THIS, to_toml(tiny(data__name="mnist", data__folder="/nowhere")))
    assert "no files of MNIST in /nowhere" in reply.error.reason.splitlines()[0]
