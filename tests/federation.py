"""A federation in this process without any engine: server half, client halves, frames between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.client import Client
from clients.methods import handler
from clients.replica import ClientState, Uninformed
from mpfl.config import Experiment
from mpfl.state import flatten, restore
from mpfl.wire.frame import Frame, decode_frame, encode_frame
from mpfl.world import World, build_world
from server.checkpoint import load_checkpoint, save_checkpoint
from server.methods import server_method
from server.sampling import asked_clients
from tests.runs import small

Order = Callable[[list[int]], Iterable[int]]
WHOLE_REQUESTS = {"fedavg", "fedpm", "klms"}
"""Methods whose requests build on nothing that a client must still hold."""


def tiny(**overrides: Any) -> Experiment:
    """Return the small experiment on 240 samples, masks sent as they are; see `small`."""
    quick = {"data__train_samples": 240, "data__test_samples": 60, "wire__mask_codec": "raw"}
    return small(**{**quick, **overrides})


class Federation:
    """One run, round by round.

    Attributes
    ----------
    states
        What each client keeps.
    requests, replies, trained
        Of the last round: frames, and the model float32[P + B] each client was left with.
    """

    def __init__(self, experiment: Experiment, world: World | None = None) -> None:
        self.world = world or build_world(experiment)
        # Any: tests look at what only one method has.
        self.method: Any = server_method(self.world)
        self.states = {c: ClientState() for c in range(experiment.data.clients)}
        self.requests: dict[int, Frame] = {}
        self.replies: dict[int, Frame] = {}
        self.trained: dict[int, NDArray[np.float32]] = {}
        self.number = 0
        self._frames = hashlib.sha256()

    def client(self, number: int) -> Client:
        """Return one client with the state it has kept."""
        return Client(self.world, number, self.states[number])

    def play(
        self,
        rounds: int = 1,
        order: Order = sorted,
        lost: Iterable[int] = (),
        uninformed: Iterable[int] = (),
    ) -> dict[str, Any]:
        """Play rounds and return the columns of the last one.

        The replies of `lost` clients never arrive. In every round those of `uninformed`, and no
        others, must say that they do not hold what their request builds on.
        """
        columns: dict[str, Any] = {}
        for _ in range(rounds):
            columns = self._play(order, set(lost), sorted(uninformed))
        return columns

    def _play(self, order: Order, lost: set[int], uninformed: list[int]) -> dict[str, Any]:
        self.number += 1
        clients = asked_clients(self.world.experiment, self.method, self.number)
        self.method.begin_round(self.number, clients)
        self.requests, self.replies, self.trained = {}, {}, {}
        assert [number for number in clients if not self._asked(number)] == uninformed
        arrived = [number for number in order(list(self.replies)) if number not in lost]
        for number in arrived:
            self.method.accept(number, self.replies[number])
        columns: dict[str, Any] = self.method.finish_round(bool(arrived))
        return columns

    def _asked(self, number: int) -> bool:
        """Let a client answer; returns whether it could."""
        self.requests[number] = self._carried(self.method.request(number).frame)
        handle = handler(self.world.experiment.method)
        try:
            reply = handle(self.requests[number], self.client(number))
        except Uninformed:
            self.method.forget(number)
            return False
        self.replies[number] = self._carried(reply)
        self.trained[number] = self.world.model.read_model()
        return True

    def restart(self, path: Path) -> None:
        """Write a checkpoint and continue with a new server half that has read it."""
        save_checkpoint(path, {}, flatten(self.method.state))
        kind = type(self.method.state)
        self.method = server_method(self.world)
        _, arrays = load_checkpoint(path)
        self.method.restore(restore(kind, arrays, self.world.layout))

    def digest(self) -> str:
        """Return what two equal runs have in common: frames, mask and model."""
        result = self._frames.copy()
        result.update(self.method.mask().to_bytes())
        result.update(self.method.model().tobytes())
        return result.hexdigest()

    def weights(self) -> NDArray[np.int64]:
        """Return each client's number of samples."""
        return np.array([len(part) for part in self.world.parts])

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of what the clients had trained, weighted by samples."""
        rows = np.stack([self.trained[number] for number in range(len(self.world.parts))])
        mean: NDArray[np.float64] = np.average(rows.astype(np.float64), 0, self.weights())
        return mean

    def survivors(self) -> NDArray[np.bool_]:
        """Return bool[P + B]: what the mask keeps."""
        structure, mask = self.world.structure, self.method.mask()
        return np.concatenate([structure.parameter_mask(mask), structure.buffer_mask(mask)])

    def _carried(self, frame: Frame) -> Frame:
        blob = encode_frame(frame)
        self._frames.update(blob)
        return decode_frame(blob)
