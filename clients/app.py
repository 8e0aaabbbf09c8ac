"""The ClientApp: unpacks a message, hands the frame to the method, packs the answer."""

from __future__ import annotations

import numpy as np
import torch
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from safetensors.numpy import load, save

from clients.client import Client
from clients.faults import Lost, spoil_reply
from clients.methods import METHODS
from clients.replica import ClientState, Uninformed
from mpfl.errors import describe
from mpfl.faults.replies import LOSSES, fault_of
from mpfl.seeding import lent
from mpfl.state import flatten, restore
from mpfl.wire.errors import WireError
from mpfl.wire.frame import BLOB, RECORD, Frame, Kind, decode_frame, encode_frame
from mpfl.world import World, world_from_toml

app = ClientApp()

Record = ArrayRecord | ConfigRecord | MetricRecord

STATE = "mpfl-state"
REPLY = "mpfl-reply"  # kept only where replies may be replayed
_RAISED = 2  # Flower's error code of an app that raised


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer one request; everything a method does happens in here."""
    torch.set_num_threads(1)  # results must not depend on the engine's thread count
    try:
        blob = _blob(message.content[RECORD])
        content = RecordDict({RECORD: ConfigRecord({BLOB: answer(blob, context)})})
    except Lost as lost:  # nothing came back, as far as the server is to know
        return Message(Error(*lost.args), reply_to=message)
    except Exception as error:  # noqa: BLE001 - told here: some engines would garble it
        return Message(Error(_RAISED, describe(error)), reply_to=message)
    return Message(content, reply_to=message)


@app.query()
def query(message: Message, context: Context) -> Message:
    """Tell which partition this node holds: engines number their nodes at random."""
    facts = ConfigRecord()
    for key in ("partition-id", "num-partitions"):
        facts[key] = int(context.node_config[key])
    content = RecordDict({RECORD: facts})
    return Message(content, reply_to=message)


def answer(blob: bytes, context: Context) -> bytes:
    """Return the reply frame to a request frame; `context` keeps the client's state.

    Raises
    ------
    WireError
        If the request is damaged.
    Lost
        If a simulated fault swallows the reply.
    """
    world = world_from_toml(str(context.run_config.get("experiment", "")))
    request = decode_frame(blob)
    partition = int(context.node_config["partition-id"])
    fault = fault_of(world.experiment, request.round, partition)
    if fault == "drop_before":
        raise Lost(*LOSSES[fault])
    client = Client(world, partition, _load_state(context, world))
    streams = lent(world.experiment.seed, "global", request.round, partition)
    try:
        with streams:  # whatever modules and methods draw from global generators
            reply = METHODS[world.experiment.method](request, client)
    except Uninformed:
        return encode_frame(Frame(Kind.REFUSAL, request.round, {}))
    if arrays := flatten(client.state):
        kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        context.state[STATE] = ConfigRecord({BLOB: save(kept)})
    earlier = _blob(context.state[REPLY]) if REPLY in context.state else None
    if world.experiment.faults.replay:
        context.state[REPLY] = ConfigRecord({BLOB: encode_frame(reply)})
    return spoil_reply(client, fault, reply, earlier)


def _load_state(context: Context, world: World) -> ClientState:
    arrays = load(_blob(context.state[STATE])) if STATE in context.state else {}
    return restore(ClientState, arrays, world.layout)


def _blob(record: Record) -> bytes:
    """Return the one value that a record of ours holds; WireError if it is of another's making."""
    blob = record.get(BLOB)
    if not isinstance(blob, bytes):
        raise WireError("blob", f"expected bytes, got {type(blob).__name__}")
    return blob
