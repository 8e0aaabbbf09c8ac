"""What a run says about itself: what it began with; result, digests, versions, machine."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

import mpfl
from mpfl.config import Experiment
from mpfl.data import summary
from mpfl.data.digest import data_digests
from mpfl.data.samples import IGNORED
from mpfl.errors import InputError
from mpfl.network.cost import macs
from mpfl.training.feedforward.stages import COMPILED
from mpfl.training.local import class_accuracy
from mpfl.world import World
from server.health import failure_of
from server.methods.base import ServerMethod
from server.methods.settings import doubtful_settings, ignored_settings
from server.records import DOWNLINK, UPLINK, Health, Machine, Summary
from server.round import RunState

_LOG = logging.getLogger(__name__)
_MOST_CLIENTS = 100  # whose accuracies are told
_PACKAGES = ("mpfl", "flwr", "torch", "torchvision", "numpy", "bitarray")
_AS_AFTER_THE_LAST_ROUND = (
    *("test_accuracy", "test_loss", "validation_accuracy", "validation_loss"),
    *("density", "density_all_parameters"),
    *("uplink_bytes", "downlink_bytes", "total_bytes"),
)


def model_bytes(world: World, model: np.ndarray) -> bytes:
    """Return the model as a safetensors file: one tensor per parameter and buffer.

    Tied ones stand there under each of their names, as in the network's ``state_dict``.
    """
    named, saved = world.structure.named(model), world.model.module.state_dict().keys()
    return save({name: np.ascontiguousarray(named[name]) for name in named if name in saved})


def summarize(world: World, state: RunState, engine: str, workers: int) -> Summary:
    """Return the content of ``summary.json``."""
    mask = state.method.mask()
    model = state.method.model()
    keep = world.structure.parameter_mask(mask)
    return Summary(
        method=world.experiment.method,
        label=world.experiment.method,
        seed=world.experiment.seed,
        sweep={},
        engine=engine,
        rounds=state.round,
        seconds=round(state.seconds, 3),
        **{name: getattr(state.last, name) for name in _AS_AFTER_THE_LAST_ROUND},
        test_predictions=int((world.data.test.targets != IGNORED).sum()),
        uplink_bits_per_parameter=state.ledger.bits_per_parameter(UPLINK, keep.size),
        downlink_bits_per_parameter=state.ledger.bits_per_parameter(DOWNLINK, keep.size),
        mask_digest=mask.digest(),
        model_digest=hashlib.sha256(np.ascontiguousarray(model).tobytes()).hexdigest(),
        payload_digest=state.ledger.digest,
        parameters=int(keep.size),
        prunable=int(world.structure.prunable().sum()),
        surviving_parameters=int(keep.sum()),
        **_costs(world, keep),
        units=world.layout.total,
        surviving_units=mask.count(),
        client_accuracy=client_accuracy(world, state.method),
        partition=partition_counts(world),
        peak_memory_bytes=_peak_memory(workers),
        versions=versions(),
        machine=_machine(workers),
        health=health(world, state),
    )


def health(world: World, state: RunState) -> Health:
    """Return what the figures of a finished run rest on."""
    loss = None if state.last is None else state.last.deciding_loss
    finite = bool(np.isfinite(state.method.model()).all())
    return Health(
        failed=failure_of(state.standing, loss, finite),
        rounds={phase: list(tally) for phase, tally in state.standing.rounds.items()},
        lost=dict(sorted(state.standing.lost.items())),
        ignored=ignored_settings(world, state.method),
        notes=doubtful_settings(world.experiment),
        inputs=state.inputs,
    )


def input_digests(world: World) -> dict[str, str]:
    """Return SHA-256 of what a run begins with: samples, who holds which, initial values."""
    initial = hashlib.sha256(world.initial.tobytes()).hexdigest()
    return {**data_digests(world.data, world.parts), "w0": initial}


def check_inputs(experiment: Experiment, now: Mapping[str, str], began: Mapping[str, str]) -> None:
    """Compare digests of inputs with those that a run began with, where it kept any.

    Raises
    ------
    InputError
        One line that says which input is another one.
    """
    data, weights = experiment.data, experiment.model.weights
    what = {
        "data": f"data.name: the samples of {data.name!r}"
        + (f" in {data.folder}" if data.folder else ""),
        "partition": f"data.partition: what {data.partition!r} gives to the clients",
        "w0": f"model.weights: what the model takes from {weights}"
        if weights
        else f"model.name: the initial values of {experiment.model.name!r}",
    }
    for name, subject in what.items():
        if name in began and name in now and began[name] != now[name]:
            raise InputError(f"{subject}: not the same as when the run began")


def kernels_in_use() -> dict[str, str]:
    """Return what the last digits of a result may depend on beside configuration and inputs."""
    side = COMPILED.width() if COMPILED else 0
    return {
        "processor": processor(),
        "kernels": torch.backends.cpu.get_cpu_capability() + (f", {side} samples" if side else ""),
        "torch": torch.__version__,
    }


def warn_of_other_kernels(began: Mapping[str, str]) -> None:
    """Say in one line of the log where a run goes on with other kernels than it began with."""
    now = kernels_in_use()
    changed = [
        f"{name} was {began[name]}, is {value}"
        for name, value in now.items()
        if began.get(name, value) != value
    ]
    if changed:
        _LOG.warning("digests may differ from an uninterrupted run's: %s", "; ".join(changed))


@cache
def processor() -> str:
    """Return the processor's name as far as the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _machine(workers: int) -> Machine:
    used = kernels_in_use()
    return Machine(
        processor=platform.machine(),
        system=platform.system(),
        cores=os.cpu_count(),
        workers=workers,
        model=used["processor"],
        kernels=used["kernels"],
    )


def _peak_memory(workers: int) -> int:
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own *= 1 if sys.platform == "darwin" else 1024
    children = multiprocessing.active_children() if workers else []
    return own + workers * max((_most_resident(child.pid) for child in children), default=0)


def _most_resident(pid: int | None) -> int:
    """Return the largest resident memory of a process that lives, in bytes; 0 if nobody tells."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found else 0


def _costs(world: World, keep: np.ndarray) -> dict[str, int]:
    """Return multiply-accumulates per sample; whole pruned units can be cut out, single not."""
    module, shape = world.model.module, world.data.input_shape
    tokens = world.data.train.has_tokens
    found = {
        "macs_dense": macs(module, shape, tokens=tokens),
        "macs_masked": macs(module, shape, keep, tokens),
    }
    if world.experiment.prune.granularity == "filter":
        found["macs_compacted"] = found["macs_masked"]
    return found


def partition_counts(world: World) -> list[list[int]]:
    """Return samples of each class that each client holds; empty for more than 200 clients."""
    if len(world.parts) > 200 or world.data.train.targets.dim() > 1:
        return []
    counts = summary(world.parts, world.data.train.targets.numpy(), world.data.classes).counts
    return [[int(count) for count in row] for row in counts]


def client_accuracy(world: World, method: ServerMethod) -> list[float | None]:
    """Return accuracy on the test set as each client would weigh its classes.

    For every client the test accuracy per class is averaged with the client's own class
    frequencies: how the model it would be served fits that client, on held-out data.
    """
    counts = np.array(partition_counts(world), np.float64)[:_MOST_CLIENTS]
    if counts.size == 0:
        return []
    common = _class_accuracy(world, method.model())
    rows = [
        _class_accuracy(world, method.client_model(client)) if method.personalises else common
        for client in range(len(counts))
    ]
    sizes = np.maximum(counts.sum(axis=1), 1)  # all of a client's targets may be ignored
    return [float(v) for v in (counts * np.array(rows)).sum(axis=1) / sizes]


def _class_accuracy(world: World, model: np.ndarray) -> NDArray[np.float64]:
    world.model.load_model(model)
    local = world.experiment.model.batch_norm == "local"
    data = world.data
    return class_accuracy(world.model, data.test, data.classes, batch_statistics=local)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    found["torch"] = torch.__version__
    return found | _commit()


@cache
def _commit() -> dict[str, str]:
    """Return the commit that mpfl runs from, and whether anything differs; empty for none."""
    root = Path(mpfl.__file__).parents[1]
    if not (root / ".git").exists():
        return {}
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--exclude=*",
    ]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": said.stdout.strip()}
