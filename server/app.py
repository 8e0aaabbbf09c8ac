"""The ServerApp, and the session it shares with the local engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mpfl.config import Experiment, from_toml, to_toml
from mpfl.errors import InputError, RunError, describe
from mpfl.world import World, world_from_toml
from server.health import forget_failure, write_failure
from server.loop import OnRound, run_rounds
from server.records import Failure, to_json
from server.runfolder import Progress, RunFolder
from server.summary import model_bytes, summarize
from server.transport.grid import LocalGrid

app = ServerApp()

SIMULATIONS = ("local", "ray")
"""Engines whose clients are all of this machine."""


def run_session(
    world: World,
    grid: Grid,
    folder: RunFolder,
    progress: Progress | None = None,
    on_round: OnRound | None = None,
    engine: str = "local",
    tags: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run an experiment over `grid` into `folder`; returns what ``summary.json`` says.

    Parameters
    ----------
    tags
        Replace columns of the summary, e.g. the label a comparison gives to this run.

    Raises
    ------
    RunError
        If there is no result: clients failed, or no round of a phase counted. ``failure.json``
        says so too; what was recorded until then stays.
    """
    torch.set_num_threads(1)  # as in every client: results must not depend on threads
    forget_failure(folder.path)
    try:
        state = run_rounds(world, grid, folder, progress, on_round, engine in SIMULATIONS)
    except Exception as error:
        if not isinstance(error, InputError | OSError):  # those are mended, and the run goes on
            text = str(error) if isinstance(error, RunError) else describe(error).splitlines()[0]
            write_failure(folder.path, failure(world.experiment, text, tags))
        raise
    workers = grid.workers if isinstance(grid, LocalGrid) else 0
    summary = replace(summarize(world, state, engine, workers), **(tags or {}))
    mask = state.method.mask().to_bytes()
    folder.finish(mask, model_bytes(world, state.method.model()), summary)
    return dict(to_json(summary))


def failure(experiment: Experiment, error: str, tags: Mapping[str, Any] | None = None) -> Failure:
    """Return the record of a run that ended without a result."""
    own = Failure(label=experiment.method, seed=experiment.seed, sweep={}, error=error)
    return replace(own, **(tags or {}))


def experiment_of(run_config: Mapping[str, Any]) -> Experiment:
    """Return the experiment that a Flower run configuration describes.

    ``experiment`` is TOML text (empty: all defaults), completed to every key.
    """
    return from_toml(str(run_config.get("experiment", "")))


def output_folder(run_config: Mapping[str, Any], run_id: int) -> Path:
    """Return where a Flower run writes: ``out``, or ``~/mpfl-runs/<run id>`` if that is empty.

    Raises
    ------
    InputError
        If ``out`` is relative: the ServerApp runs in the folder of whoever started the
        SuperLink, which is hardly the one that was meant.
    """
    text = str(run_config.get("out", ""))
    if not text:
        return Path.home() / "mpfl-runs" / str(run_id)
    out = Path(text)
    if not out.is_absolute():
        raise InputError(f"run-config out: got {text!r}, expected an absolute path")
    return out


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment of the run configuration into its folder ``out``."""
    experiment = experiment_of(context.run_config)
    out = output_folder(context.run_config, context.run_id)
    world = world_from_toml(to_toml(experiment))
    engine = str(context.run_config.get("engine", "flower"))
    with RunFolder.create(out, experiment) as folder:
        run_session(world, grid, folder, on_round=_print_round, engine=engine)
    print(f"run folder: {out}", flush=True)


def _print_round(record: dict[str, Any]) -> None:
    accuracy = record["test_accuracy"]
    shown = "" if accuracy is None else f" accuracy {accuracy:.4f}"
    print(  # the log of a Flower run is its standard output
        f"round {record['round']} {record['phase']}{shown} density {record['density']:.4f} "
        f"bytes {record['total_bytes']}",
        flush=True,
    )
