"""Data of a researcher's own is checked once, where it enters; every mistake has its line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mpfl.data import Dataset, Samples, summary
from mpfl.errors import InputError
from mpfl.faults.stress import spoil

IMAGES, LABELS = torch.zeros(6, 1, 4, 4), torch.arange(6) % 3
TOKENS = torch.arange(12).reshape(4, 3) % 5


def dataset(**changes: object) -> Dataset:
    part = Samples(IMAGES, LABELS)
    whole = {"name": "mine", "train": part, "test": part, "classes": 3, "input_shape": (1, 4, 4)}
    return Dataset(**{**whole, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "targets", "said"),
    [
        (IMAGES.numpy(), LABELS, "inputs must be a torch tensor, got ndarray"),
        (IMAGES, LABELS.tolist(), "targets must be a torch tensor, got list"),
        (IMAGES.double(), LABELS, "got torch.float64"),
        (IMAGES.half(), LABELS, "got torch.float16"),
        (IMAGES.bool(), LABELS, "got torch.bool"),
        (IMAGES.int(), LABELS, "got torch.int32"),
        (IMAGES.long(), LABELS, r"int64 inputs are tokens \[n, length\]"),
        (IMAGES, LABELS.float(), "targets must be int64, got torch.float32"),
        (IMAGES, LABELS.int(), "targets must be int64, got torch.int32"),
        (IMAGES, torch.eye(3)[LABELS], "targets must be int64"),
        (IMAGES, LABELS[:5], "6 inputs but 5 targets"),
        (IMAGES, torch.tensor(1), "6 inputs but no targets"),
        (IMAGES, LABELS[:, None], r"got shape \(6, 1\)"),
        (IMAGES, LABELS[:, None].expand(6, 4), r"got shape \(6, 4\)"),
        (IMAGES.flatten(1), LABELS[:, None], r"got shape \(6, 1\)"),
        (IMAGES[:, 0], LABELS[:, None], r"got shape \(6, 1\)"),
        (TOKENS, TOKENS[:, :2], r"got shape \(4, 2\)"),
        (TOKENS, TOKENS[:, :, None], r"got shape \(4, 3, 1\)"),
        (torch.zeros(6), LABELS, r"one row a sample; got shape \(6,\)"),
    ],
)
def test_samples_of_wrong_kinds_and_shapes_are_refused(inputs, targets, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Samples(inputs, targets)


def test_samples_of_every_allowed_kind_are_taken() -> None:
    assert len(Samples(IMAGES, LABELS)) == 6
    assert len(Samples(IMAGES.byte(), LABELS)) == 6
    assert len(Samples(IMAGES.flatten(1), LABELS)) == 6
    assert len(Samples(TOKENS, TOKENS)) == 4
    assert len(Samples(TOKENS, TOKENS[:, 0])) == 4
    assert len(Samples(torch.zeros(4, 3, 7), TOKENS)) == 4


def with_pixel(value: float) -> Samples:
    images = IMAGES.clone()
    images[2, 0, 1, 1] = value
    return Samples(images, LABELS)


NONE = Samples(IMAGES[:0], LABELS[:0])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": 2}, "training samples: targets go from 0 to 2, expected 0 to 1"),
        ({"test": Samples(IMAGES, LABELS - 1)}, "test samples: targets go from -1 to 1"),
        ({"test": Samples(IMAGES, LABELS * 0 - 100)}, "test samples: every target is -100"),
        ({"train": NONE}, "training samples: there are none"),
        ({"test": NONE}, "test samples: there are none"),
        ({"test": with_pixel(float("nan"))}, "input 2 holds a number that is not finite"),
        ({"train": with_pixel(float("inf"))}, "input 2 holds a number that is not finite"),
        ({"input_shape": (4, 4)}, r"inputs have shape \(1, 4, 4\), expected \(4, 4\)"),
        ({"classes": 0}, "got 0 classes"),
        ({"groups": np.zeros(5, np.int64)}, "5 groups for 6 training samples"),
        ({"train": replace(NONE, inputs=IMAGES, targets=LABELS, scale=(1.0, 1.0),
                           shift=(0.0, 0.0))}, "scale has 2 numbers for 1 channels"),
    ],
)  # fmt: skip
def test_data_sets_with_wrong_content_are_refused(changes, said: str) -> None:
    with pytest.raises(InputError, match=f"data set 'mine': .*{said}|data set 'mine': {said}"):
        dataset(**changes)


def test_negative_tokens_and_parts_that_differ_are_refused() -> None:
    text = Samples(TOKENS, TOKENS)
    whole = {"train": text, "classes": 5, "input_shape": (3,)}
    with pytest.raises(InputError, match="tokens go down to -1"):
        dataset(**{**whole, "test": Samples(TOKENS - 1, TOKENS)})
    with pytest.raises(InputError, match="differ in shape"):
        dataset(**{**whole, "test": Samples(TOKENS, TOKENS[:, 0])})
    with pytest.raises(InputError, match="differ in type"):
        dataset(**{**whole, "test": Samples(TOKENS.float(), TOKENS[:, 0]),
                   "train": Samples(TOKENS, TOKENS[:, 0])})  # fmt: skip


def test_ignored_targets_are_no_class_and_stay_ignored() -> None:
    labels = LABELS.clone()
    labels[::2] = -100
    samples = Samples(IMAGES, labels)
    assert samples.has_ignored
    assert not Samples(IMAGES, LABELS).has_ignored
    assert dataset(train=samples).train is samples
    assert summary([np.arange(6)], labels.numpy(), 3).counts.tolist() == [[1, 1, 1]]
    for kind in ("labels", "noise(1)"):
        spoiled = spoil(samples, kind, np.random.default_rng(0), 3).targets
        assert (spoiled[::2] == -100).all()
        assert (spoiled[1::2] != labels[1::2]).all()
        assert ((spoiled[1::2] >= 0) & (spoiled[1::2] < 3)).all()
