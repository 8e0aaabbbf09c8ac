"""The hosts of a deployment, all of them this machine: SuperLink, gate, nodes, strangers.

What is started here is what docs/deployment.md has people start on hosts of their own.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

from benchmarks.engines import programs as flower
from benchmarks.engines.byte_proxy import ByteProxy
from benchmarks.engines.credentials import ServerCredentials, create_node_key

_REFUSAL_SECONDS = 90.0
_POLL_SECONDS = 0.2
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Hosts:
    """A SuperLink on loopback, a gate before it, and whatever nodes are started.

    Between the nodes and the gate stands `proxy`, which counts bytes.

    Parameters
    ----------
    clients
        What nodes say that the number of partitions is.
    """

    def __init__(self, programs: flower.Programs, clients: int) -> None:
        self.programs, self._clients = programs, clients
        credentials = ServerCredentials.create(programs.home)
        self._authority = credentials.authority
        tls = (
            *("--ssl-ca-certfile", str(credentials.authority)),
            *("--ssl-certfile", str(credentials.certificate)),
            *("--ssl-keyfile", str(credentials.key)),
        )
        self.port, gate_port = flower.free_port(), flower.free_port()
        superlink = programs.start(
            "superlink",
            "flower-superlink",
            *("--host", "127.0.0.1", "--port", str(self.port)),
            "--enable-supernode-auth",
            *tls,
        )
        programs.start(
            "gate",
            "python",
            *("-m", "benchmarks.engines.gate"),
            *("--host", "127.0.0.1", "--port", str(gate_port)),
            *("--superlink", f"127.0.0.1:{self.port}"),
            *tls,
        )
        flower.wait_until_healthy(superlink, self.port, credentials.authority)
        programs.connect(f"127.0.0.1:{self.port}", credentials.authority)
        self.proxy = ByteProxy(gate_port)

    def __enter__(self) -> Hosts:
        self.proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.__exit__(None, None, None)

    def register(self, name: str) -> None:
        """Make a node's key and tell the SuperLink, as the operator does."""
        _, public = create_node_key(self.programs.home, name)
        self.programs.call("supernode", "register", str(public), flower.CONNECTION)

    def start_node(
        self, name: str, partition: int, key: str = "", folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a node, and whenever it fails again, as its host's service manager would.

        Parameters
        ----------
        key
            Name under which its key was registered; by default its own.
        folder
            Where it runs, and relative paths of the experiment lead to its own files.
        """
        command = f"until {shlex.join(self._node(key or name, partition))}; do sleep 5; done"
        return self.programs.start(name, "sh", "-c", command, folder=folder)

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """Kill a node and all that belongs to it, without a chance to say goodbye."""
        os.killpg(node.pid, signal.SIGKILL)
        self.programs.stop(node)

    def strange_node(self) -> str:
        """Start a node with a key that nobody registered; returns how it was refused.

        Raises
        ------
        RuntimeError
            If it was not.
        """
        create_node_key(self.programs.home, "stranger")
        node = self.programs.start("stranger", *self._node("stranger", 0))
        try:
            status = node.wait(_REFUSAL_SECONDS)
        except subprocess.TimeoutExpired:
            status = 0
        if status == 0:
            raise RuntimeError("a node with an unregistered key was not refused")
        log = _COLOUR.sub("", self.programs.log("stranger").read_text(errors="replace"))
        said = re.search(r"Exit Code: \d+", log)
        return f"refused, exit status {status}" + (f" ({said[0]})" if said else "")

    def strange_run(self, app: Path) -> str:
        """Submit a run as somebody who has the authority's certificate and reaches the gate.

        Raises
        ------
        RuntimeError
            If it was not refused.
        """
        home = self.programs.home / "elsewhere"
        home.mkdir()
        stranger = flower.Programs(home)
        stranger.connect(f"127.0.0.1:{self.proxy.port}", self._authority)
        try:
            stranger.call("run", str(app), flower.CONNECTION)
        except RuntimeError as error:
            if said := re.search(r"403 Forbidden|refused", str(error)):
                return f"refused ({said[0]})"
            raise
        raise RuntimeError("a run that a stranger submitted was not refused")

    def wait_for_line(self, log: str, pattern: str, seconds: float) -> str:
        """Return the first match of a pattern in a program's log.

        Raises
        ------
        RuntimeError
            If it does not appear within `seconds`.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            text = _COLOUR.sub("", self.programs.log(log).read_text(errors="replace"))
            if found := re.search(pattern, text):
                return found[0]
            time.sleep(_POLL_SECONDS)
        raise RuntimeError(f"{log}: nothing like {pattern!r} within {seconds:g} s")

    def _node(self, key: str, partition: int) -> list[str]:
        return [
            "flower-supernode",
            *("--root-certificates", str(self._authority)),
            *("--auth-supernode-private-key", str(self.programs.home / key)),
            *("--superlink", f"127.0.0.1:{self.proxy.port}"),
            *("--port", str(flower.free_port())),
            *("--node-config", f"partition-id={partition} num-partitions={self._clients}"),
        ]
