"""A client's ballot: train from w0 under the last mask, score, rank (METHODS: phase 1)."""

from __future__ import annotations

import numpy as np
import torch

from mpfl.data.samples import Samples
from mpfl.mask import Mask
from mpfl.ranking import rank
from mpfl.registry import parse_spec
from mpfl.schedule import density_path
from mpfl.scores import SCORES, ScoreInputs
from mpfl.seeding import numpy_rng, torch_generator
from mpfl.training import TrainResult, train
from mpfl.world import World


def target_density(world: World, round_number: int) -> float:
    """Return ρ_t of round t (from 1); after the last round of phase 1 the final density."""
    config = world.experiment.prune
    path = density_path(config.schedule, config.density, config.rounds)
    return path[min(round_number, len(path)) - 1]


def cast_ballot(
    world: World, samples: Samples, mask: Mask, *, round_number: int, client: int
) -> tuple[Mask, TrainResult]:
    """Train locally from w0 ⊙ mask, score the surviving units and keep the best ρ_t·d.

    Parameters
    ----------
    mask
        C_{t-1}; the ballot is a subset of it.

    Returns
    -------
    ballot, result
        The vote, and what training reported.
    """
    experiment = world.experiment
    config, seed = experiment.prune, experiment.seed
    name, arguments = parse_spec(config.score)
    score = SCORES[name]
    keep = torch.from_numpy(world.structure.parameter_mask(mask).astype(np.float32))
    world.model.load(world.w0, world.b0)
    observer = score.observer(world.structure) if score.observer else None
    result = train(
        world.model,
        samples,
        experiment.train,
        lr=experiment.train.lr,
        epochs=config.epochs or experiment.train.epochs,
        generator=torch_generator(seed, "batches", round_number, client),
        keep=keep,
        observer=observer,
        freeze_statistics=experiment.model.batch_norm == "freeze",
    )
    inputs = ScoreInputs(
        model=world.model,
        structure=world.structure,
        samples=samples,
        arguments=arguments,
        batch_size=experiment.train.batch_size,
        limit=config.score_samples,
        rng=numpy_rng(seed, "score", round_number, client),
        observed=observer,
        keep=keep,
    )
    scores = score.compute(inputs)
    density = target_density(world, round_number)
    ballot = rank(scores, world.layout, density, mask, config.ranking, config.min_units)
    return ballot, result
