"""One run, on the engine of choice, from a resolved experiment to a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from clients.app import app as client_app
from mpfl.config import Experiment, to_toml
from mpfl.errors import InputError, keyed
from mpfl.methods import options_of
from mpfl.plugins import load
from mpfl.world import World, world_from_toml
from server.app import run_session
from server.loop import OnRound
from server.methods import server_method
from server.runfolder import Progress, RunFolder
from server.transport.grid import LocalGrid

Engine = Callable[[Experiment, Path, OnRound], dict[str, Any]]
"""Runs an experiment into a folder; arguments and result as for `run`."""


def validate(experiment: Experiment) -> World:
    """Build the world; every error of the user's input comes out here, before any file.

    Raises
    ------
    InputError
        One line naming the key, what was got and what is allowed.
    """
    load(experiment)
    with keyed("method"):
        options_of(experiment)
    torch.set_num_threads(1)
    world = world_from_toml(to_toml(experiment))
    method = server_method(world)  # some refuse what they cannot do
    if experiment.faults.byzantine and not method.has_ballots:
        raise InputError(f"faults.byzantine: {experiment.method!r} has no ballots to forge")
    return world


def run(
    experiment: Experiment,
    out: Path,
    on_round: OnRound | None = None,
    tags: Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Run an experiment on the local engine into the new or empty folder `out`.

    Parameters
    ----------
    tags
        Replace columns of the summary, e.g. the label a comparison gives to this run.
    workers
        Worker processes instead of ``engine.workers`` (never changes a result).

    Returns
    -------
    summary
        The content of ``summary.json``.
    """
    world = validate(experiment)
    folder = RunFolder.create(out, experiment)
    return _session(world, folder, None, on_round, tags, workers)


def resume(
    out: Path,
    on_round: OnRound | None = None,
    tags: Mapping[str, Any] | None = None,
    workers: int | None = None,
) -> dict[str, Any] | None:
    """Continue a killed run; returns None if it had already finished. Arguments as for `run`.

    Raises
    ------
    InputError
        If `out` is no run folder or its checkpoint is damaged.
    """
    folder, experiment, progress = RunFolder.open(out)
    if folder.finished:
        return None
    return _session(validate(experiment), folder, progress, on_round, tags, workers)


def _session(
    world: World,
    folder: RunFolder,
    progress: Progress | None,
    on_round: OnRound | None,
    tags: Mapping[str, Any] | None,
    workers: int | None,
) -> dict[str, Any]:
    experiment = world.experiment
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    run_config = {"experiment": to_toml(experiment)}
    nodes = experiment.data.clients
    workers = experiment.engine.workers if workers is None else workers
    with LocalGrid(client_app, nodes, run_config, workers, experiment.together) as grid:
        return run_session(world, grid, folder, progress, on_round, tags=tags)
