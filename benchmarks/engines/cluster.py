"""A Ray cluster that is there already: whether a run can join it, and what it has.

``python -m benchmarks.engines.cluster HOST:PORT`` joins it and prints one line of JSON.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from mpfl.errors import InputError, install_text

CONNECT_SECONDS = 5.0
JOIN_SECONDS = 60.0
_FAILURE = "failure"


@dataclass(frozen=True)
class Cluster:
    """A cluster that answered: its nodes and the processor cores that they offer."""

    address: str
    nodes: int
    cores: int


def need_ray() -> None:
    """Check that Ray is installed; InputError if not."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"--engine ray: Ray is not installed; {install_text('ray')}")


def find_cluster(address: str) -> Cluster:
    """Return the Ray cluster whose head listens at `address`, ``HOST:PORT``.

    It is joined for a moment, in a process of its own: Ray repeats what fails for minutes, and
    can end the process that asked.

    Raises
    ------
    InputError
        If Ray is missing, the address is none, or nothing answers there, or what answers is no
        cluster that this machine is a node of, or one of another release of Ray or Python, or
        one without cores; after `CONNECT_SECONDS` and `JOIN_SECONDS` together at the latest.
    """
    need_ray()
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise _refused(f"got {address!r}, expected HOST:PORT of a cluster's head")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        why = error.strerror or "no answer"
        raise _refused(f"nothing can be reached at {address} ({why.lower()})") from None
    answer = _answer(address)
    if _FAILURE in answer:
        raise _refused(f"the cluster at {address} cannot be joined: {answer[_FAILURE]}")
    if not answer["cores"]:
        raise _refused(f"the cluster at {address} offers no processor cores")
    return Cluster(address, answer["nodes"], answer["cores"])


def _refused(why: str) -> InputError:
    return InputError(f"--ray-address: {why}")


def _answer(address: str) -> dict[str, Any]:
    """Return what the process that joins the cluster says."""
    try:
        done = subprocess.run(
            _command(address),
            env={**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=JOIN_SECONDS,
            check=False,
        )
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):  # it is still trying, or died of it
        return {_FAILURE: f"no head of a Ray cluster answers within {JOIN_SECONDS:.0f} seconds"}
    return answer


def _command(address: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.engines.cluster", address]


def _join(address: str) -> dict[str, Any]:
    """Join a cluster; return its nodes and cores, or why that is impossible in one line."""
    ray: Any = importlib.import_module("ray")
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # noqa: BLE001 - the user is told, whatever it is
        return {_FAILURE: " ".join(str(error).split())}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return {"nodes": len(nodes), "cores": sum(int(held.get("CPU", 0)) for held in nodes)}


if __name__ == "__main__":
    print(json.dumps(_join(sys.argv[1])))
