"""The one round loop: requests out, replies in, ledger, record, checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from flwr.serverapp import Grid

from mpfl.config import Experiment
from mpfl.data import Samples
from mpfl.errors import RunError, shown
from mpfl.faults.replies import tolerated
from mpfl.nested import build
from mpfl.plugins import blamed
from mpfl.state import Arrays, flatten, restore
from mpfl.training.local import Evaluation
from mpfl.world import World
from server.health import Standing
from server.ledger import Ledger
from server.methods import server_method
from server.methods.base import ServerMethod
from server.records import DOWNLINK, UPLINK, RoundRecord, to_json
from server.round import Exchange, RunState
from server.runfolder import Progress, RunFolder
from server.sampling import asked_clients
from server.summary import check_inputs, input_digests, kernels_in_use, warn_of_other_kernels
from server.transport.courier import Courier
from server.transport.grid import LocalGrid
from server.transport.states import Holdings

OnRound = Callable[[dict[str, Any]], None]
_OF_METHODS = ("counted", "vote", "moved", "client_density", "extra")
"""Columns of a record that methods fill in."""
_UNTESTED: dict[str, Any] = {"test_accuracy": None, "test_loss": None}


def run_rounds(
    world: World,
    grid: Grid,
    folder: RunFolder,
    progress: Progress | None = None,
    on_round: OnRound | None = None,
    simulated: bool = True,
) -> RunState:
    """Run (or continue) an experiment to its end.

    Parameters
    ----------
    progress
        Where to continue; None starts at round 1.
    on_round
        Called with each round's record after it was written.
    simulated
        Whether all clients are this machine's, so that one that fails ends the run unless
        ``faults.tolerate`` says otherwise.

    Raises
    ------
    RunError
        If a client fails and that is not tolerated, a plugin fails in a round, or no round of a
        phase counted.
    InputError
        If the inputs are not those that the run began with.
    """
    experiment = world.experiment
    state = RunState(server_method(world), Ledger(), inputs=input_digests(world))
    if progress:
        _restore(world, state, grid, progress)
        state.standing = Standing.of(folder.rounds())
    goes_on = partial(tolerated, experiment.faults.tolerate, simulated)
    clients = experiment.data.clients if state.method.uses_clients else 0
    courier = Courier(grid, clients, experiment.engine.timeout, lambda: world.fingerprint)
    while state.round < experiment.federation.rounds and not _stop(experiment, state):
        with _told(state.round + 1):
            record = state.last = _round(world, courier, state, folder, goes_on)
        if record.test_accuracy is None and _stop(experiment, state):
            record = replace(record, **evaluations(world, state.method))  # the last always is
            state.last = record
        folder.write_round(record, state.ledger.close_round())
        state.standing.add(record)
        last = state.round == experiment.federation.rounds
        if last or state.method.phase != record.phase or _stop(experiment, state):
            state.standing.check(record.phase)
        if last or state.round % experiment.engine.checkpoint_every == 0:
            folder.checkpoint(*_checkpoint(state, grid))
        if on_round:
            on_round(to_json(record))
    return state


@contextmanager
def _told(number: int) -> Iterator[None]:
    """Let what a plugin raises on the server end a round in one line, as at a client."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        if why := blamed(error):
            raise RunError(f"round {number}: {why}") from error
        raise


def _round(
    world: World,
    courier: Courier,
    state: RunState,
    folder: RunFolder,
    goes_on: Callable[[str], bool],
) -> RoundRecord:
    experiment, method, started = world.experiment, state.method, time.monotonic()
    state.round += 1
    clients = asked_clients(experiment, method, state.round)
    phase = method.phase
    method.begin_round(state.round, clients)
    ballots = folder if experiment.engine.record_ballots else None
    exchange = Exchange(state, phase, ballots, goes_on)
    for delivery in courier.deliver(state.round, exchange.requests(clients)):
        exchange.receive(delivery)
    enough = exchange.accepted >= min(experiment.federation.min_replies, len(clients))
    columns = _checked(method.finish_round(enough))
    results = evaluations(world, method) if _tested(world, state) else _UNTESTED
    mask = method.mask()
    density, density_all = world.structure.densities(mask)
    up, down = state.ledger.totals[UPLINK], state.ledger.totals[DOWNLINK]
    state.seconds += time.monotonic() - started
    return RoundRecord(
        round=state.round,
        phase=phase,
        density=density,
        density_all_parameters=density_all,
        **results,
        uplink_bytes=up,
        downlink_bytes=down,
        total_bytes=up + down,
        clients_sampled=len(clients),
        clients_replied=exchange.accepted,
        rejected=dict(sorted(exchange.rejected.items())),
        errors=exchange.errors,
        layer_density=mask.layer_densities(),
        seconds=round(state.seconds, 3),
        **{"counted": enough, **columns},
    )


def _checked(columns: dict[str, Any]) -> dict[str, Any]:
    """Return what a method adds to a round's record; RunError if that is no such thing."""
    if not isinstance(columns, dict):
        raise RunError(f"finish_round returned {shown(columns)}, expected a dictionary")
    for key in columns:
        if key not in _OF_METHODS:
            text = f"finish_round returned {key!r}; numbers of a method's own go into 'extra'"
            raise RunError(text)
    for key, value in (columns.get("extra") or {}).items():
        if not isinstance(value, int | float):
            kind = type(value).__name__
            raise RunError(f"finish_round: extra[{key!r}] is of type {kind}, expected a number")
    return columns


def evaluations(world: World, method: ServerMethod) -> dict[str, Any]:
    """Evaluate a method's model, under its mask, on all held-out data.

    Returns
    -------
    dict
        The columns ``test_accuracy`` and ``test_loss`` of a record, of text ``perplexity``, and the
        first two of ``validation`` where the run has samples for that.
    """
    result = _evaluate(world, method, world.test_samples)
    found = _columns("test", result)
    if world.data.test.has_tokens and world.data.test.targets.dim() == 2:
        found["perplexity"] = math.exp(min(result.loss, 700.0))  # beyond it: no float
    held = world.validation_samples
    return found if held is None else found | _columns("validation", _evaluate(world, method, held))


def _evaluate(world: World, method: ServerMethod, samples: Samples) -> Evaluation:
    world.model.load_model(method.model())
    local = world.experiment.model.batch_norm == "local"
    return world.masked.evaluate(
        samples,
        method.mask(),
        batch_statistics=local,
        channels_last=world.experiment.train.channels_last,
    )


def _columns(held_out: str, result: Evaluation) -> dict[str, Any]:
    return {f"{held_out}_accuracy": result.accuracy, f"{held_out}_loss": result.loss}


def _tested(world: World, state: RunState) -> bool:
    federation = world.experiment.federation
    return state.round % federation.eval_every == 0 or state.round == federation.rounds


def _stop(experiment: Experiment, state: RunState) -> bool:
    if state.last is None:
        return False
    rule, last = experiment.stop, state.last
    accuracy = last.deciding_accuracy
    return bool(
        (rule.target_accuracy and accuracy is not None and accuracy >= rule.target_accuracy)
        or (rule.byte_budget and last.total_bytes >= rule.byte_budget)
        or (rule.seconds and state.seconds >= rule.seconds)
    )


def _checkpoint(state: RunState, grid: Grid) -> tuple[dict[str, Any], Arrays]:
    facts = {
        "round": state.round,
        "seconds": state.seconds,
        "totals": state.ledger.totals,
        "messages": state.ledger.messages,
        "digest": state.ledger.digest,
        "last": to_json(state.last),
        "inputs": state.inputs,
        "machine": kernels_in_use(),
    }
    clients = grid.states.holdings() if isinstance(grid, LocalGrid) else Holdings()
    return facts, flatten(state.method.state, "method/") | flatten(clients, "clients/")


def _restore(world: World, state: RunState, grid: Grid, progress: Progress) -> None:
    facts = progress.facts
    check_inputs(world.experiment, state.inputs, facts.get("inputs", {}))
    warn_of_other_kernels(facts.get("machine", {}))
    state.round, state.seconds = facts["round"], facts["seconds"]
    state.last = build(RoundRecord, facts["last"], "last.")
    state.ledger.totals = dict(facts["totals"])
    state.ledger.messages = dict(facts["messages"])
    state.ledger.digest = facts["digest"]
    kind, arrays = type(state.method.state), progress.arrays
    state.method.restore(restore(kind, arrays, world.layout, "method/"))
    if isinstance(grid, LocalGrid):
        grid.states.restore(restore(Holdings, arrays, world.layout, "clients/"))
