"""Every score against a slow and obvious implementation, on every kind of network."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mpfl.config import TrainConfig
from mpfl.data.samples import Samples
from mpfl.network.flat import FlatModel
from mpfl.network.structure import find_structure
from mpfl.scores import SCORES, ScoreInputs, check_score
from mpfl.seeding import numpy_rng, torch_generator
from mpfl.training.local import train
from tests.score_oracles import NETWORKS, ORACLES, Case, make, oracle_l1

GRANULARITIES = ("weight", "kernel", "filter")


UNDEFINED = {
    *[("activity", g, n) for g in GRANULARITIES for n in ("lstm", "gru")],
    *[("activity", "filter", n) for n in NETWORKS],
    *[("activity", "weight", n) for n in ("cnn", "bn_cnn", "residual")],
    *[(s, g, n) for s in ("apoz", "bn_scale") for g in ("weight", "kernel") for n in NETWORKS],
    *[("apoz", "filter", n) for n in ("lstm", "gru")],
    *[("bn_scale", "filter", n) for n in ("mlp", "cnn", "lstm", "gru")],
}
CASES = [(s, g, n) for s in SCORES.names() for g in GRANULARITIES for n in NETWORKS]


def score_of(spec: str, granularity: str, case: Case, limit: int = 0) -> dict[str, np.ndarray]:
    module = copy.deepcopy(case.module)
    structure = find_structure(module, granularity, case.network.shape)
    score = check_score(spec, granularity, structure, module)
    model = FlatModel(module)
    observer = score.observer(structure) if score.observer else None
    if observer:
        train(
            model,
            case.samples,
            TrainConfig(batch_size=4, lr=0.05),
            lr=0.05,
            epochs=2,
            generator=torch_generator(7, "batches"),
            observer=observer,
            freeze_statistics=True,
        )
    before = model.values.clone(), model.buffers.clone()
    inputs = ScoreInputs(
        model=model,
        structure=structure,
        samples=case.samples,
        batch_size=4,
        limit=limit,
        rng=numpy_rng(5, "score"),
        observed=observer,
    )
    scores = score.compute(inputs)
    assert torch.equal(before[0], model.values)
    assert torch.equal(before[1], model.buffers)
    assert [v.dtype for v in scores] == [np.float32] * len(scores)
    return dict(zip(structure.layout.names, scores, strict=True))


def compare(found: dict[str, np.ndarray], expected: dict[str, Tensor], tolerance: float) -> None:
    assert set(found) == set(expected)
    for layer, values in expected.items():
        assert found[layer].shape == tuple(values.shape)
        scale = max(1.0, float(values.abs().max())) if tolerance >= 1e-6 else 1.0
        assert np.abs(found[layer] - values.double().numpy()).max() <= tolerance * scale


def test_every_registered_score_has_an_oracle() -> None:
    assert set(ORACLES) == set(SCORES.names())


@pytest.mark.parametrize(("spec", "granularity", "name"), CASES)
def test_score_equals_its_slow_definition_or_is_refused(
    spec: str, granularity: str, name: str
) -> None:
    case = make(name)
    if (spec, granularity, name) in UNDEFINED:
        with pytest.raises(ValueError, match=f"{spec!r} is not defined at .*{granularity!r} for"):
            score_of(spec, granularity, case)
        return
    found, expected = score_of(spec, granularity, case), ORACLES[spec](case, granularity)
    compare(found, expected, 1e-6)
    assert any(float(v.std()) > 0 for v in expected.values())


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", NETWORKS)
def test_l1_magnitude_sums_absolute_weights(granularity: str, name: str) -> None:
    case = make(name)
    compare(score_of("magnitude(l1)", granularity, case), oracle_l1(case, granularity), 1e-6)


def test_activity_of_a_neuron_and_its_bias_sum_to_one() -> None:
    case = make("mlp")
    shares = score_of("activity", "weight", case)["1"].reshape(6, 12)
    x = case.samples.inputs.flatten(1).abs().mean(0)
    part = case.module.get_submodule("1")
    bias = part.bias.abs() / ((part.weight.abs() * x).sum(1) + part.bias.abs())
    np.testing.assert_allclose(shares.sum(1) + bias.detach().numpy(), 1.0, atol=1e-6)


def test_activity_of_dead_inputs_is_zero_not_nan() -> None:
    case = make("mlp")
    with torch.no_grad():
        case.module.get_submodule("1").bias.fill_(-1e3)
        case.module.get_submodule("3").bias.zero_()
    assert not score_of("activity", "weight", case)["3"].any()


def test_scores_look_at_no_more_samples_than_allowed() -> None:
    case = make("mlp")
    all_samples = score_of("activity", "weight", case)
    some = score_of("activity", "weight", case, limit=3)
    again = score_of("activity", "weight", case, limit=3)
    assert not np.array_equal(all_samples["1"], some["1"])
    np.testing.assert_array_equal(some["1"], again["1"])


def test_fisher_survives_gradients_whose_fourth_power_underflows() -> None:
    case = make("mlp")
    with torch.no_grad():
        last = case.module.get_submodule("5")
        last.weight.mul_(1e-9)
    scores = score_of("fisher", "filter", case)["1"]
    assert (scores > 0).any()


def test_an_unknown_argument_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"argument of score 'magnitude' 'l3'.*known: l1, l2"):
        score_of("magnitude(l3)", "weight", make("mlp"))


def test_a_convolution_without_relu_has_no_apoz() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2))
    structure = find_structure(module, "filter", (1, 4, 4))
    with pytest.raises(ValueError, match="layer '0': no ReLU follows it"):
        check_score("apoz", "filter", structure, module)


def test_apoz_of_a_linear_layer_over_a_sequence_is_of_its_units() -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 9))
    with torch.no_grad():
        module[1].bias.copy_(torch.tensor([-50.0, 50.0, 0.0, 0.0]))
    tokens = torch.arange(35).reshape(7, 5) % 9
    structure = find_structure(module, "filter", (5,))
    inputs = ScoreInputs(
        model=FlatModel(module),
        structure=structure,
        samples=Samples(tokens, tokens),
        batch_size=3,
        limit=0,
        rng=numpy_rng(5, "score"),
        observed=None,
    )
    (found,) = check_score("apoz", "filter", structure, module).compute(inputs)
    expected = (module[:3](tokens) > 0).double().mean((0, 1))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found[:2].tolist() == [0.0, 1.0]
