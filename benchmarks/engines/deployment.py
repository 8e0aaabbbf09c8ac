"""A real Flower deployment on this machine: TLS, keys, a gate, three nodes, bytes on the sockets.

``python -m benchmarks.engines.deployment [CONFIG] [--set key=value]… [--out DIR]``
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.engines import programs as flower
from benchmarks.engines.hosts import Hosts
from benchmarks.engines.socket_bytes import Meter, Say, SocketBytes
from benchmarks.running.compare_config import split_table
from benchmarks.running.experiment import run, validate
from mpfl.config import Experiment, StopConfig, from_mapping, to_toml
from mpfl.errors import InputError
from mpfl.presets import resolve
from mpfl.world import build_world
from server.runfolder import LEDGER, SUMMARY, check_empty

SOCKETS = "sockets.json"
DIGESTS = ("mask_digest", "model_digest", "payload_digest")
DEMO = ("data.clients=3", "prune.rounds=2", "federation.rounds=4", "train.epochs=1")
WEIGHTS = "weights.safetensors"
_AWAY_SECONDS = 6.0
_TROUBLED_ROUNDS = 60
_WAIT_SECONDS = 180.0


def deploy(experiment: Experiment, out: Path, say: Say = print) -> dict[str, Any]:
    """Run an experiment through a SuperLink, a gate and one SuperNode per client, on loopback.

    TLS with an authority made for the occasion, nodes known by their keys. A node with an
    unknown key and a run submitted by a stranger are tried first, a node that starts from other
    weights and one that is killed and comes back at last, in a run of their own. Everything is
    stopped before this returns.

    Returns
    -------
    summary
        The content of ``summary.json``; ``sockets.json`` lies beside it.

    Raises
    ------
    InputError
        If the input is wrong.
    RuntimeError
        If anything is let in or let down that should not be.
    """
    check_empty(out)
    validate(experiment)
    with tempfile.TemporaryDirectory(prefix="mpfl-deployment-") as name:
        home = Path(name)
        written = home / "superlink-run"
        with (
            flower.Programs(home) as programs,
            Hosts(programs, experiment.data.clients) as hosts,
        ):
            measured = _run(hosts, experiment, written, say)
        shutil.copytree(written, out, dirs_exist_ok=True)
    (out / SOCKETS).write_text(json.dumps(asdict(measured), indent=2) + "\n")
    summary: dict[str, Any] = json.loads((out / SUMMARY).read_text())
    return summary


def _run(hosts: Hosts, experiment: Experiment, out: Path, say: Say) -> SocketBytes:
    programs, clients = hosts.programs, experiment.data.clients
    say(row("SuperLink for the operator alone", f"127.0.0.1:{hosts.port}, nodes pass a gate"))
    names = [f"node{i}" for i in range(clients)]
    for name in names:
        hosts.register(name)
    say(row("a node with an unregistered key", hosts.strange_node()))
    nodes = [hosts.start_node(name, i) for i, name in enumerate(names)]
    app = flower.stage_app(programs.home / "app")
    say(row("a run submitted with the CA certificate alone", hosts.strange_run(app)))
    before, meter = hosts.proxy.totals, Meter(hosts.proxy, say)
    run_config = {"experiment": to_toml(experiment), "out": str(out), "engine": "deployment"}
    run_id = flower.submit(programs, app, run_config)
    flower.follow(programs, run_id, out, meter.on_round)
    measured = meter.result(before, out / LEDGER)
    say(measured.text())
    shutil.copyfile(programs.log("run"), out / flower.LOG)
    _Trouble(hosts, nodes, app, say).run(experiment)
    return measured


def row(what: str, seen: str) -> str:
    """Return a line of the demonstration's table."""
    return f"{what:<46} {seen}"


class _Served(Exception):  # noqa: N818 - what was waited for
    """The node that came back has served a round."""


class _Trouble:
    """A run in which one node starts from other weights, and one is killed and comes back."""

    def __init__(
        self, hosts: Hosts, nodes: list[subprocess.Popen[bytes]], app: Path, say: Say
    ) -> None:
        self._hosts, self._nodes, self._app, self._say = hosts, nodes, app, say
        self._killed = 0
        self._lost: Counter[str] = Counter()

    def run(self, experiment: Experiment) -> None:
        """Show both; the run is left unfinished.

        Raises
        ------
        RuntimeError
            If the first is not refused or the second serves no later round.
        """
        programs = self._hosts.programs
        out = programs.home / "troubled-run"
        impostor = self._replace_by_impostor(experiment)
        run_config = {"experiment": to_toml(_troubled(experiment)), "out": str(out)}
        run_id = flower.submit(programs, self._app, run_config)
        programs.start("watch", "flwr", "log", run_id, flower.CONNECTION, "--stream")
        refusal = r"node \d+ is refused: [^(\n]*"
        said = self._hosts.wait_for_line("watch", refusal, _WAIT_SECONDS).rstrip()
        self._say(row("a node that starts from other weights", said))
        programs.stop(impostor)
        self._nodes[0] = self._hosts.start_node("node0-again", 0, key="node0")
        try:
            flower.follow(programs, run_id, out, self._on_round)
        except _Served:
            return
        raise RuntimeError("a node that was killed and started again served no later round")

    def _replace_by_impostor(self, experiment: Experiment) -> subprocess.Popen[bytes]:
        home = self._hosts.programs.home
        folder = home / "another-host"
        folder.mkdir()
        write_weights(experiment, home / WEIGHTS)
        write_weights(experiment, folder / WEIGHTS, nudge=1e-3)
        self._hosts.register("impostor")
        self._hosts.programs.stop(self._nodes[0])
        return self._hosts.start_node("impostor", 0, folder=folder)

    def _on_round(self, record: dict[str, Any]) -> None:
        complete, number = record["clients_replied"] == len(self._nodes), record["round"]
        if not self._killed:
            if complete:
                self._kill(number)
        elif complete:
            lost = ", ".join(f"{count} {why}" for why, count in sorted(self._lost.items()))
            self._say(row("  it serves again", f"round {number}; before that {lost or 'nothing'}"))
            raise _Served
        self._lost.update(record["rejected"])

    def _kill(self, number: int) -> None:
        self._killed, last = number, len(self._nodes) - 1
        self._hosts.kill(self._nodes[last])
        time.sleep(_AWAY_SECONDS)
        self._nodes[last] = self._hosts.start_node(f"node{last}-again", last, key=f"node{last}")
        self._say(
            row(
                "a node killed and started again",
                f"after round {number}, {_AWAY_SECONDS:g} s later",
            )
        )


def _troubled(experiment: Experiment) -> Experiment:
    """Return a run that lasts, whose weights every host reads from its own folder."""
    return replace(
        experiment,
        model=replace(experiment.model, weights=WEIGHTS),
        federation=replace(experiment.federation, rounds=_TROUBLED_ROUNDS),
        stop=StopConfig(),
        engine=replace(experiment.engine, timeout=180.0),
    )


def write_weights(experiment: Experiment, file: Path, nudge: float = 0.0) -> None:
    """Write an experiment's initial weights, all of them moved by `nudge`."""
    world = build_world(experiment)
    named = world.structure.named(world.initial)
    save_file({name: torch.tensor(array) + nudge for name, array in named.items()}, file)


def main(arguments: Sequence[str] | None = None) -> int:
    """Deploy, compare with the local engine, say so; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.deployment")
    parser.add_argument("config", nargs="?", default="demo")
    parser.add_argument("--set", action="append", default=[], metavar="key=value")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args(arguments)
    out = options.out or Path("runs") / time.strftime("deployment-%Y%m%d-%H%M%S")
    try:
        table, _ = split_table(resolve(options.config, [*DEMO, *options.set]))
        experiment = from_mapping(table)
        deployed = deploy(experiment, out)
    except InputError as error:
        print(f"deployment: {error}", file=sys.stderr)
        return 2
    print(f"run folder: {out}")
    return 0 if _equals_local(experiment, deployed) else 1


def _equals_local(experiment: Experiment, deployed: Mapping[str, Any]) -> bool:
    """Run the same experiment on the local engine and compare what came out."""
    with tempfile.TemporaryDirectory(prefix="mpfl-local-") as name:
        local = run(experiment, Path(name))
    for key in DIGESTS:
        print(f"{key:<15} {deployed[key][:24]} deployed, {local[key][:24]} on the local engine")
    equal = all(deployed[key] == local[key] for key in DIGESTS)
    print("same mask, model and payloads" if equal else "NOT the same result")
    return equal


if __name__ == "__main__":
    sys.exit(main())
