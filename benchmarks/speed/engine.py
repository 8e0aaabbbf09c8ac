"""The engines side by side in one run: a bare PyTorch loop, the local grid, Flower's Ray."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.engine_work import Job, arguments
from mpfl.seeding import numpy_rng

_SAMPLE_SECONDS = 0.25
_LIMIT_SECONDS = 900.0
_IDX = "MNIST/raw/{part}-{kind}-idx{dimensions}-ubyte"
_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def engine_table(
    data_dir: Path | None = None,
    clients: int = 100,
    rounds: int = 3,
    workers: Sequence[int] = (0, 1, 2),
    empty: Sequence[int] = (100, 1000),
    ray: bool | None = None,
    vectorised: int | None = None,
    passes: int = 2,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Time training rounds and rounds of empty clients on every engine.

    Training: lenet300, one epoch in batches of 32 on each client's equal part of MNIST's 60,000
    samples, from w0; the grids send a request and get a ballot of raw bits back. Empty clients
    echo 1,000 bytes. Every engine runs in a process of its own, one after another; its fastest
    round counts, because a busy machine can only make a round slower. For the same reason the
    engines take turns at training more than once.

    Parameters
    ----------
    data_dir
        Folder with ``MNIST/raw``; None: random images of the same shape, which train as slowly.
    clients
        Clients per training round.
    rounds
        Timed rounds after the first.
    workers
        Worker processes of the local grid, one row each.
    empty
        Numbers of empty clients.
    ray
        Whether to run Ray; None: if it is installed.
    vectorised
        Clients that the local grid trains together, on the GPU if there is one, in a row of its
        own (0: no such row); None: 32 if there is a GPU.
    passes
        How often every engine gets its turn at training.
    on_row
        Sees each row, still without its ratios, as soon as it is measured.

    Returns
    -------
    list of dict
        A row per engine and kind of client: ``work`` (``train`` or ``empty``), ``engine``
        (with the device, where clients are trained together), ``workers``, ``clients``,
        ``clients_per_second`` (of the fastest round), ``ratio_to_bare``
        and ``ratio_to_ray`` of that speed (None without them), ``first_round_seconds`` (engine
        started to first round done, with the data loaded where an engine can share them),
        ``memory_bytes`` (peak of the proportional set sizes of all its processes together,
        None where the system does not tell), ``processor_seconds_per_client`` (None for Ray),
        ``load`` (one-minute load average of the machine before it).
    """
    has_ray = importlib.util.find_spec("ray") is not None if ray is None else ray
    most = max((w for w in workers), default=1) or 1
    found: dict[Job, dict[str, Any]] = {}
    with mnist_or_noise(data_dir) as folder:
        jobs = [Job("bare", 0, clients, rounds, folder)]
        jobs += [Job("local", count, clients, rounds, folder) for count in workers]
        jobs += _vectorised(vectorised, clients, rounds, folder)
        jobs += [Job("ray", most, clients, rounds, folder)] if has_ray else []
        jobs *= passes
        for number in empty:
            jobs += [Job("local", count, number, rounds) for count in workers]
            jobs += [Job("ray", most, number, rounds)] if has_ray else []
        for job in jobs:
            row = measure(job)
            found[job] = _best(found[job], row) if job in found else row
            if on_row:
                on_row(row)
    rows = list(found.values())
    return [{**row, **_ratios(row, rows)} for row in rows]


def _best(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what two turns of one engine come to: the faster of each time, the most memory."""
    most = {"clients_per_second", "memory_bytes"}
    both = {key: (one[key], other[key]) for key in one}
    return {
        key: a if a is None or isinstance(a, str) else max(a, b) if key in most else min(a, b)
        for key, (a, b) in both.items()
    }


def _vectorised(together: int | None, clients: int, rounds: int, folder: str) -> list[Job]:
    gpu = torch.cuda.is_available()
    together = (32 if gpu else 0) if together is None else together
    if together < 2:
        return []
    device = "cuda" if gpu else "cpu"
    return [Job("vectorised", 0, clients, rounds, folder, together=together, device=device)]


def measure(job: Job) -> dict[str, Any]:
    """Run one job in a process of its own and return its row, without the ratios.

    Raises
    ------
    RuntimeError
        If the process fails, with the end of what it printed.
    """
    load = os.getloadavg()[0]
    result, memory = run_apart(job)
    seconds, total = min(result["round_seconds"]), job.clients * (job.rounds + 1)
    return {
        "work": "train" if job.folder else "empty",
        "engine": f"vectorised on {job.device}" if job.together else job.engine,
        "workers": job.workers,
        "clients": job.clients,
        "clients_per_second": job.clients / seconds,
        "first_round_seconds": result["start_seconds"],
        "memory_bytes": memory,
        "processor_seconds_per_client": (
            None if job.engine == "ray" else result["processor_seconds"] / total
        ),
        "load": load,
    }


def tree_memory(root: int) -> int | None:
    """Return the proportional set size of a process and its descendants, in bytes.

    Memory that processes share counts once. None where ``/proc`` has no ``smaps_rollup``.
    """
    total, seen = 0, False
    for pid in _tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended, or this is no Linux
            continue
        for line in lines:
            if line.startswith("Pss:"):
                total, seen = total + 1024 * int(line.split()[1]), True
    return total if seen else None


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found


def run_apart(job: Job) -> tuple[dict[str, Any], int | None]:
    """Run one job in a process of its own; returns its result, and `tree_memory` at its peak.

    Raises
    ------
    RuntimeError
        If the process fails, with the end of what it printed.
    """
    peak: int | None = None
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            arguments(job),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env={**os.environ, **_QUIET},
            start_new_session=True,
        )
        deadline = time.monotonic() + _LIMIT_SECONDS
        try:
            while process.poll() is None and time.monotonic() < deadline:
                memory = tree_memory(process.pid)
                peak = max(peak or 0, memory) if memory else peak
                time.sleep(_SAMPLE_SECONDS)
        finally:
            _end(process)
        output.seek(0)
        errors.seek(0)
        lines = output.read().strip().splitlines()
        if process.returncode or not lines:
            raise RuntimeError(f"an engine failed: {errors.read().strip()[-2000:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result, peak


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop whatever is left of a job, the processes it has started with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ratios(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for engine in ("bare", "ray"):
        like = [
            other["clients_per_second"]
            for other in rows
            if other["engine"] == engine
            and (other["work"], other["clients"]) == (row["work"], row["clients"])
        ]
        found[f"ratio_to_{engine}"] = row["clients_per_second"] / like[0] if like else None
    return found


@contextmanager
def mnist_or_noise(folder: Path | None) -> Iterator[str]:
    """Give a folder with MNIST's files: `folder`, or one of random images for None."""
    if folder is not None:
        yield str(folder.resolve())
        return
    with tempfile.TemporaryDirectory(prefix="mpfl-random-") as name:
        write_random_images(Path(name))
        yield name


def write_random_images(folder: Path, train: int = 60_000, test: int = 10_000) -> None:
    """Write noise in MNIST's files: training takes as long, whatever the images show."""
    rng = numpy_rng(0, "engine benchmark")
    for part, count in (("train", train), ("t10k", test)):
        for kind, shape, most in (("images", (count, 28, 28), 256), ("labels", (count,), 10)):
            path = folder / _IDX.format(part=part, kind=kind, dimensions=len(shape))
            path.parent.mkdir(parents=True, exist_ok=True)
            header = np.array([0x0800 + len(shape), *shape], ">u4").tobytes()
            path.write_bytes(header + rng.integers(0, most, shape, np.uint8).tobytes())
