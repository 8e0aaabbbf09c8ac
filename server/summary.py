"""What a finished run says about itself: result, digests, versions, machine."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import sys
from importlib import metadata

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save

from mpfl.data import summary
from mpfl.network.cost import macs
from mpfl.training.local import evaluate
from mpfl.world import World
from server.methods.base import ServerMethod
from server.records import Machine, Summary
from server.round import RunState

_PACKAGES = ("mpfl", "flwr", "torch", "torchvision", "numpy", "bitarray", "zstandard")
_AS_AFTER_THE_LAST_ROUND = (
    *("test_accuracy", "test_loss", "density", "density_all_parameters"),
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
        machine=Machine(platform.machine(), platform.system(), os.cpu_count(), workers),
    )


def _peak_memory(workers: int) -> int:
    own, largest = (
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return (own + workers * largest) * (1 if sys.platform == "darwin" else 1024)


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


def client_accuracy(world: World, method: ServerMethod, most: int = 100) -> list[float | None]:
    """Return accuracy on the test set as each client would weigh its classes.

    For every client the test accuracy per class is averaged with the client's own class
    frequencies: how the model it would be served fits that client, on held-out data.
    """
    counts = np.array(partition_counts(world), np.float64)[:most]
    if counts.size == 0:
        return []
    common = class_accuracy(world, method.model())
    rows = [
        class_accuracy(world, method.client_model(client)) if method.personalises else common
        for client in range(len(counts))
    ]
    sizes = np.maximum(counts.sum(axis=1), 1)  # all of a client's targets may be ignored
    return [float(v) for v in (counts * np.array(rows)).sum(axis=1) / sizes]


def class_accuracy(world: World, model: np.ndarray) -> NDArray[np.float64]:
    """Return the accuracy of float32[P + B] on the test samples of each class (0 for none)."""
    world.model.load_model(model)
    targets = world.data.test.targets
    found = np.zeros(world.data.classes)
    for number in range(world.data.classes):
        index = (targets == number).nonzero().flatten()
        if len(index):
            found[number] = evaluate(world.model, world.data.test.subset(index)).accuracy
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    found["torch"] = torch.__version__
    return found
