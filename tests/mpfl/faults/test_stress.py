"""Spoiled clients: what changes, what does not, and who is spoiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpfl.data import Samples
from mpfl.faults.stress import spoil, stressed_clients
from mpfl.seeding import numpy_rng


def rng(client=0):
    return numpy_rng(0, "stress", client)


def images(count=6, channels=3):
    pixels = torch.arange(count * channels * 20).remainder(251).to(torch.uint8)
    return Samples(pixels.reshape(count, channels, 4, 5), torch.arange(count) % 4, (2.0,), (1.0,))


def test_pixels_pass_through_one_permutation_per_channel():
    before = images()
    marked = torch.arange(20, dtype=torch.uint8).expand(6, 3, 20).reshape(6, 3, 4, 5)
    order = spoil(Samples(marked, before.targets), "pixels", rng()).inputs.flatten(2)
    after = spoil(before, "pixels", rng())
    assert torch.equal(after.targets, before.targets)
    assert (after.scale, after.shift) == (before.scale, before.shift)
    for sample in range(6):
        for channel in range(3):
            mixed = [before.inputs[sample, channel].flatten()[i] for i in order[0, channel].long()]
            assert after.inputs[sample, channel].flatten().tolist() == mixed
    for channel in range(3):
        assert sorted(order[0, channel].tolist()) == list(range(20))
    assert order[0, 0].tolist() != order[0, 1].tolist() != list(range(20))
    assert torch.equal(before.inputs, images().inputs)


@given(classes=st.integers(2, 100), seed=st.integers(0, 1000))
def test_every_label_becomes_another_one_to_one(classes, seed):
    targets = torch.arange(classes).repeat(2)
    before = Samples(torch.zeros(2 * classes, 1), targets)
    after = spoil(before, "labels", np.random.default_rng(seed), classes).targets
    assert (after != targets).all()
    assert torch.equal(after[:classes], after[classes:])
    assert sorted(after[:classes].tolist()) == list(range(classes))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_noise_replaces_its_share_of_labels_by_other_classes_evenly(share):
    targets = torch.zeros(20_000, dtype=torch.int64) + 2
    after = spoil(Samples(torch.zeros(20_000, 1), targets), f"noise({share})", rng(), 5).targets
    counts = after.bincount(minlength=5) / 20_000
    assert counts[2].item() == pytest.approx(1 - share, abs=0.02)
    for label in (0, 1, 3, 4):
        assert counts[label].item() == pytest.approx(share / 4, abs=0.02)


def test_a_free_rider_keeps_its_data():
    before = images()
    assert spoil(before, "free_rider", rng()) is before


@pytest.mark.parametrize("kind", ["pixels", "labels", "noise(0.5)"])
def test_the_stream_decides_how_data_is_spoiled(kind):
    one, again, other = (spoil(images(40), kind, rng(c), 10) for c in (1, 1, 2))
    same = [
        torch.equal(a, b) for a, b in ((one.inputs, again.inputs), (one.targets, again.targets))
    ]
    assert all(same)
    assert not (torch.equal(one.inputs, other.inputs) and torch.equal(one.targets, other.targets))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("label", "faults.stress_kind: unknown stress 'label'; did you mean 'labels'"),
        ("noise", "'noise' takes one number"),
        ("noise(2)", "takes a probability, got 2"),
        ("labels(1)", "'labels' takes no argument"),
        ("pixels", "'pixels' needs images"),
        ("noise(", "expected a name"),
    ],
)
def test_unfit_kinds_are_refused(kind, message):
    tokens = torch.zeros(4, 8, dtype=torch.int64)
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the message is compared below)
        spoil(Samples(tokens, tokens), kind, rng(), 5)
    assert message in str(caught.value)


def test_wrong_labels_need_two_classes():
    samples = Samples(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least two classes"):
        spoil(samples, "labels", rng())


@given(seed=st.integers(0, 100), clients=st.integers(1, 50), share=st.floats(0, 1))
def test_the_share_of_clients_is_met_and_grows_by_addition(seed, clients, share):
    chosen = stressed_clients(seed, clients, share)
    assert abs(len(chosen) - share * clients) <= 0.5
    assert all(0 <= client < clients for client in chosen)
    assert chosen == stressed_clients(seed, clients, share)
    assert chosen <= stressed_clients(seed, clients, min(1.0, share + 0.2))


def test_the_seed_chooses_who_is_stressed():
    assert len({stressed_clients(seed, 10, 0.2) for seed in range(20)}) > 5
    with pytest.raises(ValueError, match=r"faults.stress: got 1.5, expected 0 to 1"):
        stressed_clients(0, 10, 1.5)


def test_nobody_is_drawn_from_more_than_can_be_looked_at():
    with pytest.raises(ValueError, match="got 100000000000000, expected at most 100000000"):
        stressed_clients(0, 10**14, 0.1)
    assert stressed_clients(0, 10**14, 0.0) == frozenset()
