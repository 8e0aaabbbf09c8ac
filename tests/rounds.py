"""Rounds of a method without any engine: who is asked, whose reply is lost, in what order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from clients.client import Client
from clients.methods import METHODS as CLIENT_METHODS
from clients.replica import ClientState, Uninformed
from mpfl.config import Experiment
from mpfl.state import flatten, restore
from mpfl.wire.frame import Frame, decode_frame, encode_frame
from mpfl.world import World, build_world
from server.checkpoint import load_checkpoint, save_checkpoint
from server.methods import METHODS as SERVER_METHODS
from server.methods import ServerMethod
from server.sampling import asked_clients

Order = Callable[[list[int]], Iterable[int]]


class Rounds:
    """One run, round by round.

    Attributes
    ----------
    states
        What each client keeps.
    requests, replies, trained
        Of the last round: frames, and the model float32[P + B] each client was left with.
    refused
        Clients that did not hold what the last request built on.
    """

    def __init__(self, experiment: Experiment, world: World | None = None) -> None:
        self.world = world or build_world(experiment)
        self.method: ServerMethod = SERVER_METHODS[experiment.method](self.world)
        self.states = {c: ClientState() for c in range(experiment.data.clients)}
        self.requests: dict[int, Frame] = {}
        self.replies: dict[int, Frame] = {}
        self.trained: dict[int, np.ndarray] = {}
        self.refused: list[int] = []
        self.number = 0
        self._frames = hashlib.sha256()

    def play(
        self, rounds: int = 1, order: Order = sorted, lost: Iterable[int] = ()
    ) -> dict[str, Any]:
        """Play rounds; the replies of `lost` clients never arrive."""
        columns: dict[str, Any] = {}
        for _ in range(rounds):
            columns = self._play(order, set(lost))
        return columns

    def _play(self, order: Order, lost: set[int]) -> dict[str, Any]:
        self.number += 1
        clients = asked_clients(self.world.experiment, self.method, self.number)
        self.method.begin_round(self.number, clients)
        self.requests, self.replies, self.trained, self.refused = {}, {}, {}, []
        for number in clients:
            self.requests[number] = self._carried(self.method.request(number).frame)
            handle = CLIENT_METHODS[self.world.experiment.method]
            client = Client(self.world, number, self.states[number])
            try:
                reply = handle(self.requests[number], client)
            except Uninformed:
                self.refused.append(number)
                self.method.forget(number)
                continue
            self.replies[number] = self._carried(reply)
            self.trained[number] = self.world.model.read_model()
        arrived = [number for number in order(list(self.replies)) if number not in lost]
        for number in arrived:
            self.method.accept(number, self.replies[number])
        return self.method.finish_round(bool(arrived))

    def restart(self, path: Path) -> None:
        """Write a checkpoint and continue with a new server half that has read it."""
        save_checkpoint(path, {}, flatten(self.method.state))
        kind = type(self.method.state)
        self.method = SERVER_METHODS[self.world.experiment.method](self.world)
        _, arrays = load_checkpoint(path)
        self.method.restore(restore(kind, arrays, self.world.layout))

    def digest(self) -> str:
        """Return what two equal runs have in common: frames, mask and model."""
        result = self._frames.copy()
        result.update(self.method.mask().to_bytes())
        result.update(self.method.model().tobytes())
        return result.hexdigest()

    def weights(self) -> np.ndarray:
        """Return each client's number of samples."""
        return np.array([len(part) for part in self.world.parts])

    def _carried(self, frame: Frame) -> Frame:
        blob = encode_frame(frame)
        self._frames.update(blob)
        return decode_frame(blob)
