"""A federation in this process without any engine: server half, client halves, frames between."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import Client
from clients.methods import METHODS as CLIENT_METHODS
from clients.replica import ClientState
from mpfl.config import Experiment
from mpfl.wire.frame import Frame, decode_frame, encode_frame
from mpfl.world import build_world
from server.methods import METHODS as SERVER_METHODS
from tests.runs import small


def tiny(**overrides: Any) -> Experiment:
    """Return the small experiment on 240 samples, masks sent as they are; see `small`."""
    quick = {"data__train_samples": 240, "data__test_samples": 60, "wire__mask_codec": "raw"}
    return small(**{**quick, **overrides})


class Federation:
    """Plays rounds and remembers the frames and what every client had trained."""

    def __init__(self, experiment: Experiment) -> None:
        self.world = build_world(experiment)
        self.method = SERVER_METHODS[experiment.method](self.world)
        self.states = {c: ClientState() for c in range(experiment.data.clients)}
        self.requests: dict[int, Frame] = {}
        self.replies: dict[int, Frame] = {}
        self.trained: dict[int, NDArray[np.float32]] = {}
        self.number = 0

    def client(self, number: int) -> Client:
        """Return one client with the state it has kept."""
        return Client(self.world, number, self.states[number])

    def play(self, rounds: int = 1) -> dict[str, Any]:
        """Play rounds and return the columns of the last one."""
        columns: dict[str, Any] = {}
        for _ in range(rounds):
            self.number += 1
            clients = list(self.states)
            self.method.begin_round(self.number, clients)
            for number in clients:
                self.requests[number] = _carried(self.method.request(number).frame)
                handle = CLIENT_METHODS[self.world.experiment.method]
                reply = handle(self.requests[number], self.client(number))
                self.replies[number] = _carried(reply)
                self.trained[number] = self.world.model.read_model()
            for number in reversed(clients):
                self.method.accept(number, self.replies[number])
            columns = self.method.finish_round(True)
        return columns

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of what the clients had trained, weighted by samples."""
        weights = [len(part) for part in self.world.parts]
        rows = [self.trained[number] for number in range(len(weights))]
        return np.average(np.stack(rows).astype(np.float64), axis=0, weights=weights)

    def survivors(self) -> NDArray[np.bool_]:
        """Return bool[P + B]: what the mask keeps."""
        structure, mask = self.world.structure, self.method.mask()
        return np.concatenate([structure.parameter_mask(mask), structure.buffer_mask(mask)])


def _carried(frame: Frame) -> Frame:
    return decode_frame(encode_frame(frame))
