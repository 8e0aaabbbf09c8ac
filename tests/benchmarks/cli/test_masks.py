"""``mpfl mask``: what is shown, compared and exported is what the bits say."""

import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn.utils import prune

from benchmarks.cli.main import invoke
from benchmarks.cli.masks import diff_rows, heat_lines
from benchmarks.results.mask_export import FORMATS, parameter_masks
from mpfl.mask import Mask
from mpfl.models import build_model
from mpfl.world import world_from_toml
from tests.runs import run_small

bits = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask") / "run"
    run_small(folder, federation__rounds=2, prune__rounds=1)
    return folder


@pytest.fixture
def files(tmp_path):
    a = {"one": np.array([1, 1, 0, 0, 1], bool), "two": np.array([0, 0, 0], bool)}
    b = {"one": np.array([1, 0, 1, 0, 0], bool), "two": np.array([0, 0, 0], bool)}
    paths = [tmp_path / "a.mpfl", tmp_path / "b.mpfl"]
    for path, layers in zip(paths, (a, b), strict=True):
        path.write_bytes(Mask.from_layers(layers).to_bytes())
    return [str(path) for path in paths]


def test_show_counts_every_layer(files, capsys):
    assert invoke(["mask", "show", files[0], "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["layers"] == [
        {"layer": "one", "units": 5, "kept": 3, "density": 0.6},
        {"layer": "two", "units": 3, "kept": 0, "density": 0.0},
    ]
    assert (shown["units"], shown["kept"], shown["density"]) == (8, 3, 3 / 8)


def test_show_prints_one_layer_its_heat_and_the_digest(files, tmp_path, capsys):
    png = tmp_path / "heat.png"
    options = ["--layer", "one", "--heat", "--png", str(png)]
    assert invoke(["mask", "show", files[0], *options]) == 0
    out = capsys.readouterr().out
    assert Mask.from_bytes((tmp_path / "a.mpfl").read_bytes()).digest() in out
    assert "two" not in out
    assert "@@  @" in out
    assert png.read_bytes().startswith(b"\x89PNG")


def test_heat_maps_tell_nothing_from_little():
    lines = heat_lines(np.array([[0.0, 0.001, 0.5, 1.0], [0.0, 0.0, 0.0, 0.9]]))
    assert lines[0][0] == " "
    assert lines[0][1] != " "
    assert (lines[0][3], lines[1][:3]) == ("@", "   ")
    assert heat_lines(np.zeros((1, 3))) == ["   "]


def test_diff_prints_who_keeps_what(files, capsys):
    assert invoke(["mask", "diff", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    one, two = found["layers"]
    assert one == {
        "layer": "one", "units": 5, "only_a": 2, "only_b": 1, "both": 1, "jaccard": 0.25
    }  # fmt: skip
    assert two["jaccard"] == 1.0
    assert found["all"]["jaccard"] == 0.25
    assert invoke(["mask", "diff", *files]) == 0
    assert "0.2500" in capsys.readouterr().out


@given(bits)
def test_diff_agrees_with_sets(pairs):
    half = len(pairs) // 2
    columns = np.array(pairs, bool)
    masks = [
        Mask.from_layers({"x": column[:half], "y": column[half:]})
        for column in (columns[:, 0], columns[:, 1])
    ]
    parts = (slice(half), slice(half, None), slice(None))
    for row, part in zip(diff_rows(*masks), parts, strict=True):
        a = {i for i in range(len(pairs))[part] if pairs[i][0]}
        b = {i for i in range(len(pairs))[part] if pairs[i][1]}
        assert (row["only_a"], row["only_b"], row["both"]) == (len(a - b), len(b - a), len(a & b))
        assert row["jaccard"] == (len(a & b) / len(a | b) if a | b else 1.0)


def test_masks_of_other_layers_cannot_be_compared(files, tmp_path, capsys):
    other = tmp_path / "other.mpfl"
    other.write_bytes(Mask.from_layers({"one": np.ones(5, bool)}).to_bytes())
    assert invoke(["mask", "diff", files[0], str(other)]) == 2
    assert "two[3]" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing"])
@pytest.mark.parametrize("command", ["show", "export", "diff"])
def test_damaged_files_are_one_line_and_status_2(files, tmp_path, capsys, damage, command):
    path = tmp_path / "a.mpfl"
    blob = bytearray(path.read_bytes())
    if damage == "flipped":
        blob[-1] ^= 1
    path.write_bytes({"truncated": blob[:-1], "flipped": blob}.get(damage, b""))
    if damage == "missing":
        path.unlink()
    rest = {"show": [], "export": ["--out", str(tmp_path / "x")], "diff": [files[1]]}[command]
    assert invoke(["mask", command, files[0], *rest]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a.mpfl" in error
    assert not (tmp_path / "x").exists()


def test_unknown_names_are_refused(files, tmp_path, capsys):
    assert invoke(["mask", "show", files[0], "--layer", "on"]) == 2
    assert "'one'" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "x")]
    assert invoke(["mask", "export", files[0], "--format", "npy", *out]) == 2
    assert "'npz'" in capsys.readouterr().err
    assert invoke(["mask", "export", files[0], "--format", "prune", *out]) == 2
    assert "--run" in capsys.readouterr().err


def test_npz_without_a_run_holds_flat_layers(files, tmp_path):
    out = tmp_path / "mask.npz"
    assert invoke(["mask", "export", files[0], "--out", str(out)]) == 0
    arrays = np.load(out)
    assert arrays.files == ["one", "two"]
    assert arrays["one"].dtype == np.bool_
    assert arrays["one"].tolist() == [True, True, False, False, True]


def test_npz_takes_the_shapes_of_the_run_around_the_mask(run_folder, tmp_path):
    out = tmp_path / "mask.npz"
    assert invoke(["mask", "export", str(run_folder / "mask.mpfl"), "--out", str(out)]) == 0
    mask = Mask.from_bytes((run_folder / "mask.mpfl").read_bytes())
    model = load_file(run_folder / "model.safetensors")
    arrays = np.load(out)
    for name, expected in mask.layers().items():
        assert arrays[name].shape == tuple(model[f"{name}.weight"].shape)
        assert arrays[name].ravel().tolist() == expected.tolist()


@pytest.mark.parametrize("command", [["show", "--heat"], ["export", "--out", "OUT"]])
def test_a_run_that_is_none_is_refused(files, tmp_path, capsys, command):
    out = tmp_path / "out"
    options = [str(out) if word == "OUT" else word for word in command]
    assert invoke(["mask", *options, files[0], "--run", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert f"{tmp_path} is not a run folder: it has no config.toml" in shown.err
    assert (shown.out, out.exists()) == ("", False)


def export(run_folder, tmp_path, form):
    out = tmp_path / form
    mask = str(run_folder / "mask.mpfl")
    assert invoke(["mask", "export", mask, "--format", form, "--out", str(out)]) == 0
    return torch.load(out, weights_only=True)


def test_torch_masks_cover_exactly_the_surviving_weights(run_folder, tmp_path):
    masks = export(run_folder, tmp_path, "torch")
    model = load_file(run_folder / "model.safetensors")
    assert set(masks) == {f"fc{i}.weight_mask" for i in (1, 2, 3)}
    for name, keep in masks.items():
        weights = model[name.removesuffix("_mask")]
        assert keep.dtype == torch.bool
        assert keep.shape == weights.shape
        assert bool((weights[~keep] == 0).all())
        assert bool((weights[keep] != 0).any())


def test_a_module_pruned_by_torch_loads_the_export(run_folder, tmp_path):
    state = export(run_folder, tmp_path, "prune")
    world = world_from_toml((run_folder / "config.toml").read_text())
    fresh = build_model("lenet300", 10, world.data.input_shape, torch.Generator().manual_seed(3))
    for module in fresh.modules():
        if isinstance(module, torch.nn.Linear):
            prune.identity(module, "weight")
    fresh.load_state_dict(state, strict=True)
    model = load_file(run_folder / "model.safetensors")
    inputs, _ = world.data.test.batch(torch.arange(5))
    got = fresh(inputs)
    for module in fresh.modules():
        if isinstance(module, torch.nn.Linear):
            prune.remove(module, "weight")
    assert fresh.state_dict().keys() == model.keys()
    for name, values in fresh.state_dict().items():
        assert torch.equal(values, model[name])
    assert torch.equal(fresh(inputs), got)


def test_filter_masks_reach_biases_and_the_next_layer(tmp_path):
    folder = tmp_path / "run"
    run_small(folder, federation__rounds=1, prune__rounds=1, prune__granularity="filter")
    world = world_from_toml((folder / "config.toml").read_text())
    mask = Mask.from_bytes((folder / "mask.mpfl").read_bytes())
    keep = mask.layers()["fc1"]
    masks = parameter_masks(mask, world)
    assert not keep.all()
    assert masks["fc1.bias"].tolist() == keep.tolist()
    assert not masks["fc2.weight"][:, ~keep].any()
    content = FORMATS["torch"].write(mask, folder)
    assert "fc1.bias_mask" in torch.load(io.BytesIO(content), weights_only=True)
