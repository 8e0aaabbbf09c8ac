"""Regrowth: what is exchanged, when, and that density stays."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask
from mpfl.regrow import exchange, regrow_ballot, regrowth
from mpfl.training.losses import loss_of
from mpfl.wire.frame import Section
from mpfl.wire.masks import decode_mask
from mpfl.wire.sections import mask_context
from mpfl.world import build_world
from tests.federation import Federation, tiny

LAYOUT = Layout(("a", "b"), (12, 7))


@given(
    st.lists(st.booleans(), min_size=19, max_size=19),
    st.floats(0.0, 1.0),
    st.integers(0, 2**32 - 1),
)
def test_exchange_drops_the_smallest_and_grows_the_best_outside(
    bits: list[bool], share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values, growth = rng.permutation(19).astype(np.float32), rng.permutation(19).astype(np.float32)
    old = Mask.from_bools(LAYOUT, np.array(bits))
    new = exchange(old, values, growth, share)
    assert new.counts() == old.counts()
    for part in LAYOUT.slices():
        before, after = old.bools()[part], new.bools()[part]
        count = min(math.floor(share * before.sum()), int((~before).sum()))
        dropped, grown = before & ~after, after & ~before
        expected = sorted(np.flatnonzero(before), key=lambda i: values[part][i])[:count]
        assert set(np.flatnonzero(dropped)) == set(expected)
        expected = sorted(np.flatnonzero(~before), key=lambda i: -growth[part][i])[:count]
        assert set(np.flatnonzero(grown)) == set(expected)


def test_regrowth_follows_the_cosine_and_rests_at_both_ends() -> None:
    experiment = tiny(
        prune__regrow="gradient",
        prune__regrow_fraction=0.4,
        prune__regrow_every=2,
        prune__rounds=2,
        federation__rounds=18,
    )
    shares = [regrowth(experiment, 3 + step, step) for step in range(16)]
    for step, share in enumerate(shares):
        if step in (2, 4, 6, 8, 10):
            assert share == pytest.approx(0.2 * (1 + math.cos(math.pi * step / 12)))
        else:
            assert share == 0.0


def test_without_regrow_nothing_is_exchanged() -> None:
    assert regrowth(tiny(), 4, 1) == 0.0


@pytest.mark.parametrize(("regrow", "codec"), [("gradient", "int8"), ("random", "float32")])
def test_masks_change_at_constant_density_and_regrown_weights_start_at_zero(
    regrow: str, codec: str
) -> None:
    federation = Federation(
        tiny(
            prune__regrow=regrow,
            prune__rounds=1,
            federation__rounds=9,
            wire__up=codec,
            wire__down=codec,
        )
    )
    federation.play(2)
    count = federation.world.structure.parameters.total
    changes = 0
    for _ in range(3, 10):
        old = federation.method.mask()
        federation.play()
        new = federation.method.mask()
        assert new.count() == old.count() == round(0.2 * old.layout.total)
        grown = federation.world.structure.parameter_mask(new)
        grown &= ~federation.world.structure.parameter_mask(old)
        assert not federation.method.model()[:count][grown].any()
        assert not federation.method.model()[:count][~federation.survivors()[:count]].any()
        changes += new != old
        assert (new != old) == grown.any()
    assert changes == 5  # steps 1 to 5 of 8; RigL rests from three quarters on


def test_clients_follow_regrown_masks() -> None:
    federation = Federation(tiny(prune__regrow="random", prune__rounds=1, federation__rounds=9))
    federation.play(5)
    masks = federation.states[2].masks
    held = masks[max(masks)]
    assert held != federation.method.mask()
    federation.play()
    for number in range(4):
        trained = federation.trained[number][: federation.world.structure.parameters.total]
        assert np.count_nonzero(trained) <= 0.2 * 50_200 + 410  # 410 biases


def test_gradient_regrowth_takes_the_largest_gradients() -> None:
    world = build_world(tiny(prune__regrow="gradient", prune__score_samples=0))
    rng = np.random.default_rng(0)
    mask = Mask.from_bools(world.layout, rng.random(world.layout.total) < 0.3)
    keep = world.structure.parameter_mask(mask)
    world.model.load(np.where(keep, world.w0, 0).astype(np.float32), world.b0)
    samples = world.data.train.subset(torch.arange(64))
    module = copy.deepcopy(world.model.module)
    inputs, targets = samples.batch(torch.arange(64))
    loss_of(module(inputs), targets).backward()
    new = regrow_ballot(world, samples, mask, round_number=4, step=1)
    share = regrowth(world.experiment, 4, 1)
    assert share > 0
    for name in ("fc1", "fc2", "fc3"):
        gradient = module.get_submodule(name).weight.grad.abs().flatten().numpy()
        before, after = mask.layers()[name], new.layers()[name]
        grown = after & ~before
        assert grown.sum() == math.floor(share * before.sum())
        others = ~before & ~after
        assert gradient[grown].min() >= gradient[others].max() - 1e-7


def test_random_regrowth_is_the_same_for_all_clients_and_new_every_round() -> None:
    federation = Federation(
        tiny(prune__regrow="random", prune__rounds=1, federation__rounds=9, prune__vote="any")
    )
    federation.play(2)
    old = federation.method.mask().bools()
    federation.play()
    first = federation.method.mask().bools() & ~old
    assert first.sum() <= 0.3 * old.sum()  # four clients grow the same units, not four sets


def test_only_regrowing_rounds_carry_ballots_in_phase_two() -> None:
    federation = Federation(
        tiny(
            prune__regrow="gradient",
            prune__rounds=1,
            prune__regrow_every=2,
            federation__rounds=7,
        )
    )
    federation.play()
    ballots = []
    for _ in range(6):
        federation.play()
        ballots.append(Section.MASK in federation.replies[0].sections)
        assert Section.VALUES in federation.replies[0].sections
    assert ballots == [False, False, True, False, True, False]


def test_removed_filters_cannot_be_regrown() -> None:
    with pytest.raises(ValueError, match=r"prune\.regrow: a removed filter"):
        build_world(tiny(prune__regrow="random", prune__granularity="filter"))


def _plain_exchange(
    keep: NDArray[np.bool_],
    values: NDArray[np.float32],
    gradient: NDArray[np.float32],
    share: float,
) -> NDArray[np.bool_]:
    """Drop by |w| and regrow by |gradient| in one layer: sort and cut."""
    inside = [int(i) for i in np.flatnonzero(keep)]
    outside = [int(i) for i in np.flatnonzero(~keep)]
    count = min(int(share * len(inside)), len(outside))
    inside.sort(key=lambda i: (abs(float(values[i])), -i))
    outside.sort(key=lambda i: (-abs(float(gradient[i])), i))
    new = np.zeros_like(keep)
    new[inside[count:] + outside[:count]] = True
    return new


def test_feddst_drops_by_size_regrows_by_gradient_and_keeps_every_layers_density() -> None:
    game = Federation(tiny(method="feddst", prune__score_samples=0, federation__rounds=8))
    world, layout = game.world, game.world.layout
    game.play()
    before = game.method.mask()
    first = before.counts()
    assert sum(first) == round(0.2 * layout.total)
    # Erdős-Rényi: densities are to each other as (inputs + outputs) / (inputs · outputs)
    densities = [count / units for count, units in zip(first, layout.units, strict=True)]
    ratio = (64 + 300) / (64 * 300) / ((300 + 100) / (300 * 100))
    assert densities[0] / densities[1] == pytest.approx(ratio, rel=1e-3)
    changed = 0
    for _ in range(7):
        game.play()
        after = game.method.mask()
        assert after.counts() == first
        share = regrowth(world.experiment, game.number, game.number - 2)
        if not share:
            assert after == before
            continue
        changed += after != before
        tally = np.zeros(layout.total, np.int64)
        for number, reply in game.replies.items():
            trained = game.trained[number][: world.structure.parameters.total]
            world.model.load(trained, world.b0)
            samples = world.data.train.subset(torch.as_tensor(world.parts[number]))
            module = copy.deepcopy(world.model.module)
            inputs, targets = samples.batch(torch.arange(len(samples)))
            loss_of(module(inputs), targets).backward()
            weights = [(name, p) for name, p in module.named_parameters() if "weight" in name]
            wanted = np.concatenate(
                [
                    _plain_exchange(
                        before.bools()[part],
                        parameter.detach().flatten().numpy(),
                        parameter.grad.flatten().numpy(),
                        share,
                    )
                    for part, (_, parameter) in zip(layout.slices(), weights, strict=True)
                ]
            )
            _, classes = mask_context(world.classes, before, subset=False)
            ballot = decode_mask(reply.sections[Section.MASK], layout, classes=classes).bools()
            # gradients of one batch and of several differ in the last bits: few near ties
            assert (ballot != wanted).mean() < 1e-3
            assert (ballot != before.bools()).any()
            tally += ballot * len(samples)
        for part, count in zip(layout.slices(), first, strict=True):
            order = np.lexsort((-world.tie_break[part], -tally[part]))
            kept = set(np.flatnonzero(after.bools()[part]).tolist())
            assert kept == set(order[:count].tolist())
        before = after
    assert changed == 4
