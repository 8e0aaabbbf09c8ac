"""Neural relief end to end: alpha decides the density, through ballots and votes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpfl.models import build_model
from mpfl.network.structure import find_structure
from mpfl.ranking.coverage import Fan
from mpfl.ranking.fans import find_coverage
from mpfl.scores import SCORES
from mpfl.seeding import torch_generator
from mpfl.wire.frame import Section
from mpfl.wire.masks import decode_mask
from mpfl.wire.sections import mask_context
from mpfl.world import build_world
from tests.federation import Federation, tiny

RELIEF = {
    "prune__score": "activity",
    "prune__ranking": "coverage",
    "prune__granularity": "kernel",
    "prune__score_samples": 0,
}


def fans(model: str, shape: tuple[int, ...]) -> dict[str, Fan]:
    module = build_model(model, 10, shape, torch_generator(0, "w0"))
    structure = find_structure(module, "kernel", shape)
    coverage = find_coverage(module, structure, tiny(**RELIEF).prune, SCORES["activity"], shape)
    assert coverage is not None
    return {fan.layer: fan for fan in coverage.fans}


def test_connections_of_lenet5_caffe() -> None:
    assert list(fans("lenet5_caffe", (1, 28, 28)).values()) == [
        Fan("conv1", 20, 1, 0.9),
        Fan("conv2", 50, 20, 0.9, "conv1"),
        Fan("fc1", 500, 800, 0.95, "conv2", 16),
        Fan("fc2", 10, 500, 0.95, "fc1"),
    ]


def test_readers_of_a_residual_sum_have_no_single_source() -> None:
    found = fans("resnet20", (3, 32, 32))
    assert found["stage1.block1.conv2"].source == "stage1.block1.conv1"
    assert found["stage1.block2.conv1"].source == ""


def test_groups_that_are_normalised_together_read_as_before() -> None:
    assert fans("resnet20(4)", (3, 32, 32)) == fans("resnet20", (3, 32, 32))


def test_one_client_s_ballot_becomes_the_mask() -> None:
    masks = []
    for vote in ("majority", "budget", "unanimous"):
        federation = Federation(tiny(data__clients=1, prune__vote=vote, **RELIEF))
        federation.play(2)
        masks.append(federation.method.mask())
    assert masks[0] == masks[1] == masks[2]
    assert 0.1 < masks[0].density() < 0.9


def test_a_round_keeps_the_shortest_prefix_of_every_neuron() -> None:
    """Activity and prefix recomputed by loops from what the client had trained."""
    federation = Federation(tiny(data__clients=1, **RELIEF))
    federation.play()
    world = federation.world
    where, shape = world.structure.parameters.place("fc3.weight")
    weight = federation.trained[0][where].reshape(shape)
    bias = federation.trained[0][world.structure.parameters.place("fc3.bias")[0]]
    world.model.load(federation.trained[0], world.b0)
    inputs, _ = federation.client(0).samples.batch(torch.arange(len(world.parts[0])))
    hidden = world.model.module[:-1](inputs).detach().abs().mean(0).numpy()  # type: ignore[index]
    kept = federation.method.mask().layers()["fc3"].reshape(shape)
    for j in range(shape[0]):
        carried = [(abs(float(weight[j, i])) * float(hidden[i]), i) for i in range(shape[1])]
        everything = sorted([*carried, (abs(float(bias[j])), -1)], reverse=True)
        whole, total, expected = sum(value for value, _ in everything), 0.0, set()
        for value, i in everything:
            if total >= 0.95 * whole:
                break
            total += value
            expected.add(i)
        assert set(np.flatnonzero(kept[j])) == expected - {-1}


def test_neurons_without_readers_have_no_inputs_left() -> None:
    federation = Federation(tiny(data__clients=1, prune__alpha_fc=0.5, prune__rounds=3, **RELIEF))
    federation.play(3)
    layers = federation.method.mask().layers()
    read = layers["fc2"].reshape(100, 300).any(axis=0)
    fed = layers["fc1"].reshape(300, 64).any(axis=1)
    assert not read.all()
    assert not (fed & ~read).any()


def test_less_alpha_keeps_less() -> None:
    densities = []
    for alpha in (0.99, 0.9, 0.7):
        federation = Federation(tiny(data__clients=1, prune__alpha_fc=alpha, **RELIEF))
        federation.play()
        densities.append(federation.method.mask().density())
    assert densities[0] > densities[1] > densities[2]


def test_budget_aims_at_the_mean_density_of_the_ballots() -> None:
    federation = Federation(tiny(**RELIEF))
    before = federation.method.mask()
    federation.play()
    world, counts = federation.world, []
    within, classes = mask_context(world.classes, before, subset=True)
    for frame in federation.replies.values():
        payload = frame.sections[Section.MASK]
        ballot = decode_mask(payload, world.layout, within=within, classes=classes)
        counts.append(ballot.count())
    assert len(set(counts)) == 4
    assert abs(federation.method.mask().count() - np.mean(counts)) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prune__score": "magnitude"}, "needs a score that is a share"),
        (
            {"prune__score": "activity", "prune__granularity": "filter"},
            "not defined at granularity",
        ),
    ],
)
def test_coverage_without_shares_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_world(tiny(**{**RELIEF, **changes}))
