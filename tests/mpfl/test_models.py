"""Models: sizes, initial values, independence from the global generator."""

import math
import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from mpfl.config import from_mapping
from mpfl.errors import InputError
from mpfl.models import MODELS, build_model
from mpfl.models.initialise import initialise
from mpfl.world import build_world
from tests.federation import Federation, tiny
from tests.networks import CIFAR, MNIST, TEXT, generator, inputs_for, shape_of


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def recurrent(gates: int, vocabulary: int, outputs: int, e: int = 128, h: int = 256) -> int:
    return vocabulary * e + gates * h * (e + h + 2) + h * outputs + outputs


@pytest.mark.parametrize(
    ("name", "classes", "shape", "count"),
    [
        ("lenet300", 10, MNIST, 266_610),
        ("lenet5_caffe", 10, MNIST, 431_080),
        ("lenet5", 10, MNIST, 61_706),
        ("niid_cnn", 10, MNIST, 44_426),
        ("niid_cnn", 10, CIFAR, 62_006),
        ("pfl_cnn", 10, CIFAR, 1_626_442),
        ("vgg11_plain", 10, CIFAR, 9_750_922),
        ("conv4", 10, CIFAR, 2_425_930),
        ("conv6", 10, CIFAR, 2_262_602),
        ("vgg11", 10, CIFAR, 9_231_114),
        ("vgg16", 10, CIFAR, 14_728_266),
        ("resnet18", 1000, (3, 224, 224), 11_689_512),
        ("resnet34", 1000, (3, 224, 224), 21_797_672),
        ("resnet18", 10, CIFAR, 11_181_642),
        ("resnet20", 10, CIFAR, 272_474),
        ("resnet56", 10, CIFAR, 855_770),
        ("resnet20(8)", 10, CIFAR, 272_474),
        ("resnet18(32)", 10, CIFAR, 11_181_642),
        ("lstm", 10, TEXT, recurrent(4, 256, 10)),
        ("gru", 10, TEXT, recurrent(3, 256, 10)),
        ("lstm_lm", 96, TEXT, recurrent(4, 96, 96)),
        ("gru_lm", 96, TEXT, recurrent(3, 96, 96)),
        ("lstm_lm(512)", 96, TEXT, recurrent(4, 96, 96, h=512)),
        ("gru( 30 )", 10, TEXT, recurrent(3, 256, 10, h=30)),
    ],
)
def test_parameter_counts(name, classes, shape, count):
    assert parameters(build_model(name, classes, shape, generator())) == count


def dense(*sizes: int) -> int:
    return sum(a * b + b for a, b in pairwise(sizes))


def conv(inputs: int, outputs: int, side: int) -> int:
    return inputs * outputs * side**2 + outputs


def test_a_tenth_of_the_parameters_is_the_narrower_network_nearest_to_it():
    model = build_model("lenet300", 10, MNIST, generator(), size=0.1)
    assert parameters(model) == dense(784, 33, 11, 10)
    nearest = min((dense(784, round(300 * w), round(100 * w), 10) for w in np.arange(1, 1e3) / 1e3),
                  key=lambda count: abs(count - 26_661))  # fmt: skip
    assert parameters(model) == nearest
    model = build_model("lenet5_caffe", 10, MNIST, generator(), size=0.1)
    first, second, third = [
        p.shape[0] for name, p in model.named_parameters() if name.endswith("weight")
    ][:3]
    assert parameters(model) == conv(1, first, 5) + conv(first, second, 5) + dense(
        16 * second, third, 10
    )
    assert abs(parameters(model) / 431_080 - 0.1) < 0.005


@pytest.mark.parametrize(
    "name", [n for n in MODELS.built_in() if n not in ("resnet18", "resnet34")]
)
@pytest.mark.parametrize("size", [0.1, 0.5])
def test_every_network_of_the_library_can_be_narrowed(name, size):
    full, less = (build_model(name, 10, shape_of(name), generator(), size=s) for s in (1.0, size))
    assert parameters(less) / parameters(full) == pytest.approx(size, rel=0.03)
    shapes = [[tuple(p.shape) for p in model.parameters()] for model in (full, less)]
    assert len(shapes[0]) == len(shapes[1])
    assert all(a <= b for x, y in zip(*shapes, strict=True) for b, a in zip(x, y, strict=True))
    model = less(inputs_for(shape_of(name), 2))
    assert torch.isfinite(model).all()


def test_what_cannot_be_narrowed_that_far_says_so():
    with pytest.raises(InputError, match=r"'resnet18' comes in one width; model\.size = 0\.1"):
        build_model("resnet18", 10, CIFAR, generator(), size=0.1)
    with pytest.raises(InputError, match=r"'lenet300' has \d+ parameters at least; .* for 267"):
        build_model("lenet300", 10, MNIST, generator(), size=0.001)
    with pytest.raises(InputError, match=r"model\.size: got 0\.0, expected 0 < size <= 1"):
        from_mapping({"model": {"size": 0}})
    with pytest.raises(InputError, match=r"model\.name: 'resnet18' comes in one width"):
        build_world(tiny(method="small_dense", model__name="resnet18"))


def test_small_dense_has_about_as_many_parameters_as_mpfl_keeps():
    small = build_world(tiny(method="small_dense"))
    game = Federation(tiny(method="mpfl", prune__density=0.1))
    game.play(4)
    survivors = int(game.survivors().sum())
    assert abs(small.structure.parameters.total / survivors - 1) < 0.1
    assert small.experiment.wire.up == ""


@pytest.mark.parametrize("name", MODELS.built_in())
def test_build_is_a_pure_function_of_the_generator(name):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = build_model(name, 10, shape_of(name), generator(5)).state_dict()
    assert torch.equal(torch.get_rng_state(), before), "the global generator was moved"
    torch.manual_seed(4)
    again = build_model(name, 10, shape_of(name), generator(5)).state_dict()
    other = build_model(name, 10, shape_of(name), generator(6)).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    weights = [key for key, value in one.items() if value.ndim and value.min() < value.max()]
    assert len(weights) > 2
    assert not any(torch.equal(one[key], other[key]) for key in weights)


@pytest.mark.parametrize("name", MODELS.built_in())
def test_outputs_are_finite_and_shaped(name):
    model = build_model(name, 10, shape_of(name), generator())
    outputs = model(inputs_for(shape_of(name), 2))
    expected = (2, 12, 10) if name.endswith("_lm") else (2, 10)
    assert outputs.shape == expected
    assert torch.isfinite(outputs).all()
    drops = any(isinstance(m, nn.Dropout) for m in model.modules())
    assert drops == (name in {"pfl_cnn", "vgg11_plain"})  # as in their papers


@pytest.mark.parametrize("name", MODELS.built_in())
def test_every_value_is_set_and_within_its_bounds(name):
    model = build_model(name, 10, shape_of(name), generator())
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
            assert (module.running_mean == 0).all()
            assert (module.running_var == 1).all()
            assert module.num_batches_tracked == 0
        elif isinstance(module, nn.Embedding):
            assert abs(float(own["weight"].detach().std()) - 1) < 0.05
        elif isinstance(module, nn.LSTM | nn.GRU):
            assert_uniform(own, 1 / math.sqrt(256))
        elif own and isinstance(module, nn.Conv2d) and name == "vgg11_plain":
            variance = 2 / (module.weight.shape[0] * 9)  # He 2015, by the outgoing connections
            assert float(own["weight"].detach().var()) == pytest.approx(variance, rel=0.1)
            assert not own["bias"].any()
        elif own and name == "pfl_cnn":
            fans = (own["weight"].shape[0] + own["weight"].shape[1]) * own["weight"][0, 0].numel()
            assert_uniform({"weight": own["weight"]}, math.sqrt(6 / fans))
            assert not own["bias"].any()
        elif own and name == "vgg11_plain":
            assert_uniform({"weight": own["weight"]}, 1 / math.sqrt(own["weight"].shape[1]))
            assert not own["bias"].any()
        elif own:
            assert_uniform(own, 1 / math.sqrt(own["weight"][0].numel()))


def assert_uniform(tensors: Mapping[str, torch.Tensor], bound: float) -> None:
    values = torch.cat([t.detach().ravel() for t in tensors.values()])
    assert float(values.abs().max()) <= bound * (1 + 1e-6)
    assert float(values.abs().max()) > 0.95 * bound
    if values.numel() > 1000:
        # The variance of uniform(±b) is b²/3.
        assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.1)


def test_initial_bounds_are_those_of_torch():
    torch.manual_seed(0)
    for module in (nn.Linear(50, 60), nn.Conv2d(7, 9, 3), nn.LSTM(5, 30), nn.GRU(5, 30)):
        theirs = {n: p.detach().clone() for n, p in module.named_parameters()}
        initialise(module, generator())
        for key, value in module.named_parameters():
            if theirs[key].numel() > 400:
                ours = float(value.detach().abs().max())
                assert ours == pytest.approx(float(theirs[key].abs().max()), rel=0.02)


@pytest.mark.parametrize("shape", [(1, 8, 8), MNIST, CIFAR])
def test_lenet300_flattens_any_input(shape):
    model = build_model("lenet300", 10, shape, generator())
    assert model(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "smallest"),
    [
        ("lenet5_caffe", 16),
        ("lenet5", 12),
        ("niid_cnn", 16),
        ("pfl_cnn", 6),
        ("vgg11_plain", 32),
        ("conv4", 4),
        ("conv6", 8),
        ("vgg11", 32),
        ("vgg16", 32),
    ],
)
def test_smallest_image_works_and_a_smaller_one_is_named(name, smallest):
    model = build_model(name, 10, (1, smallest, smallest), generator()).eval()
    assert model(torch.zeros(2, 1, smallest, smallest)).shape == (2, 10)
    with pytest.raises(ValueError, match=f"'{name}' needs .* at least {smallest}x{smallest}"):
        build_model(name, 10, (1, smallest, smallest - 1), generator())


@pytest.mark.parametrize("name", ["lenet5", "conv4", "vgg11", "resnet20"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 40, 36)])
def test_convolutional_models_take_other_sizes(name, shape):
    model = build_model(name, 7, shape, generator()).eval()
    assert model(torch.zeros(1, *shape)).shape == (1, 7)


def test_resnets_take_grey_images_and_digits():
    for name in ("resnet18", "resnet20"):
        model = build_model(name, 10, (1, 8, 8), generator()).eval()
        assert model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_torchvision_shapes_are_kept():
    from mpfl import torchvision_shim  # noqa: F401, I001
    from torchvision.models import vgg11_bn

    with torch.device("meta"):
        theirs = vgg11_bn(weights=None).features.state_dict()
    ours = build_model("vgg11", 10, CIFAR, generator()).features.state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


@pytest.mark.parametrize("name", ["conv4", "resnet18", "vgg16"])
def test_image_models_refuse_other_inputs(name):
    with pytest.raises(ValueError, match="reads images"):
        build_model(name, 10, (20,), generator())


def test_text_models_refuse_images():
    with pytest.raises(ValueError, match="reads token sequences"):
        build_model("lstm", 10, MNIST, generator())


def test_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'resnet19'; did you mean 'resnet"):
        build_model("resnet19", 10, CIFAR, generator())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("lstm_lm(0)", "got 0 hidden units"),
        ("lstm_lm(1.5)", "'1.5' is not a whole number"),
        ("lstm_lm(many)", "not a finite number"),
        ("lstm_lm(1, 2)", "takes one whole number"),
        ("lstm_lm(512", "expected a name or name"),
        ("vgg11(64)", "'vgg11' takes no argument"),
        ("resnet20(3)", "got 3 groups, expected 0 (batch normalisation) or a divisor of 16"),
        ("resnet18(-1)", "got -1 groups, expected 0"),
        ("lstn_lm(512)", "did you mean 'lstm_lm'"),
    ],
)
def test_sizes_that_make_no_sense_are_named(spec, said):
    shape = CIFAR if spec.startswith("resnet") else TEXT
    with pytest.raises(ValueError, match=re.escape(said)):
        build_model(spec, 10, shape, generator())


@pytest.mark.parametrize("name", ["resnet18(32)", "resnet34(2)", "resnet20(8)", "resnet56(16)"])
def test_groups_take_the_place_of_batches_everywhere(name):
    model = build_model(name, 10, CIFAR, generator())
    plain = build_model(name.partition("(")[0], 10, CIFAR, generator())
    groups = int(name.partition("(")[2][:-1])
    found = {n: m.num_channels for n, m in model.named_modules() if isinstance(m, nn.GroupNorm)}
    normalised = {n: m for n, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert found == {n: m.num_features for n, m in normalised.items()}
    assert {m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm)} == {groups}
    assert not list(model.buffers())


def test_initialise_refuses_unknown_parameters():
    with pytest.raises(ValueError, match=r"LayerNorm '0'"):
        initialise(nn.Sequential(nn.LayerNorm(4)), generator())


def test_a_language_model_never_looks_ahead():
    for name in ("lstm_lm", "gru_lm"):
        model = build_model(name, 10, TEXT, generator())
        tokens = inputs_for(shape_of(name), 2)
        changed = tokens.clone()
        changed[:, 6] = (changed[:, 6] + 1) % 10
        with torch.no_grad():
            one, other = model(tokens).numpy(), model(changed).numpy()
        np.testing.assert_array_equal(one[:, :6], other[:, :6])
        assert (one[:, 6:] != other[:, 6:]).any()


def test_text_classifier_vocabulary_can_be_given():
    model = build_model("gru", 3, TEXT, generator(), vocabulary=1000)
    assert model(torch.full((1, 12), 999)).shape == (1, 3)


def test_a_narrow_residual_network_keeps_out_of_a_fault_of_convolutions() -> None:
    """Channels-last, its strided shortcuts would write beyond their memory; see the function."""
    narrow = build_world(tiny(model__name="resnet20", model__size=0.1))
    assert not narrow.model.manner.channels_last
    assert build_world(tiny(model__name="resnet20")).model.manner.channels_last
