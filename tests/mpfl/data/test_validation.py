"""Samples held out for validation: nobody's, in proportion, the seed's; nothing changes without."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpfl.config import DataConfig
from mpfl.data import Dataset, load_data
from mpfl.errors import InputError
from mpfl.world import build_world
from tests.runs import small

SHARE = 0.2


def rows(samples: torch.Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in samples]


def split(seed: int = 0, **keys: object) -> Dataset:
    return load_data(DataConfig(validation=SHARE, **keys), seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["digits", "pydoc"])
def test_training_and_validation_samples_are_all_there_were_each_once(name: str) -> None:
    whole, found = load_data(DataConfig(name=name), 0), split(name=name)
    both = torch.cat([found.train.inputs, found.validation.inputs])
    assert sorted(rows(both)) == sorted(rows(whole.train.inputs))
    assert len(found.validation) == round(SHARE * len(whole.train))
    assert rows(found.test.inputs) == rows(whole.test.inputs)


def test_every_class_gives_its_share() -> None:
    whole, found = load_data(DataConfig(), 0), split()
    given = np.bincount(found.validation.targets, minlength=10)
    there = np.bincount(whole.train.targets, minlength=10)
    assert np.abs(given - SHARE * there).max() < 1


def test_every_text_gives_windows_and_keeps_its_group() -> None:
    whole, found = load_data(DataConfig(name="pydoc"), 0), split(name="pydoc")
    kept, there = np.bincount(found.groups), np.bincount(whole.groups)
    assert len(found.groups) == len(found.train)
    assert np.abs(kept - (1 - SHARE) * there).max() < 1
    group = dict(zip(rows(whole.train.inputs), whole.groups, strict=True))
    assert [group[row] for row in rows(found.train.inputs)] == list(found.groups)


def test_the_seed_says_which() -> None:
    first, again, other = split(), split(), split(seed=1)
    assert torch.equal(first.validation.inputs, again.validation.inputs)
    assert not torch.equal(first.validation.inputs, other.validation.inputs)


def test_the_samples_that_are_wanted_are_shared_out() -> None:
    found = split(train_samples=100)
    assert (len(found.train), len(found.validation)) == (80, 20)


def test_clients_get_the_others_only() -> None:
    world = build_world(small(data__validation=SHARE))
    parts = np.concatenate(world.parts)
    assert sorted(parts) == list(range(320))
    assert len(world.validation_samples) == 80
    held = set(rows(world.validation_samples.inputs))
    assert not held & set(rows(world.data.train.inputs[parts]))


def test_without_any_all_is_as_ever() -> None:
    assert build_world(small()).validation_samples is None
    assert load_data(DataConfig(train_samples=100), 0).validation is None


def test_another_share_is_other_data_to_the_parties() -> None:
    prints = {
        build_world(small(data__validation=share)).fingerprint.data for share in (0, 0.2, 0.3)
    }
    assert len(prints) == 3


@pytest.mark.parametrize(("share", "held"), [(0.001, "0 of the 100"), (0.999, "100 of the 100")])
def test_a_share_that_leaves_one_side_empty_is_refused(share: float, held: str) -> None:
    with pytest.raises(InputError, match=rf"data\.validation: got {share}, which holds out {held}"):
        load_data(DataConfig(train_samples=100, validation=share), 0)


def test_a_share_of_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.validation: got 1\.0, expected 0 <= validation"):
        DataConfig(validation=1.0)
