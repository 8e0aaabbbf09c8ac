"""The ClientApp: unpacks a message, hands the frame to the method, packs the answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

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
from clients.methods import handler
from clients.replica import ClientState, Uninformed
from mpfl.errors import InputError, describe
from mpfl.faults.replies import LOSSES, RAISED, fault_of
from mpfl.plugins import load as load_plugins
from mpfl.seeding import lent
from mpfl.state import flatten, restore
from mpfl.wire.discovery import PARTITION, PARTITIONS, Introduction
from mpfl.wire.errors import WireError
from mpfl.wire.frame import BLOB, RECORD, Frame, Kind, decode_frame, encode_frame
from mpfl.world import World, world_from_toml

Record = ArrayRecord | ConfigRecord | MetricRecord

STATE = "mpfl-state"
REPLY = "mpfl-reply"  # kept only where replies may be replayed


def client_app(world_of: Callable[[Context], World]) -> ClientApp:
    """Return the ClientApp of nodes whose common ground is what `world_of` says."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return respond(message, context, world_of)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return introduce(message, context, world_of)

    return app


def respond(message: Message, context: Context, world_of: Callable[[Context], World]) -> Message:
    """Answer one request; everything a method does happens in here."""
    torch.set_num_threads(1)  # results must not depend on the engine's thread count
    try:
        blob = _blob(message.content[RECORD])
        frame = answer(blob, context, world_of(context))
        content = RecordDict({RECORD: ConfigRecord({BLOB: frame})})
    except Lost as lost:  # nothing came back, as far as the server is to know
        return Message(Error(*lost.args), reply_to=message)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - told here: some engines would garble it
        return Message(Error(RAISED, describe(error)), reply_to=message)
    return Message(content, reply_to=message)


def introduce(message: Message, context: Context, world_of: Callable[[Context], World]) -> Message:
    """Tell which partition this node holds, and what it starts from; see `mpfl.wire.discovery`."""
    torch.set_num_threads(1)
    try:
        facts = introduction(context, world_of(context)).facts()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - told here, as above
        return Message(Error(RAISED, describe(error)), reply_to=message)
    return Message(RecordDict({RECORD: ConfigRecord(dict(facts))}), reply_to=message)


def introduction(context: Context, world: World) -> Introduction:
    """Return what a node says of itself.

    Raises
    ------
    InputError
        If its configuration does not say which partition it holds, or the experiment cannot be
        set up here.
    """
    partition, partitions = (_node_number(context, key) for key in (PARTITION, PARTITIONS))
    return Introduction(partition, partitions, world.fingerprint)


def answer(blob: bytes, context: Context, world: World) -> bytes:
    """Return the reply frame to a request frame; `context` keeps the client's state.

    Raises
    ------
    WireError
        If the request is damaged.
    Lost
        If a simulated fault swallows the reply.
    """
    request = decode_frame(blob)
    partition = _node_number(context, PARTITION)
    fault = fault_of(world.experiment, request.round, partition)
    if fault == "drop_before":
        raise Lost(*LOSSES[fault])
    client = Client(world, partition, _load_state(context, world))
    streams = lent(world.experiment.seed, "global", request.round, partition)
    try:
        with streams:  # whatever modules and methods draw from global generators
            reply = handler(world.experiment.method)(request, client)
        if not isinstance(reply, Frame):
            kind, name = type(reply).__name__, world.experiment.method
            raise TypeError(f"the client half of {name!r} returned {kind}, expected a Frame")
    except Uninformed:
        return encode_frame(Frame(Kind.REFUSAL, request.round, {}))
    if arrays := flatten(client.state):
        kept = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        context.state[STATE] = ConfigRecord({BLOB: save(kept)})
    earlier = _blob(context.state[REPLY]) if REPLY in context.state else None
    if world.experiment.faults.replay:
        context.state[REPLY] = ConfigRecord({BLOB: encode_frame(reply)})
    return spoil_reply(client, fault, reply, earlier)


def _node_number(context: Context, key: str) -> int:
    value = context.node_config.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        got = "nothing" if value is None else repr(value)
        raise InputError(
            f"node-config {key}: got {got}, expected an integer; "
            "flower-supernode takes --node-config 'partition-id=0 num-partitions=3'"
        )
    return value


def _load_state(context: Context, world: World) -> ClientState:
    arrays = load(_blob(context.state[STATE])) if STATE in context.state else {}
    return restore(ClientState, arrays, world.layout)


def _blob(record: Record) -> bytes:
    """Return the one value that a record of ours holds; WireError if it is of another's making."""
    blob = record.get(BLOB)
    if not isinstance(blob, bytes):
        raise WireError("blob", f"expected bytes, got {type(blob).__name__}")
    return blob


@lru_cache(maxsize=2)
def _world_of_run(run_id: int, text: str) -> World:
    """Return the world of a run, the same object for all its messages; another run has its own."""
    return world_from_toml(text)


def _world_of_context(context: Context) -> World:
    world = _world_of_run(context.run_id, str(context.run_config.get("experiment", "")))
    load_plugins(world.experiment)  # another run's may have been at work since
    return world


app = client_app(_world_of_context)
