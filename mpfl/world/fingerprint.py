"""What tells a party that derived something else from the same configuration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import EngineConfig, Experiment, to_toml
from mpfl.data import Dataset
from mpfl.data.virtual import Parts, contents
from mpfl.seeding import numpy_rng, torch_generator
from mpfl.wire.discovery import Fingerprint, digest


def fingerprint_of(
    experiment: Experiment, initial: NDArray[np.float32], data: Dataset, parts: Parts
) -> Fingerprint:
    """Return the digests of w0 and b0 (`initial`), configuration, data and random streams."""
    return Fingerprint(
        w0=digest([initial.tobytes()]),
        configuration=digest([to_toml(_anywhere(experiment)).encode()]),
        data=digest([*data.contents(), *contents(parts)]),
        streams=digest(_draws(experiment.seed)),
    )


def _anywhere(experiment: Experiment) -> Experiment:
    """Return an experiment without what may differ from machine to machine: paths, the engine."""
    return replace(
        experiment,
        data=replace(experiment.data, folder="", download=False),
        model=replace(experiment.model, weights=""),
        engine=EngineConfig(),
    )


def _draws(seed: int) -> list[bytes]:
    """Return the first draws of streams of every kind that clients draw from."""
    generator, rng = torch_generator(seed, "fingerprint"), numpy_rng(seed, "fingerprint")
    drawn = [
        torch.rand(64, generator=generator),
        torch.randn(64, generator=generator),
        torch.randperm(64, generator=generator),
    ]
    return [*(t.numpy().tobytes() for t in drawn), rng.random(64).tobytes()]
