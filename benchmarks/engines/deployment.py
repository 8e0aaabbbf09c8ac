"""A real Flower deployment on this machine: TLS, keys, three nodes, bytes on the sockets.

``python -m benchmarks.engines.deployment [CONFIG] [--set key=value]… [--out DIR]``
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.engines import programs as flower
from benchmarks.engines.byte_proxy import ByteProxy
from benchmarks.engines.credentials import ServerCredentials, create_node_key
from benchmarks.running.compare_config import split_table
from benchmarks.running.experiment import run, validate
from mpfl.config import Experiment, from_mapping, to_toml
from mpfl.errors import InputError
from mpfl.presets import resolve
from server.runfolder import LEDGER, SUMMARY, check_empty

SOCKETS = "sockets.json"
DIGESTS = ("mask_digest", "model_digest", "payload_digest")
DEMO = ("data.clients=3", "prune.rounds=2", "federation.rounds=5", "train.epochs=1")
_REFUSAL_SECONDS = 90.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

Say = Callable[[str], None]


@dataclass(frozen=True)
class SocketBytes:
    """What the sockets between nodes and SuperLink carried, beside what the ledger says.

    Attributes
    ----------
    rounds
        Rounds that the numbers span: the first is left out, because the app's copies for the
        nodes share the wire with it.
    messages
        Client messages in those rounds, both directions.
    ledger_bytes, socket_bytes
        (uplink, downlink) of those rounds.
    run_socket_bytes
        (uplink, downlink) of the whole run, with app copies, node discovery and polling.
    seconds
        Wall time of those rounds; nodes poll every three seconds.
    """

    rounds: int
    messages: int
    ledger_bytes: tuple[int, int]
    socket_bytes: tuple[int, int]
    run_socket_bytes: tuple[int, int]
    seconds: float

    def text(self) -> str:
        """Return the comparison as a table."""
        title = f"rounds 2 to {self.rounds + 1}: {self.messages} messages, {self.seconds:g} s"
        lines = [f"{title:<34} {'uplink':>11} {'downlink':>11}"]
        rows = (
            ("ledger (serialized messages)", self.ledger_bytes),
            ("sockets (TLS and HTTP included)", self.socket_bytes),
            ("sockets, whole run and start", self.run_socket_bytes),
        )
        lines += [f"  {name:<32} {up:>9,} B {down:>9,} B" for name, (up, down) in rows]
        extra = [
            2 * (sockets - ledger) // max(self.messages, 1)
            for sockets, ledger in zip(self.socket_bytes, self.ledger_bytes, strict=True)
        ]
        lines.append(f"  {'more on the wire, per message':<32} {extra[0]:>9,} B {extra[1]:>9,} B")
        return "\n".join(lines)


def deploy(experiment: Experiment, out: Path, say: Say = print) -> dict[str, Any]:
    """Run an experiment through a SuperLink and one SuperNode per client, on loopback.

    TLS with an authority made for the occasion, nodes known by their keys. A node with an
    unknown key is tried first. Everything is stopped before this returns.

    Returns
    -------
    summary
        The content of ``summary.json``; ``sockets.json`` lies beside it.

    Raises
    ------
    InputError
        If the input is wrong.
    RuntimeError
        If the unknown node is let in, or the run fails.
    """
    check_empty(out)
    validate(experiment)
    with tempfile.TemporaryDirectory(prefix="mpfl-deployment-") as name:
        home = Path(name)
        written = home / "superlink-run"
        with flower.Programs(home) as programs:
            measured = _run(programs, experiment, written, say)
        shutil.copytree(written, out, dirs_exist_ok=True)
        shutil.copyfile(programs.log("run"), out / flower.LOG)
    (out / SOCKETS).write_text(json.dumps(asdict(measured), indent=2) + "\n")
    say(measured.text())
    summary: dict[str, Any] = json.loads((out / SUMMARY).read_text())
    return summary


def _run(programs: flower.Programs, experiment: Experiment, out: Path, say: Say) -> SocketBytes:
    clients = experiment.data.clients
    port = _start_superlink(programs)
    say(f"SuperLink with TLS and node authentication on 127.0.0.1:{port}")
    keys = [create_node_key(programs.home, f"node{i}") for i in range(clients)]
    for _, public in keys:
        programs.call("supernode", "register", str(public), flower.CONNECTION)
    stranger, _ = create_node_key(programs.home, "stranger")
    with ByteProxy(port) as proxy:
        refused = _start_node(programs, "stranger", stranger, proxy.port, 0, clients)
        say(f"unregistered node: {_refusal(programs, refused)}")
        for i, (private, _) in enumerate(keys):
            _start_node(programs, f"node{i}", private, proxy.port, i, clients)
        say(f"{clients} registered nodes started")
        before = proxy.totals
        meter = _Meter(proxy, say)
        run_config = {"experiment": to_toml(experiment), "out": str(out), "engine": "deployment"}
        app = flower.stage_app(programs.home / "app")
        run_id = flower.submit(programs, app, run_config)
        flower.follow(programs, run_id, out, meter.on_round)
        return meter.result(before, out / LEDGER)


def _start_superlink(programs: flower.Programs) -> int:
    credentials = ServerCredentials.create(programs.home)
    port = flower.free_port()
    superlink = programs.start(
        "superlink",
        "flower-superlink",
        *("--ssl-ca-certfile", str(credentials.authority)),
        *("--ssl-certfile", str(credentials.certificate)),
        *("--ssl-keyfile", str(credentials.key)),
        "--enable-supernode-auth",
        *("--port", str(port)),
    )
    flower.wait_until_healthy(superlink, port, credentials.authority)
    programs.connect(f"127.0.0.1:{port}", credentials.authority)
    return port


def _start_node(
    programs: flower.Programs, name: str, key: Path, port: int, partition: int, clients: int
) -> subprocess.Popen[bytes]:
    return programs.start(
        name,
        "flower-supernode",
        *("--root-certificates", str(programs.home / "ca.crt")),
        *("--auth-supernode-private-key", str(key)),
        *("--superlink", f"127.0.0.1:{port}"),
        *("--port", str(flower.free_port())),
        *("--node-config", f"partition-id={partition} num-partitions={clients}"),
    )


def _refusal(programs: flower.Programs, node: subprocess.Popen[bytes]) -> str:
    """Wait for a node to be refused; returns what it logged about that."""
    try:
        status = node.wait(_REFUSAL_SECONDS)
    except subprocess.TimeoutExpired:
        status = 0
    if status == 0:
        raise RuntimeError("a node with an unregistered key was not refused")
    log = _COLOUR.sub("", programs.log("stranger").read_text(errors="replace"))
    said = " ".join(re.findall(r"Exit Code: \d+|\[code: \d+\] [^\n]*", log))
    return f"refused, exit status {status} ({said})"


class _Meter:
    """Reads the proxy whenever a round ends."""

    def __init__(self, proxy: ByteProxy, say: Say) -> None:
        self._proxy, self._say = proxy, say
        self._marks: list[tuple[float, tuple[int, int]]] = []

    def on_round(self, record: dict[str, Any]) -> None:
        self._marks.append((time.monotonic(), self._proxy.totals))
        self._say(
            f"round {record['round']:>3}  {record['phase']:<6} accuracy "
            f"{record['test_accuracy'] or 0:.4f}  density {record['density']:.3f}  "
            f"{record['clients_replied']} replies  {record['total_bytes']:,} B"
        )

    def result(self, before: tuple[int, int], ledger: Path) -> SocketBytes:
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        booked, messages = _booked_after_first_round(ledger)
        return SocketBytes(
            rounds=len(self._marks) - 1,
            messages=messages,
            ledger_bytes=booked,
            socket_bytes=_difference(last, first),
            run_socket_bytes=_difference(last, before),
            seconds=round(end - start, 1),
        )


def _difference(later: tuple[int, int], earlier: tuple[int, int]) -> tuple[int, int]:
    return later[0] - earlier[0], later[1] - earlier[1]


def _booked_after_first_round(ledger: Path) -> tuple[tuple[int, int], int]:
    header, *lines = ledger.read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    later = [row for row in rows if int(row["round"]) > 1]
    sums = {
        way: sum(int(row["message_bytes"]) for row in later if row["direction"] == way)
        for way in ("uplink", "downlink")
    }
    return (sums["uplink"], sums["downlink"]), len(later)


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
