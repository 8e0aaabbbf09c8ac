"""The engine ``ray``: one run on Flower's simulation engine, through ``flwr run``."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.engines import programs as flower
from benchmarks.engines.cluster import Cluster, need_ray
from benchmarks.running.experiment import validate, with_absolute_paths
from mpfl.config import Experiment, to_toml
from mpfl.errors import RunError
from mpfl.world import World
from server.health import read_failure
from server.loop import OnRound
from server.runfolder import SUMMARY, check_empty
from server.transport.grid import worker_count


def run_on_ray(
    experiment: Experiment,
    out: Path,
    on_round: OnRound | None = None,
    world: World | None = None,
    cluster: Cluster | None = None,
) -> dict[str, Any]:
    """Run an experiment on Ray into the new or empty folder `out`; arguments as for `run`.

    Everything Flower writes stays in a temporary folder, its log of the run goes to
    ``flower.log`` in `out`, and the SuperLink that is started for the run ends with it.

    Parameters
    ----------
    cluster
        What `find_cluster` has found: each of its cores becomes an actor. By default a cluster is
        started on this machine, and ended.

    Raises
    ------
    InputError
        If the input is wrong or the extra ``ray`` is not installed.
    RunError
        If the run came to no result.
    RuntimeError
        If it failed otherwise; the text has the end of its log.
    """
    need_ray()
    check_empty(out)
    experiment = (world or validate(with_absolute_paths(experiment))).experiment
    out = out.resolve()
    with tempfile.TemporaryDirectory(prefix="mpfl-flower-") as name:
        home = Path(name)
        # Flower has no setting for this, and Ray by itself joins whatever runs on this machine.
        ray_address = {"RAY_ADDRESS": cluster.address if cluster else "local"}
        with flower.Programs(home, ray_address) as programs:
            try:
                federation = _federation(experiment, cluster)
                _simulate(programs, _portable(experiment), out, on_round, federation)
            except RuntimeError:
                if failure := read_failure(out):
                    raise RunError(failure.error) from None
                raise
        shutil.copyfile(programs.log("run"), out / flower.LOG)
    summary: dict[str, Any] = json.loads((out / SUMMARY).read_text())
    return summary


def _simulate(
    programs: flower.Programs,
    experiment: Experiment,
    out: Path,
    on_round: OnRound | None,
    federation: list[str],
) -> None:
    app = flower.stage_app(programs.home / "app")
    port = flower.free_port()
    superlink = programs.start(
        "superlink", "flower-superlink", "--insecure", "--simulation", "--port", str(port)
    )
    flower.wait_until_healthy(superlink, port)
    programs.connect(f"127.0.0.1:{port}")
    run_config = {"experiment": to_toml(experiment), "out": str(out), "engine": "ray"}
    run_id = flower.submit(programs, app, run_config, federation)
    flower.follow(programs, run_id, out, on_round)


def _federation(experiment: Experiment, cluster: Cluster | None) -> list[str]:
    """Return the simulation's settings: a one-core actor for each worker, or core of a cluster."""
    clients = experiment.data.clients
    actors = max(1, worker_count(experiment.engine.workers, clients))
    return [
        f"num-supernodes={clients}",
        "client-resources-num-cpus=1",
        "client-resources-num-gpus=0.0",
        *([] if cluster else [f"init-args-num-cpus={actors}"]),
    ]


def _portable(experiment: Experiment) -> Experiment:
    """Return the experiment as another process, in another folder, must see it."""
    if not experiment.data.folder:
        return experiment
    folder = str(Path(experiment.data.folder).expanduser().resolve())
    return replace(experiment, data=replace(experiment.data, folder=folder))
