"""Which scores each model of the registry has, and that the others are refused before a run."""

from __future__ import annotations

import pytest

from mpfl.models import MODELS, Shapes
from mpfl.network.structure import find_structure
from mpfl.scores import SCORES, check_score
from mpfl.world import build_world
from tests.federation import tiny

ALWAYS = {"magnitude", "taylor", "fisher", "movement", "random"}
RELU = {("filter", "apoz")}
NORMALISED = {("filter", "apoz"), ("filter", "bn_scale")}
BY_KERNEL = {("kernel", "activity")}
BY_WEIGHT = {("weight", "activity"), ("kernel", "activity")}

EXPECTED = {
    "lenet300": BY_WEIGHT | RELU,
    "lenet5_caffe": BY_KERNEL,  # no ReLU after its convolutions
    "lenet5": BY_KERNEL | RELU,
    "conv4": BY_KERNEL | RELU,
    "conv6": BY_KERNEL | RELU,
    "niid_cnn": BY_KERNEL | RELU,
    "pfl_cnn": BY_KERNEL | RELU,
    "vgg11_plain": BY_KERNEL | RELU,
    "vgg11": BY_KERNEL | NORMALISED,
    "vgg16": BY_KERNEL | NORMALISED,
    "resnet18": BY_KERNEL | NORMALISED,
    "resnet34": BY_KERNEL | NORMALISED,
    "resnet20": BY_KERNEL | NORMALISED,
    "resnet56": BY_KERNEL | NORMALISED,
    "lstm": set(),
    "gru": set(),
    "lstm_lm": set(),
    "gru_lm": set(),
}


def test_every_model_is_listed() -> None:
    assert set(EXPECTED) == set(MODELS.built_in())


@pytest.mark.parametrize("name", EXPECTED)
def test_scores_that_a_model_has(name: str) -> None:
    shape = (8,) if EXPECTED[name] == set() else (3, 32, 32)
    module = MODELS[name](Shapes(10, shape, 16))
    defined = set()
    for granularity in ("weight", "kernel", "filter"):
        structure = find_structure(module, granularity, shape)
        for score in SCORES.names():
            try:
                check_score(score, granularity, structure, module)
            except ValueError as error:
                text = str(error)
                assert f"{score!r}" in text
                assert f"{granularity!r}" in text
                assert any(f"{layer!r}" in text for layer in structure.layout.names)
            else:
                defined.add((granularity, score))
    always = {(g, s) for g in ("weight", "kernel", "filter") for s in ALWAYS}
    assert defined == always | EXPECTED[name]


@pytest.mark.parametrize("granularity", ["weight", "kernel"])
def test_a_world_with_an_undefined_score_is_not_built(granularity: str) -> None:
    with pytest.raises(ValueError, match=f"'apoz' is not defined at granularity '{granularity}'"):
        build_world(tiny(prune__score="apoz", prune__granularity=granularity))


@pytest.mark.parametrize(
    ("key", "value"),
    [("vote", "quorum(2)"), ("vote", "trimmed(4)"), ("ranking", "flt"), ("schedule", "cube")],
)
def test_a_world_with_an_impossible_part_names_its_key(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"prune\.{key}: "):
        build_world(tiny(**{f"prune__{key}": value}))
