"""The engines side by side in one run: a bare loop, the local grid, Flower's Ray, and peers."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.apart import run_command
from benchmarks.speed.engine_work import Job, arguments
from benchmarks.speed.peers import Ready, environ, reason, write_work
from mpfl.errors import InputError
from mpfl.seeding import numpy_rng

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
    model: str = "lenet300",
    peers: Sequence[Ready] = (),
    augment: str = "crop_flip",
) -> list[dict[str, Any]]:
    """Time training rounds and rounds of empty clients on every engine.

    Training: one epoch in batches of 32 on each client's equal part of MNIST's 60,000
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
    model
        The network.
    peers
        Other simulators, which train the same clients on the same batches, in as many processes as
        the local grid has workers at most. What fails there is told in the peer's row.
    augment
        What a row of its own does to the images, on the local grid with all its workers (empty: no
        such row).

    Returns
    -------
    list of dict
        A row per engine and kind of client: ``work`` (``train`` or ``empty``), ``engine``
        (with the device, where clients are trained together, and with what is done to images),
        ``workers``, ``clients``,
        ``clients_per_second`` (of the fastest round), ``ratio_to_bare``, ``ratio_to_ray``
        and one to each peer of that speed (None without them), ``first_round_seconds`` (engine
        started to first round done, with the data loaded where an engine can share them),
        ``memory_bytes`` (peak of the proportional set sizes of all its processes together,
        None where the system does not tell), ``processor_seconds_per_client`` (None for Ray),
        ``load`` (one-minute load average of the machine before it), ``failure`` (why a peer has no
        numbers, in one line).

    Raises
    ------
    InputError
        For a network that cannot be trained on these images, or that no peer can train.
    RuntimeError
        If an engine of our own fails.
    """
    has_ray = importlib.util.find_spec("ray") is not None if ray is None else ray
    most = max((w for w in workers), default=1) or 1
    found: dict[Job, dict[str, Any]] = {}
    with mnist_or_noise(data_dir) as folder, tempfile.TemporaryDirectory() as scratch:
        bare = Job("bare", 0, clients, rounds, folder, model=model)
        jobs = [bare, *(replace(bare, engine="local", workers=count) for count in workers)]
        if augment:
            all_workers = max(workers, default=0)
            jobs.append(replace(bare, engine="local", workers=all_workers, augment=augment))
        jobs += _vectorised(vectorised, bare)
        jobs += [replace(bare, engine="ray", workers=most)] if has_ray else []
        commands = _commands(bare, most, peers, Path(scratch) / "work")
        jobs = [*jobs, *commands] * passes
        for number in empty:
            jobs += [Job("local", count, number, rounds) for count in workers]
            jobs += [Job("ray", most, number, rounds)] if has_ray else []
        for job in jobs:
            if job in found and found[job]["failure"]:
                continue
            row = _peer_row(job, commands[job]) if job in commands else measure(job)
            found[job] = _best(found[job], row) if job in found else row
            if on_row:
                on_row(row)
    rows = list(found.values())
    names = ["bare", "ray", *(ready.peer.name for ready in peers)]
    return [{**row, **_ratios(row, rows, names)} for row in rows]


def _commands(
    bare: Job, processes: int, peers: Sequence[Ready], file: Path
) -> dict[Job, list[str] | str]:
    """Return the job of every peer with the command that does it, or why there is none."""
    if any(ready.python for ready in peers):
        write_work(bare, file)
    return {
        replace(bare, engine=ready.peer.name, workers=processes): (
            ready.command(file, processes) if ready.python else ready.failure
        )
        for ready in peers
    }


def _peer_row(job: Job, command: list[str] | str) -> dict[str, Any]:
    """Return a peer's row; where it fails, one without numbers."""
    load = os.getloadavg()[0]
    if isinstance(command, str):
        return _row(job, load, failure=command)
    try:
        return _row(job, load, *run_command(command, environ()))
    except (RuntimeError, ValueError) as error:  # it failed, or printed no JSON
        return _row(job, load, failure=reason(str(error)))


def _best(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return what two turns of one engine come to: the faster of each time, the most memory."""
    if other["failure"]:
        return other
    most = {"clients_per_second", "memory_bytes"}
    both = {key: (one[key], other[key]) for key in one}
    return {
        key: a if a is None or isinstance(a, str) else max(a, b) if key in most else min(a, b)
        for key, (a, b) in both.items()
    }


def _vectorised(together: int | None, bare: Job) -> list[Job]:
    gpu = torch.cuda.is_available()
    together = (32 if gpu else 0) if together is None else together
    if together < 2:
        return []
    device = "cuda" if gpu else "cpu"
    return [replace(bare, engine="vectorised", together=together, device=device)]


def measure(job: Job) -> dict[str, Any]:
    """Run one job in a process of its own and return its row, without the ratios.

    Raises
    ------
    RuntimeError
        If the process fails, with the end of what it printed.
    """
    load = os.getloadavg()[0]
    return _row(job, load, *run_apart(job))


def _row(
    job: Job,
    load: float,
    result: Mapping[str, Any] | None = None,
    memory: int | None = None,
    failure: str = "",
) -> dict[str, Any]:
    seen, total = result or {}, job.clients * (job.rounds + 1)
    used = None if job.engine == "ray" else seen.get("processor_seconds")
    return {
        "work": "train" if job.folder else "empty",
        "engine": _engine_name(job),
        "workers": job.workers,
        "clients": job.clients,
        "clients_per_second": job.clients / min(seen["round_seconds"]) if seen else None,
        "first_round_seconds": seen.get("start_seconds"),
        "memory_bytes": memory,
        "processor_seconds_per_client": None if used is None else used / total,
        "load": load,
        "failure": failure,
    }


def _engine_name(job: Job) -> str:
    if job.together:
        return f"vectorised on {job.device}"
    return f"{job.engine}, {job.augment}" if job.augment else job.engine


def run_apart(job: Job) -> tuple[dict[str, Any], int | None]:
    """Run one job in a process of its own, see `run_command`; InputError where it is refused."""
    result, memory = run_command(arguments(job), {**os.environ, **_QUIET})
    if "refused" in result:
        raise InputError(result["refused"])
    return result, memory


def _ratios(
    row: dict[str, Any], rows: list[dict[str, Any]], names: Sequence[str]
) -> dict[str, float | None]:
    """Return the ratios of a row's speed to the named engines' at the same work."""
    same = [o for o in rows if all(o[key] == row[key] for key in ("work", "clients"))]
    speeds = {other["engine"]: other["clients_per_second"] for other in same}
    speed = row["clients_per_second"]
    return {
        f"ratio_to_{name}": speed / speeds[name] if speed and speeds.get(name) else None
        for name in names
    }


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
