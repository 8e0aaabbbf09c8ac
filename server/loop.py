"""The one round loop: requests out, replies in, ledger, record, checkpoint."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid

from mpfl.config import Experiment
from mpfl.seeding import numpy_rng
from mpfl.training.local import Evaluation
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, decode_frame, encode_frame
from mpfl.world import World
from server.ledger import DOWNLINK, UPLINK, Ledger
from server.methods import METHODS
from server.methods.base import Request, ServerMethod
from server.runfolder import Progress, RunFolder
from server.transport.courier import Courier, Delivery
from server.transport.grid import LocalGrid

OnRound = Callable[[dict[str, Any]], None]

_MOST_ERRORS = 3  # told in full in a round's record; all are counted


@dataclass
class RunState:
    """What a run carries from round to round.

    Attributes
    ----------
    round
        Rounds completed.
    seconds
        Wall time spent, over all sessions of a resumed run.
    last
        Record of the last round.
    """

    method: ServerMethod
    ledger: Ledger
    round: int = 0
    seconds: float = 0.0
    last: dict[str, Any] | None = None


def sample_clients(experiment: Experiment, round_number: int) -> list[int]:
    """Return the sampled partitions of a round, sorted; a function of (seed, round) alone."""
    count, chosen = experiment.data.clients, experiment.federation.clients_per_round
    if chosen in (0, count):
        return list(range(count))
    rng = numpy_rng(experiment.seed, "sampling", round_number)
    return sorted(int(i) for i in rng.choice(count, chosen, replace=False))


def asked_clients(experiment: Experiment, method: ServerMethod, round_number: int) -> list[int]:
    """Return the partitions that a method asks in a round, sorted."""
    if not method.uses_clients:
        return []
    return sorted(method.choose(round_number, sample_clients(experiment, round_number)))


def run_rounds(
    world: World,
    grid: Grid,
    folder: RunFolder,
    progress: Progress | None = None,
    on_round: OnRound | None = None,
) -> RunState:
    """Run (or continue) an experiment to its end.

    Parameters
    ----------
    progress
        Where to continue; None starts at round 1.
    on_round
        Called with each round's record after it was written.
    """
    experiment = world.experiment
    state = RunState(METHODS[experiment.method](world), Ledger())
    if progress:
        _restore(state, grid, progress)
    clients = experiment.data.clients if state.method.uses_clients else 0
    courier = Courier(grid, clients, experiment.engine.timeout)
    while state.round < experiment.federation.rounds and not _stop(experiment, state):
        started = time.monotonic()
        record = _round(world, courier, state, folder)
        state.seconds += time.monotonic() - started
        record["seconds"] = round(state.seconds, 3)
        state.last = record
        if record["test_accuracy"] is None and _stop(experiment, state):
            result = evaluate_model(world, state.method)  # the last round always is
            record |= {"test_accuracy": result.accuracy, "test_loss": result.loss}
        folder.write_round(record, state.ledger.close_round())
        last = state.round == experiment.federation.rounds
        if last or state.round % experiment.engine.checkpoint_every == 0:
            folder.checkpoint(*_checkpoint(state, grid))
        if on_round:
            on_round(record)
    return state


def _round(world: World, courier: Courier, state: RunState, folder: RunFolder) -> dict[str, Any]:
    experiment, method = world.experiment, state.method
    state.round += 1
    clients = asked_clients(experiment, method, state.round)
    phase = method.phase
    method.begin_round(state.round, clients)
    exchange = Exchange(state, phase, folder if experiment.engine.record_ballots else None)
    for delivery in courier.deliver(state.round, exchange.requests(clients)):
        exchange.receive(delivery)
    enough = exchange.accepted >= min(experiment.federation.min_replies, len(clients))
    columns = method.finish_round(enough)
    result = _evaluate(world, state)
    density, density_all = world.structure.densities(method.mask())
    up, down = state.ledger.totals[UPLINK], state.ledger.totals[DOWNLINK]
    return {
        "round": state.round,
        "phase": phase,
        "density": density,
        "density_all_parameters": density_all,
        "test_accuracy": result.accuracy if result else None,
        "test_loss": result.loss if result else None,
        "uplink_bytes": up,
        "downlink_bytes": down,
        "total_bytes": up + down,
        "clients_sampled": len(clients),
        "clients_replied": exchange.accepted,
        "counted": enough,
        "rejected": dict(sorted(exchange.rejected.items())),
        "errors": exchange.errors,
        "layer_density": _layer_density(method),
        **columns,
    }


class Exchange:
    """One round's traffic: makes the requests, judges the replies, books both."""

    def __init__(self, state: RunState, phase: str, ballots: RunFolder | None) -> None:
        self._state, self._phase, self._ballots = state, phase, ballots
        self._requests: dict[int, tuple[Request, bytes]] = {}
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self.errors: list[str] = []

    def requests(self, clients: list[int]) -> Iterator[tuple[int, bytes]]:
        """Yield client and frame of every request of the round."""
        for client in clients:
            request = self._state.method.request(client)
            blob = encode_frame(request.frame)
            self._requests[client] = request, blob
            yield client, blob

    def receive(self, delivery: Delivery) -> None:
        """Book what came of a request, and let the method accept the reply or reject it."""
        request, blob = self._requests.pop(delivery.client)
        self._book(
            delivery.client,
            DOWNLINK,
            request.frame,
            blob,
            delivery.request_bytes,
            request.formula_bytes,
            request.bound_bytes,
        )
        if delivery.reply is None:
            self._reject(delivery.reason, delivery.error)
            return
        frame, formula, bound = None, 0.0, 0.0
        try:
            frame = decode_frame(delivery.reply)
            formula, bound = self._accept(delivery.client, frame)
            self.accepted += 1
        except WireError as error:
            self._reject(f"bad {error.field}", f"client {delivery.client}: {error}")
        except ValueError as error:
            self._reject("bad values", f"client {delivery.client}: {error}")
        self._book(
            delivery.client, UPLINK, frame, delivery.reply, delivery.reply_bytes, formula, bound
        )

    def _accept(self, client: int, frame: Frame) -> tuple[float, float]:
        if frame.round != self._state.round:
            raise WireError("round", f"expected {self._state.round}, got {frame.round}")
        if frame.kind is Kind.REFUSAL:
            self._state.method.forget(client)
            raise WireError("state", "the client does not hold what the request builds on")
        receipt = self._state.method.accept(client, frame)
        if self._ballots and receipt.ballot is not None:
            self._ballots.write_ballot(self._state.round, client, receipt.ballot.to_bytes())
        return receipt.formula_bytes, receipt.bound_bytes

    def _reject(self, reason: str, text: str) -> None:
        self.rejected[reason] += 1
        if len(self.errors) < _MOST_ERRORS:
            self.errors.append(text)

    def _book(
        self,
        client: int,
        direction: str,
        frame: Frame | None,
        blob: bytes,
        message_bytes: int,
        formula: float,
        bound: float,
    ) -> None:
        self._state.ledger.book(
            round_number=self._state.round,
            phase=self._phase,
            client=client,
            direction=direction,
            frame=frame,
            blob=blob,
            message_bytes=message_bytes,
            formula_bytes=formula,
            bound_bytes=bound,
        )


def evaluate_model(world: World, method: ServerMethod) -> Evaluation:
    """Evaluate a method's model, under its mask, on the held-out test set."""
    model = method.model()
    count = world.structure.parameters.total
    world.model.load(model[:count], model[count:])
    local = world.experiment.model.batch_norm == "local"
    return world.masked.evaluate(
        world.test_samples,
        method.mask(),
        batch_statistics=local,
        channels_last=world.experiment.train.channels_last,
    )


def _evaluate(world: World, state: RunState) -> Evaluation | None:
    federation = world.experiment.federation
    if state.round % federation.eval_every and state.round != federation.rounds:
        return None
    return evaluate_model(world, state.method)


def _layer_density(method: ServerMethod) -> dict[str, float]:
    mask = method.mask()
    counts = zip(mask.layout.names, mask.counts(), mask.layout.units, strict=True)
    return {name: kept / units for name, kept, units in counts}


def _stop(experiment: Experiment, state: RunState) -> bool:
    if state.last is None:
        return False
    rule, last = experiment.stop, state.last
    accuracy = last["test_accuracy"]
    return bool(
        (rule.target_accuracy and accuracy is not None and accuracy >= rule.target_accuracy)
        or (rule.byte_budget and last["total_bytes"] >= rule.byte_budget)
        or (rule.seconds and state.seconds >= rule.seconds)
    )


def _checkpoint(state: RunState, grid: Grid) -> tuple[dict[str, Any], dict[str, Any]]:
    facts = {
        "round": state.round,
        "seconds": state.seconds,
        "totals": state.ledger.totals,
        "digest": state.ledger.digest,
        "last": state.last,
    }
    clients = grid.states.arrays() if isinstance(grid, LocalGrid) else {}
    return facts, {"method": state.method.state(), "clients": clients}


def _restore(state: RunState, grid: Grid, progress: Progress) -> None:
    facts = progress.facts
    state.round, state.seconds, state.last = facts["round"], facts["seconds"], facts["last"]
    state.ledger.totals = dict(facts["totals"])
    state.ledger.digest = facts["digest"]
    state.method.restore(progress.arrays["method"])
    if isinstance(grid, LocalGrid):
        grid.states.restore(progress.arrays.get("clients", {}))
