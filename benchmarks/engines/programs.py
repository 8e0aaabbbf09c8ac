"""Flower's own programs as tools: an app folder, a SuperLink of our own, runs and their status."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import tomli_w

from server.loop import OnRound
from server.runfolder import ROUNDS

PACKAGES = ("mpfl", "clients", "server")
CONNECTION = "mpfl"
LOG = "flower.log"
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.3


def free_port() -> int:
    """Return a TCP port of the loopback interface that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def stage_app(folder: Path) -> Path:
    """Write a Flower app with the sources of this installation into a new folder.

    ``flwr run`` sends an app as a copy of its folder, so that folder should hold the code and
    nothing else; and the packages may be installed where there is no ``pyproject.toml``.
    """
    for name in PACKAGES:
        (source,) = importlib.import_module(name).__path__
        shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    app = {
        "publisher": "mpfl",
        "components": {"serverapp": "server.app:app", "clientapp": "clients.app:app"},
        "config": {"experiment": "", "out": "", "engine": "flower"},
    }
    project = {
        "name": "mpfl",
        "version": metadata.version("mpfl"),
        "description": "mpfl",
        "license": "Apache-2.0",
        "dependencies": [],
    }
    text = tomli_w.dumps({"project": project, "tool": {"flwr": {"app": app}}})
    (folder / "pyproject.toml").write_text(text)
    return folder


@contextmanager
def _signals_later() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the block ends: what it starts must not be forgotten."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    met: list[int] = []
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, _: met.append(n)) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for held_back in met:
            signal.raise_signal(held_back)


class Programs:
    """Flower's programs with a home folder of their own; leaving the block stops them all.

    Parameters
    ----------
    home
        Takes Flower's configuration, its copies of apps, and one log file for each program.
    environment
        Variables of the programs besides those that are always set.
    """

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._running: list[subprocess.Popen[bytes]] = []
        self._on_terminate: Any = None
        scripts = str(Path(sys.executable).parent)
        self._environment = {
            **os.environ,
            "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
            "FLWR_HOME": str(home),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "PYTHONUNBUFFERED": "1",
            "NO_COLOR": "1",
            **(environment or {}),
        }

    def start(
        self, name: str, program: str, *arguments: str, folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in the background, in `folder` (or home); it writes ``<name>.log``."""
        with self.log(name).open("wb") as log, _signals_later():
            process = subprocess.Popen(
                [self._find(program), *arguments],
                cwd=folder or self.home,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its own children can be stopped with it
            )
            self._running.append(process)
        return process

    def log(self, name: str) -> Path:
        """Return the log file of a program."""
        return self.home / f"{name}.log"

    def call(self, *arguments: str) -> dict[str, Any]:
        """Run ``flwr <arguments> --format json`` and return what it printed.

        Raises
        ------
        RuntimeError
            If it failed; the text is Flower's own.
        """
        done = subprocess.run(
            [self._find("flwr"), *arguments, "--format", "json"],
            cwd=self.home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        answer = _last_json(done.stdout)
        if done.returncode or not answer.get("success", True):
            reason = answer.get("error-message") or done.stderr or done.stdout
            raise RuntimeError(f"flwr {arguments[0]} failed: {str(reason).strip()}")
        return answer

    def connect(self, address: str, root_certificate: Path | None = None) -> None:
        """Make `address` the connection that ``flwr`` uses."""
        entry: dict[str, Any] = {"address": address}
        if root_certificate is None:
            entry["insecure"] = True
        else:
            entry["root-certificates"] = str(root_certificate)
        text = tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: entry}})
        (self.home / "config.toml").write_text(text)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """Stop a program that `start` started, and whatever it started in turn."""
        for number, grace in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                continue
        process.wait()
        if process in self._running:
            self._running.remove(process)

    def __enter__(self) -> Programs:
        if threading.current_thread() is threading.main_thread():
            self._on_terminate = signal.signal(signal.SIGTERM, _terminate)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(list(self._running)):
            self.stop(process)
        if self._on_terminate is not None:
            signal.signal(signal.SIGTERM, self._on_terminate)

    def _find(self, program: str) -> str:
        path = shutil.which(program, path=self._environment["PATH"])
        if path is None:
            raise RuntimeError(f"{program} is not on the PATH; it comes with flwr")
        return path


def wait_until_healthy(
    process: subprocess.Popen[bytes],
    port: int,
    root_certificate: Path | None = None,
    seconds: float = 120,
) -> None:
    """Wait until a SuperLink answers on `port`, over TLS if a root certificate is given.

    Raises
    ------
    RuntimeError
        If it ends or stays silent.
    """
    scheme, context = "http", None
    if root_certificate is not None:
        scheme, context = "https", ssl.create_default_context(cafile=root_certificate)
    url = f"{scheme}://127.0.0.1:{port}/health"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2, context=context):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(_POLL_SECONDS)
    raise RuntimeError(f"flower-superlink did not answer on port {port}")


def submit(
    programs: Programs, app: Path, run_config: Mapping[str, Any], federation: Sequence[str] = ()
) -> str:
    """Submit a run with ``flwr run``; returns its id.

    Parameters
    ----------
    federation
        ``key=value`` pairs for ``--federation-config``.
    """
    config = programs.home / "run-config.toml"
    config.write_text(tomli_w.dumps(dict(run_config)))
    options = ["--federation-config", " ".join(federation)] if federation else []
    answer = programs.call("run", str(app), CONNECTION, "--run-config", str(config), *options)
    return str(answer["run-id"])


def follow(programs: Programs, run_id: str, out: Path, on_round: OnRound | None = None) -> None:
    """Wait for the end of a run, showing each round that appears in the run folder `out`.

    ``flwr run`` and the log stream end with status 0 even when the ServerApp failed: only the
    run's own status tells.

    Raises
    ------
    RuntimeError
        If the run did not complete; the text has the end of its log.
    """
    stream = programs.start("run", "flwr", "log", run_id, CONNECTION, "--stream")
    seen = 0
    while True:
        ended = stream.poll() is not None
        seen = _show_rounds(out, seen, on_round)
        if ended:
            if (status := run_status(programs, run_id)).startswith("finished"):
                break
            stream = programs.start("run", "flwr", "log", run_id, CONNECTION, "--stream")
        time.sleep(_POLL_SECONDS)
    if status != "finished:completed":
        lines = programs.log("run").read_text(errors="replace").strip().splitlines()
        raise RuntimeError(f"the Flower run ended as {status}:\n" + "\n".join(lines[-25:]))


def run_status(programs: Programs, run_id: str) -> str:
    """Return a run's status, e.g. ``finished:completed``."""
    return str(run_details(programs, run_id)["status"])


def run_details(programs: Programs, run_id: str) -> dict[str, Any]:
    """Return what ``flwr ls`` says about a run."""
    (row,) = programs.call("ls", CONNECTION, "--run-id", run_id)["runs"]
    return dict(row)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as an exception does, so that every program is stopped."""
    raise SystemExit(128 + number)


def _show_rounds(out: Path, seen: int, on_round: OnRound | None) -> int:
    file = out / ROUNDS
    if on_round is None or not file.is_file():
        return seen
    content = file.read_bytes()[seen:]
    complete = content[: content.rfind(b"\n") + 1]
    for line in complete.splitlines():
        on_round(json.loads(line))
    return seen + len(complete)


def _last_json(text: str) -> dict[str, Any]:
    start = text.find("{")
    if start < 0:
        return {}
    try:
        value = json.loads(text[start:])
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
