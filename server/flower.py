"""Every private or unstable Flower name this project uses, in one place.

The contract test pins what is expected of them, so that a new Flower release fails there and
nowhere else.
"""

from __future__ import annotations

from flwr.app import Message, RecordDict
from flwr.common.serde import (
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict

MESSAGE_ID_LENGTH = 64
"""Characters of a message id in a deployment: a SHA-256 in hexadecimal."""


def serialize(message: Message) -> bytes:
    """Return the bytes of a message, as Flower's transports would carry them."""
    return bytes(message_to_proto(message).SerializeToString())


def deserialize(raw: bytes) -> Message:
    """Return a new message that shares nothing with the one that was serialized."""
    return message_from_proto(ProtoMessage.FromString(raw))


def serialize_state(state: RecordDict) -> bytes:
    """Return the bytes of a node's state; empty for an empty state."""
    return bytes(recorddict_to_proto(state).SerializeToString())


def deserialize_state(raw: bytes) -> RecordDict:
    """Return a node's state from its bytes."""
    return recorddict_from_proto(ProtoRecordDict.FromString(raw))


def address(message: Message, message_id: str, run_id: int, source: int) -> None:
    """Set what Flower's own grids set when a message is pushed (or a reply is stored)."""
    fields = message.metadata.__dict__
    fields["_message_id"] = message_id
    fields["_run_id"] = run_id
    fields["_src_node_id"] = source


def identify(run_id: int, node_id: int) -> None:
    """Tell Flower (1.38 and later) in whose name this process creates messages."""
    try:
        from flwr.supercore.task_identity import TaskIdentity
    except ImportError:
        return
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, 1
