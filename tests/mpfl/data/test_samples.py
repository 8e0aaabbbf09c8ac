"""Samples: batches, preparation, subsets and stratified draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpfl.data.loading import normalisation, stratified
from mpfl.data.samples import Samples

IMAGES = torch.arange(5 * 2 * 3 * 3, dtype=torch.uint8).reshape(5, 2, 3, 3)
TARGETS = torch.tensor([4, 3, 2, 1, 0])


def test_batch_normalises_each_channel_of_the_samples_asked_for():
    samples = Samples(IMAGES, TARGETS, **normalisation((0.5, 0.1), (0.25, 0.2)))
    inputs, targets = samples.batch(torch.tensor([3, 0, 3]))
    assert inputs.dtype == torch.float32
    assert targets.tolist() == [1, 4, 1]
    for row, index in enumerate((3, 0, 3)):
        for channel, (mean, std) in enumerate(((0.5, 0.25), (0.1, 0.2))):
            wanted = (IMAGES[index, channel].numpy() / 255 - mean) / std
            np.testing.assert_allclose(inputs[row, channel].numpy(), wanted, atol=1e-5)
    assert samples.inputs.dtype == torch.uint8


@pytest.mark.parametrize("scale", [{}, normalisation((0.3, 0.4), (0.5, 0.6))])
def test_prepared_samples_give_the_same_batches(scale):
    samples = Samples(IMAGES, TARGETS, **scale)
    index = torch.tensor([4, 1])
    ready = samples.prepared()
    assert ready.inputs.dtype == torch.float32
    for one, other in zip(samples.batch(index), ready.batch(index), strict=True):
        assert torch.equal(one, other)
    assert ready.prepared() is ready


def test_tokens_pass_unchanged():
    tokens = torch.tensor([[1, 2], [3, 4]])
    inputs, targets = Samples(tokens, tokens + 1).batch(torch.tensor([1]))
    assert inputs.tolist() == [[3, 4]]
    assert inputs.dtype == torch.int64
    assert targets.tolist() == [[4, 5]]


def test_a_subset_is_a_copy_in_the_order_asked_for():
    samples = Samples(IMAGES.clone(), TARGETS.clone(), (1.0, 1.0), (0.0, 0.0))
    part = samples.subset(torch.tensor([2, 0]))
    assert len(part) == 2
    assert part.targets.tolist() == [2, 4]
    part.inputs.zero_()
    assert torch.equal(samples.inputs, IMAGES)
    assert part.scale == samples.scale


@pytest.mark.parametrize(
    ("inputs", "targets", "scale", "message"),
    [
        (torch.zeros(3, 1), torch.zeros(2, dtype=torch.int64), (), "3 inputs but 2 targets"),
        (torch.zeros(2, 1), torch.zeros(2), (), "must be int64, got torch.float32"),
        (torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64), (1.0,), "one number per channel"),
    ],
)
def test_samples_that_do_not_fit_are_refused(inputs, targets, scale, message):
    with pytest.raises(ValueError, match=message):
        Samples(inputs, targets, scale)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), data=st.data())
def test_a_stratified_draw_has_every_class_in_proportion(labels, data):
    labels = np.array(labels)
    count = data.draw(st.integers(0, len(labels)))
    drawn = stratified(labels, count, np.random.default_rng(0))
    assert len(set(drawn.tolist())) == len(drawn) == count
    assert (np.diff(drawn) > 0).all()
    for name in set(labels.tolist()):
        exact = (labels == name).sum() * count / len(labels)
        assert abs((labels[drawn] == name).sum() - exact) < 1
