"""A client's ballot: score what it has trained, rank, keep the best (METHODS: phase 1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpfl.data.samples import Samples
from mpfl.mask import Mask
from mpfl.ranking.rankings import rank
from mpfl.ranking.schedule import density_path
from mpfl.scores import SCORES, ScoreInputs, StepObserver
from mpfl.seeding import numpy_rng
from mpfl.training.local import evaluate
from mpfl.world import World


def target_density(world: World, round_number: int) -> float:
    """Return ρ_t of round t (from 1); after the last round of phase 1 the final density."""
    config = world.experiment.prune
    path = density_path(config.schedule, config.density, config.rounds)
    return path[min(round_number, len(path)) - 1]


def vote_density(world: World, round_number: int, counts: NDArray[np.uint32], total: int) -> float:
    """Return the density that rules such as ``budget`` aim at in a round of phase 1.

    ρ_t where clients keep exactly that much. Where a ballot's own density is its message
    (``coverage``, where alpha decides, and ``gate``, where a client may decline to prune), it is
    the mean density of the ballots.

    Parameters
    ----------
    counts, total
        The tally, uint32[d], and the sum of the ballots' weights.
    """
    config = world.experiment.prune
    if not config.by_coverage and config.gate == 0.0:
        return target_density(world, round_number)
    kept = int(counts.sum(dtype=np.uint64)) / total
    return max(kept, 1.0) / world.layout.total


def training_observer(world: World) -> StepObserver | None:
    """Return what must watch local training before `cast_ballot`; None for most scores."""
    observe = SCORES.bind(world.experiment.prune.score).observer
    return observe(world.structure) if observe else None


def cast_ballot(
    world: World,
    samples: Samples,
    mask: Mask,
    *,
    round_number: int,
    client: int,
    observer: StepObserver | None = None,
) -> Mask:
    """Score the surviving units of the trained ``world.model`` and keep the best ρ_t·d.

    With ``prune.gate`` a client whose accuracy on its own samples (at most ``score_samples`` of
    them) is not above the gate votes for the mask it has (Li et al. 2020, LotteryFL, arXiv
    2008.03371, Algorithm 1).

    Parameters
    ----------
    samples
        The client's own.
    mask
        C_{t-1}, under which the model was trained; the ballot is a subset of it.
    observer
        What `training_observer` returned, after training.
    """
    experiment = world.experiment
    config, seed = experiment.prune, experiment.seed
    inputs = ScoreInputs(
        model=world.model,
        structure=world.structure,
        samples=samples,
        batch_size=experiment.train.batch_size,
        limit=config.score_samples,
        rng=numpy_rng(seed, "score", round_number, client),
        observed=observer,
    )
    if config.gate and evaluate(world.model, inputs.scoring_samples()).accuracy <= config.gate:
        return mask
    scores = SCORES.bind(config.score).compute(inputs)
    return _best(world, scores, mask, round_number, config.ranking)


def random_ballot(world: World, mask: Mask, *, round_number: int, client: int) -> Mask:
    """Return a ballot of the density asked for by who has not looked at any data."""
    rng = numpy_rng(world.experiment.seed, "idle ballot", round_number, client)
    scores = [rng.random(units, dtype=np.float32) for units in world.layout.units]
    return _best(world, scores, mask, round_number, "layer")


def _best(
    world: World,
    scores: list[NDArray[np.float32]],
    mask: Mask,
    round_number: int,
    ranking: str,
) -> Mask:
    density, least = target_density(world, round_number), world.experiment.prune.min_units
    return rank(scores, world.layout, density, mask, ranking, least, world.coverage, world.widths)
