"""Every private or unstable Flower name this project uses, in one place.

The contract test pins what is expected of them, so that a new Flower release fails there and
nowhere else.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.serde import (
    message_from_proto,
    message_to_proto,
    recorddict_from_proto,
    recorddict_to_proto,
)
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.serverapp import Grid

from mpfl.wire.frame import BLOB, RECORD

MESSAGE_ID_LENGTH = 64
"""Characters of a message id in a deployment: a SHA-256 in hexadecimal."""

DIED = 8
"""Error code of a client whose process died."""
GONE = 5
"""Error code of a node that is no longer there."""
CRASHED = frozenset({0, DIED})
"""Error codes where the client's process is gone (0 is Ray's, for a lost actor)."""
UNAVAILABLE = frozenset({3, 4})
"""Error codes where a message or its reply expired on the way."""


@dataclass(frozen=True)
class Reply:
    """What a reply says: the blob it carries, or why there is none.

    Attributes
    ----------
    request_id
        Message id of the request.
    size
        Length of the serialized message.
    blob
        None if the reply is an error or carries no blob.
    error
        (code, reason) of an error reply.
    """

    request_id: str
    size: int
    blob: bytes | None = None
    error: tuple[int, str] | None = None


def serialize(message: Message) -> bytes:
    """Return the bytes of a message, as Flower's transports would carry them."""
    return bytes(message_to_proto(message).SerializeToString())


def deserialize(raw: bytes) -> Message:
    """Return a new message that shares nothing with the one that was serialized."""
    return message_from_proto(ProtoMessage.FromString(raw))


def blob_message(blob: bytes, node: int, group: str) -> Message:
    """Return the request that carries a blob to a node."""
    return Message(RecordDict({RECORD: ConfigRecord({BLOB: blob})}), node, "train", group_id=group)


class RequestWriter:
    """Writes what ``serialize(blob_message(...))`` would write, nine times as fast."""

    def __init__(self, run_id: int, source: int) -> None:
        message = blob_message(b"", 1, "")
        address(message, "", run_id, source)
        self._template = serialize(message)

    def write(self, message_id: str, node: int, group: str, blob: bytes) -> bytes:
        """Return the bytes of a request that is made now."""
        # One message for each request: a field set again keeps the memory of what it held before.
        proto = ProtoMessage.FromString(self._template)
        metadata = proto.metadata
        metadata.message_id, metadata.dst_node_id, metadata.group_id = message_id, node, group
        metadata.created_at = time.time()
        proto.content.items[0].config_record.items[0].value.bytes = blob
        return bytes(proto.SerializeToString())


def read_reply(raw: bytes) -> Reply:
    """Return what the bytes of a reply say, without making a message of them."""
    proto = ProtoMessage.FromString(raw)
    request_id = proto.metadata.reply_to_message_id
    if proto.HasField("error"):
        return Reply(request_id, len(raw), error=(proto.error.code, proto.error.reason))
    for item in proto.content.items:
        if item.key == RECORD and item.WhichOneof("value") == "config_record":
            for entry in item.config_record.items:
                if entry.key == BLOB and entry.value.WhichOneof("value") == "bytes":
                    return Reply(request_id, len(raw), entry.value.bytes)
    return Reply(request_id, len(raw))


def is_simulation(grid: Grid) -> bool:
    """Whether a grid's nodes are those of Flower's simulation: all there from the start."""
    return type(grid).__name__ == "InMemoryGrid"


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
