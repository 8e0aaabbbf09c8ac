"""What parties compare before a run: equal where messages mean the same, else named."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import mpfl.world.fingerprint as module
from mpfl.data.samples import Dataset
from mpfl.seeding import torch_generator
from mpfl.wire.discovery import Fingerprint, Introduction
from mpfl.wire.errors import WireError
from mpfl.world import World, build_world
from tests.federation import tiny

DIGEST = st.binary(min_size=8, max_size=8)
FINGERPRINTS = st.builds(Fingerprint, DIGEST, DIGEST, DIGEST, DIGEST)
NAMES = [field.name for field in fields(Fingerprint)]


def differing(one: World, other: World) -> set[str]:
    return {n for n in NAMES if getattr(one.fingerprint, n) != getattr(other.fingerprint, n)}


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(tiny())


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ({}, set()),
        ({"engine__workers": 2, "engine__timeout": 7.0}, set()),
        ({"data__folder": "/elsewhere", "data__download": True}, set()),
        ({"seed": 1}, set(NAMES)),
        ({"prune__score": "random"}, {"configuration"}),
        ({"wire__mask_codec": "rans"}, {"configuration"}),
        ({"wire__mask_classes": 4}, {"configuration"}),
        ({"model__name": "resnet20"}, {"configuration", "w0"}),
        ({"data__clients": 3}, {"configuration", "data"}),
        ({"data__partition": "iid"}, {"configuration", "data"}),
        ({"data__train_samples": 250}, {"configuration", "data"}),
    ],
)
def test_what_must_be_equal_is_told_apart_by_name(world, overrides, names) -> None:
    assert differing(world, build_world(tiny(**overrides))) == names


def test_other_weights_under_the_same_name_show(world: World, tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    names = world.structure.named(world.initial)
    save_file({name: torch.from_numpy(np.array(array)) for name, array in names.items()}, file)
    experiment = tiny(model__weights=str(file))
    same = build_world(experiment)
    assert differing(world, same) == set()
    save_file({name: torch.from_numpy(np.array(a)) + 1e-6 for name, a in names.items()}, file)
    assert differing(same, build_world(experiment)) == {"w0"}


def test_one_pixel_and_one_label_show(world: World) -> None:
    def with_train(**changes: Any) -> World:
        data: Dataset = replace(world.data, train=replace(world.data.train, **changes))
        return replace(world, data=data)

    inputs, targets = world.data.train.inputs.clone(), world.data.train.targets.clone()
    assert differing(world, with_train(inputs=inputs, targets=targets)) == set()
    inputs.view(-1)[17] += 1
    assert differing(world, with_train(inputs=inputs)) == {"data"}
    targets[3] = (targets[3] + 1) % 10
    assert differing(world, with_train(targets=targets)) == {"data"}


def test_another_torch_shows_in_its_streams(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "torch_generator", lambda seed, *key: torch_generator(seed + 1, *key)
    )
    other = replace(world)
    assert differing(world, other) == {"streams"}


@given(FINGERPRINTS, st.integers(-5, 10**6), st.integers(-5, 10**6))
def test_introductions_survive_the_way(fingerprint, partition, partitions) -> None:
    introduction = Introduction(partition, partitions, fingerprint)
    assert Introduction.read(introduction.facts()) == introduction


@given(FINGERPRINTS, FINGERPRINTS)
def test_every_difference_is_named_and_nothing_else(one, other) -> None:
    one.check(one)
    expected = [name for name in NAMES if getattr(one, name) != getattr(other, name)]
    if expected:
        with pytest.raises(WireError) as error:
            one.check(other)
        assert [name for name in NAMES if f"{name} is " in str(error.value)] == expected


@given(st.binary(max_size=80).filter(lambda blob: len(blob) != 32))
def test_fingerprints_of_another_length_are_refused(blob) -> None:
    with pytest.raises(WireError, match=f"expected 32 bytes, got {len(blob)}"):
        Fingerprint.unpack(blob)
