"""Other simulators: each in an environment of its own, and the file that it gets its work from."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.speed.engine_work import BareLoop, Job, experiment
from mpfl.config import to_toml
from mpfl.errors import InputError
from mpfl.world import world_from_toml

_MARK = "installed"
_ERROR = re.compile(r"(ERROR|[\w.]*(Error|Exception)): .")


@dataclass(frozen=True)
class Peer:
    """Another simulator.

    Attributes
    ----------
    name
        Of its rows and of the column of ratios to it.
    requirement
        What pip is asked for; the torch that runs here comes with it.
    script
        ``python SCRIPT FILE PROCESSES`` runs the work that `write_work` has put into FILE, in so
        many processes, and prints as its last line of output what `run_job` returns, as JSON.
        It stands in an environment of its own and can import nothing of ours.
    """

    name: str
    requirement: str
    script: Path


PEERS = (Peer("pfl", "pfl[pytorch]==0.6.0", Path(__file__).with_name("peer_pfl.py")),)


@dataclass(frozen=True)
class Ready:
    """A peer and the interpreter of its environment, or why there is none (in one line)."""

    peer: Peer
    python: Path | None
    failure: str = ""

    def command(self, file: Path, processes: int) -> list[str]:
        """Return the command that runs the work of a file."""
        return [str(self.python), str(self.peer.script), str(file), str(processes)]


def environ() -> dict[str, str]:
    """Return what a peer's processes see: no packages but their environment's, and no GPU."""
    hidden = {"PYTHONPATH", "PYTHONHOME"}
    seen = {name: value for name, value in os.environ.items() if name not in hidden}
    alone = {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return {**seen, **alone, "PYTHONWARNINGS": "ignore"}


def cache_folder() -> Path:
    """Return where environments are kept: below ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mpfl" / "peers"


def installed(peer: Peer) -> Path | None:
    """Return the interpreter of a peer's environment, None while there is no such."""
    folder = _folder(peer)
    return folder / "bin" / "python" if (folder / _MARK).exists() else None


def _wanted(peer: Peer) -> list[str]:
    return [peer.requirement, f"torch=={torch.__version__.partition('+')[0]}"]


def _folder(peer: Peer) -> Path:
    key = json.dumps([*_wanted(peer), sys.version])
    return cache_folder() / f"{peer.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def prepare(peer: Peer, say: Callable[[str], None]) -> Ready:
    """Return a peer's environment; where there is none yet, say so and install it.

    The package index is the one that pip is configured for (``PIP_EXTRA_INDEX_URL`` asks for a CPU
    build of torch). What is half installed is begun anew. Nothing is raised: see `Ready.failure`.
    """
    if there := installed(peer):
        return Ready(peer, there)
    folder, wanted = _folder(peer), _wanted(peer)
    python = folder / "bin" / "python"
    say(f"{peer.name}: installing {' '.join(wanted)} into {folder}, which may take minutes")
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    try:
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], [*pip, *wanted]):
            subprocess.run(command, env=environ(), check=True, capture_output=True, text=True)
        (folder / _MARK).touch()
    except subprocess.CalledProcessError as error:
        why = f"not installed, {reason(error.stderr + error.stdout)}"
    except OSError as error:
        why = f"not installed, {error}"
    else:
        return Ready(peer, python)
    return Ready(peer, None, why)


def reason(output: str) -> str:
    """Return the line of a program's output that says most: its last error, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no reason given"]
    errors = [line.removeprefix("ERROR: ") for line in lines if _ERROR.match(line)]
    return (errors or lines)[-1]


def write_work(job: Job, file: Path) -> None:
    """Write what a job's clients train on, for a program that has no mpfl: a torch file.

    A dict of ``network`` (an `nn.Module` of torch's own layers, with w0 in it), ``inputs`` (float32
    [n, ...]), ``targets`` (int64 [n]), ``orders`` (of every round and client the samples in the
    order of its batches, int64), ``batch_size`` and ``lr``.

    Raises
    ------
    InputError
        For a network whose layers are not all torch's own.
    """
    world = world_from_toml(to_toml(experiment(job)))
    loop = BareLoop(world)
    own = {type(m).__name__ for m in loop.model.modules() if type(m).__module__[:6] != "torch."}
    if own:
        raise InputError(f"--model: {job.model} has layers ({', '.join(own)}) that no peer knows")
    samples, train = world.data.train.prepared(), world.experiment.train
    parts = [torch.from_numpy(part) for part in world.parts]
    work = {
        "network": loop.model,
        "inputs": samples.inputs,
        "targets": samples.targets,
        "orders": [
            [part[loop.order(client, number)] for client, part in enumerate(parts)]
            for number in range(1, job.rounds + 2)
        ],
        "batch_size": train.batch_size,
        "lr": train.lr,
    }
    torch.save(work, file)
