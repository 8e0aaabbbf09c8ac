"""The common ground: initial weights from a file, and rewinding that keeps norms."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.world import build_world
from tests.runs import small


def test_weights_from_a_file_replace_what_fits_and_keep_the_rest(tmp_path):
    plain = build_world(small())
    names = plain.structure.parameters
    first, shape = names.names[0], names.shapes[0]
    path = tmp_path / "w.safetensors"
    last = names.names[-1]
    save_file({first: torch.full(shape, 0.5), last: torch.zeros(1000)}, path)
    world = build_world(small(model__weights=str(path)))
    where, _ = names.place(first)
    assert (world.w0[where] == 0.5).all()
    rest = np.ones(world.w0.size, bool)
    rest[where] = False
    assert np.array_equal(world.w0[rest], plain.w0[rest])


@pytest.mark.parametrize("case", ["missing", "damaged", "unknown", "nothing fits"])
def test_a_bad_weights_file_is_refused(tmp_path, case):
    path = tmp_path / "w.safetensors"
    if case == "damaged":
        path.write_bytes(b"no tensors here")
    elif case == "unknown":
        save_file({"no.such.layer": torch.zeros(1)}, path)
    elif case == "nothing fits":
        name = build_world(small()).structure.parameters.names[0]
        save_file({name: torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"model\.weights"):
        build_world(small(model__weights=str(path)))


def test_rescaled_rewinding_keeps_each_layers_norm_and_zeros_what_is_pruned():
    world = build_world(small(prune__rescale=True))
    rng = np.random.default_rng(0)
    mask = Mask.from_bools(world.layout, rng.random(world.layout.total) < 0.1)
    start = world.start(mask)[: world.w0.size]
    keep = world.structure.parameter_mask(mask)
    assert (start[~keep] == 0).all()
    for layer in world.structure.layers:
        where, _ = world.structure.parameters.place(layer.own()[0].parameter)
        assert np.linalg.norm(start[where]) == pytest.approx(
            np.linalg.norm(world.w0[where]), rel=1e-5
        )
        ratio = start[where][keep[where]] / world.w0[where][keep[where]]
        assert ratio.std() < 1e-4 * ratio.mean()
    plain = build_world(small())
    assert np.array_equal(plain.start(mask)[: keep.size], np.where(keep, plain.w0, 0))


@pytest.mark.parametrize(
    ("data", "model", "said"),
    [
        ("pydoc", "lenet300", "'lenet300' reads numbers, and pydoc has tokens"),
        ("pydoc", "lstm(4)", "'lstm(4)' says one class of a sequence, and pydoc asks for every"),
    ],
)
def test_a_network_for_other_data_is_refused_before_any_work(data, model, said):
    with pytest.raises(InputError) as refused:
        build_world(small(data__name=data, data__partition="iid", model__name=model))
    assert str(refused.value).startswith(f"model.name: {said}")


def test_tokens_are_for_language_models():
    world = build_world(small(data__name="pydoc", data__partition="iid", model__name="gru_lm(4)"))
    assert world.data.train.has_tokens
