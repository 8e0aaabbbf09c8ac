"""Gated votes: a client prunes only where it is accurate."""

from __future__ import annotations

from mpfl.ballot import vote_density
from mpfl.mask import Mask
from mpfl.training.local import evaluate
from mpfl.vote import Tally
from mpfl.world import build_world
from tests.federation import Federation, tiny


def test_nobody_prunes_below_the_gate() -> None:
    federation = Federation(tiny(prune__gate=1.0))
    federation.play(2)
    assert federation.method.mask() == Mask.full(federation.world.layout)


def test_a_gate_that_everybody_passes_changes_nothing() -> None:
    gated, free = Federation(tiny(prune__gate=1e-9)), Federation(tiny())
    gated.play(2)
    free.play(2)
    assert gated.method.mask() == free.method.mask()
    assert gated.method.mask().count() == round(0.2 * gated.world.layout.total)


def test_only_clients_above_the_gate_vote_to_prune() -> None:
    free = Federation(tiny(prune__rounds=1, prune__schedule="one_shot"))
    free.play()
    accuracies = []
    for number, trained in free.trained.items():
        world = free.world
        world.model.load(trained[: world.w0.size], trained[world.w0.size :])
        accuracies.append(evaluate(world.model, free.client(number).samples).accuracy)
    assert len(set(accuracies)) == 4
    gate = sorted(accuracies)[1]  # the two best are above it
    federation = Federation(tiny(prune__rounds=1, prune__schedule="one_shot", prune__gate=gate))
    federation.play()
    # Two ballots of density 0.2 and two full ones: the vote aims at their mean.
    assert federation.method.mask().count() == round(0.6 * federation.world.layout.total)


def test_the_vote_aims_at_the_mean_density_of_gated_ballots() -> None:
    world = build_world(tiny(prune__gate=0.5))
    tally = Tally(world.layout)
    half = world.tie_break > sorted(world.tie_break)[world.layout.total // 2 - 1]
    tally.add(Mask.full(world.layout), 1)
    tally.add(Mask.from_bools(world.layout, half), 3)
    expected = (1 + 3 * half.mean()) / 4
    assert abs(vote_density(world, 1, tally.counts(), tally.weight) - expected) < 1e-9
