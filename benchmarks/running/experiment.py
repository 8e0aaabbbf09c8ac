"""One run, on the engine of choice, from a resolved experiment to a run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from clients.app import client_app
from mpfl.config import Experiment, from_mapping, to_mapping, to_toml
from mpfl.data import load_data
from mpfl.errors import InputError, keyed
from mpfl.methods import options_of
from mpfl.plugins import load as load_plugins
from mpfl.presets import anchored
from mpfl.world import Loader, World, build_world
from server.app import run_session
from server.health import ignored_text
from server.loop import OnRound
from server.methods import server_method
from server.methods.base import ServerMethod
from server.methods.settings import doubtful_settings, ignored_settings, told_settings
from server.runfolder import Progress, RunFolder
from server.transport.grid import LocalGrid

Engine = Callable[..., dict[str, Any]]
"""Runs an experiment into a folder; arguments and result as for `run`."""


@dataclass(frozen=True)
class Plan:
    """A run that may begin.

    Attributes
    ----------
    ignored
        Keys of the configuration without effect → why.
    doubts
        What else about it is hardly meant.
    """

    world: World
    ignored: Mapping[str, str]
    doubts: Sequence[str]

    def notes(self, given: Collection[str] = ()) -> list[str]:
        """Return what to say before the run, a line each.

        Parameters
        ----------
        given
            Dotted keys that were set; others are told of where they have no default value.
        """
        told = told_settings(self.world.experiment, self.ignored, given)
        return [*([f"without effect: {ignored_text(told)}"] if told else []), *self.doubts]


def plan(experiment: Experiment, load: Loader = load_data) -> Plan:
    """Build the world, and find out which settings have no effect; errors as for `validate`."""
    world, method = _built(experiment, load)
    return Plan(world, ignored_settings(world, method), doubtful_settings(experiment))


def validate(experiment: Experiment, load: Loader = load_data) -> World:
    """Build the world; every error of the user's input comes out here, before any file.

    Parameters
    ----------
    load
        Reads the data set.

    Raises
    ------
    InputError
        One line naming the key, what was got and what is allowed.
    """
    return _built(experiment, load)[0]


def _built(experiment: Experiment, load: Loader) -> tuple[World, ServerMethod]:
    load_plugins(experiment)
    with keyed("method"):
        options_of(experiment)
    torch.set_num_threads(1)
    world = build_world(experiment, load)
    method = server_method(world)  # some refuse what they cannot do
    if experiment.faults.byzantine and not method.has_ballots:
        raise InputError(f"faults.byzantine: {experiment.method!r} has no ballots to forge")
    return world, method


def with_absolute_paths(experiment: Experiment) -> Experiment:
    """Return the experiment as it reads from any folder."""
    return from_mapping(anchored(to_mapping(experiment), Path()))


def run(
    experiment: Experiment,
    out: Path,
    on_round: OnRound | None = None,
    tags: Mapping[str, Any] | None = None,
    workers: int | None = None,
    world: World | None = None,
) -> dict[str, Any]:
    """Run an experiment on the local engine into the new or empty folder `out`.

    Parameters
    ----------
    tags
        Replace columns of the summary, e.g. the label a comparison gives to this run.
    workers
        Worker processes instead of ``engine.workers`` (never changes a result).
    world
        What `plan` or `validate` made of the experiment; by default it is made now.

    Returns
    -------
    summary
        The content of ``summary.json``.

    Raises
    ------
    InputError
        One line naming the key, what was got and what is allowed.
    RunError
        If the run comes to no result.
    """
    world = world or validate(with_absolute_paths(experiment))
    with RunFolder.create(out, world.experiment) as folder:
        return _session(world, folder, None, on_round, tags, workers)


def resume(
    out: Path,
    on_round: OnRound | None = None,
    tags: Mapping[str, Any] | None = None,
    workers: int | None = None,
    load: Loader = load_data,
) -> dict[str, Any] | None:
    """Continue a killed run; returns None if it had already finished. Arguments as for `run`.

    Parameters
    ----------
    load
        Reads the data set.

    Raises
    ------
    InputError
        If `out` is no run folder, is in use, holds a file that was edited or damaged, or the
        inputs have changed.
    RunError
        If the run comes to no result.
    """
    folder, experiment, progress = RunFolder.open(out)
    with folder:
        if folder.finished:
            return None
        world = validate(experiment, load)
        return _session(world, folder, progress, on_round, tags, workers)


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
    app = client_app(lambda _: world)
    with LocalGrid(app, nodes, run_config, workers, experiment.together) as grid:
        return run_session(world, grid, folder, progress, on_round, tags=tags)
