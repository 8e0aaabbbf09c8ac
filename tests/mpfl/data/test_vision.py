"""The image sets: known facts, fixed splits, damaged and missing files."""

from __future__ import annotations

import gzip
import pickle
import struct
import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch

from mpfl.config import DataConfig
from mpfl.data import DATASETS, DataMissing, load_data, vision
from mpfl.errors import InputError


def test_digits_are_all_there_and_split_in_proportion():
    data = load_data(DataConfig(), 0)
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert (data.classes, data.input_shape) == (10, (1, 8, 8))
    both = torch.cat([data.train.targets, data.test.targets])
    # The class counts of the optical recognition test set, as its description lists them.
    assert both.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    held = data.test.targets.bincount() / both.bincount()
    assert ((held > 0.19) & (held < 0.21)).all()
    values = torch.cat([data.train.inputs, data.test.inputs])
    assert (values.min(), values.max()) == (0, 16)


def test_digits_equal_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data = load_data(DataConfig(), 0)
    mine = torch.cat([data.train.inputs, data.test.inputs]).flatten(1)
    labels = torch.cat([data.train.targets, data.test.targets])
    rows = sorted(map(tuple, torch.column_stack([mine, labels]).tolist()))
    theirs = load_digits()
    wanted = np.column_stack([theirs.data, theirs.target]).astype(int).tolist()
    assert rows == sorted(map(tuple, wanted))


def test_the_held_out_digits_do_not_depend_on_the_seed():
    one, other = load_data(DataConfig(), 1), load_data(DataConfig(), 2)
    assert torch.equal(one.test.inputs, other.test.inputs)
    assert torch.equal(one.train.inputs, other.train.inputs)
    # Another draw would be another benchmark.
    assert one.test.targets[:10].tolist() == [0, 7, 0, 5, 8, 9, 3, 7, 5, 9]


def test_normalised_digits_have_mean_zero_and_variance_one():
    inputs = load_data(DataConfig(), 0).train.prepared().inputs
    assert abs(inputs.mean()) < 0.01
    assert abs(inputs.std() - 1) < 0.01


def test_fewer_samples_are_drawn_by_the_seed_and_stratified():
    few = DataConfig(train_samples=100, test_samples=50)
    one, again, other = (load_data(few, seed) for seed in (1, 1, 2))
    assert (len(one.train), len(one.test)) == (100, 50)
    assert torch.equal(one.train.inputs, again.train.inputs)
    assert not torch.equal(one.train.inputs, other.train.inputs)
    assert set(one.train.targets.bincount().tolist()) <= {9, 10, 11}


def test_more_samples_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"data.test_samples: got 360, expected at most 359"):
        load_data(DataConfig(test_samples=360), 0)


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(ValueError, match=r"data.name: unknown data set 'mnits'.*'mnist'"):
        load_data(DataConfig(name="mnits"), 0)


@pytest.mark.parametrize("name", sorted(set(DATASETS.built_in()) - {"digits", "pydoc"}))
def test_missing_files_name_the_folder_and_the_flag(name, tmp_path):
    with pytest.raises(DataMissing) as caught:
        load_data(DataConfig(name=name, folder=str(tmp_path)), 0)
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "--data-dir" in message
    assert ("--download" in message) == (name not in {"imagefolder", "textfolder"})
    assert "\n" not in message
    with pytest.raises(DataMissing, match="needs a folder; name it with --data-dir"):
        load_data(DataConfig(name=name), 0)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_idx(folder, title="MNIST", pack=False, **replaced):
    rng = np.random.default_rng(0)
    raw = folder / title / "raw"
    raw.mkdir(parents=True)
    arrays = {}
    for part, count in (("train", 12), ("t10k", 5)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (count, 4, 3))
        arrays[f"{part}-labels-idx1-ubyte"] = rng.integers(0, 10, count)
    for name, array in arrays.items():
        content = replaced.get(name[:-11].replace("-", "_"), idx(array))
        if pack:
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (raw / name).write_bytes(content)
    return arrays


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(("name", "title"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_are_read_plain_and_packed(tmp_path, name, title, pack):
    arrays = write_idx(tmp_path, title, pack)
    data = load_data(DataConfig(name=name, folder=str(tmp_path)), 0)
    assert data.input_shape == (1, 4, 3)
    for samples, part in ((data.train, "train"), (data.test, "t10k")):
        images = arrays[f"{part}-images-idx3-ubyte"]
        assert samples.inputs[:, 0].tolist() == images.tolist()
        assert samples.targets.tolist() == arrays[f"{part}-labels-idx1-ubyte"].tolist()


def test_writing_to_samples_never_reaches_the_file(tmp_path):
    write_idx(tmp_path)
    config = DataConfig(name="mnist", folder=str(tmp_path))
    before = load_data(config, 0).train
    kept = before.inputs.clone()
    before.inputs.zero_()
    assert torch.equal(load_data(config, 0).train.inputs, kept)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_images", b"", "train-images-idx3-ubyte: not an idx file of images"),
        ("train_images", idx(np.zeros((12, 4, 3)))[:-1], "159 bytes, expected 160"),
        ("train_images", idx(np.zeros((11, 4, 3))), "11 train images but 12 labels"),
        ("t10k_labels", idx(np.zeros((5, 1))), "not an idx file of labels"),
        ("t10k_labels", b"PK\3\4" + bytes(20), "not an idx file of labels"),
        ("t10k_labels", b"\x89PNG\r\n" + bytes(20), "not an idx file of labels"),
        ("t10k_labels", idx(np.full(5, 255)), "labels-idx1-ubyte: a label 255, expected 0 to 9"),
        ("t10k_images", idx(np.zeros((5, 3, 4))), "train images of .4, 3. pixels, but t10k ones"),
        ("t10k_images", idx(np.zeros((0, 4, 3))), "t10k-images-idx3-ubyte: holds no images"),
        ("t10k_images", idx(np.zeros((5, 4, 3)))[:4] + b"\xff" * 12, "28 bytes|16 bytes"),
    ],
)
def test_damaged_idx_files_are_refused_by_name(tmp_path, name, content, message):
    write_idx(tmp_path, **{name: content})
    with pytest.raises(ValueError, match=message):
        load_data(DataConfig(name="mnist", folder=str(tmp_path)), 0)


@pytest.mark.parametrize("damage", ["half", "flip", "no gzip", "bomb"])
def test_a_damaged_packed_file_is_refused_by_name_in_one_line(tmp_path, damage, monkeypatch):
    write_idx(tmp_path, pack=True)
    path = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    monkeypatch.setattr(vision, "_MOST_IDX", 10_000)
    contents = {"half": whole[:middle], "flip": flipped, "no gzip": b"<html>not found</html>"}
    path.write_bytes(contents.get(damage, gzip.compress(bytes(10**6))))
    with pytest.raises(InputError, match=r"^[^\n]*train-images-idx3-ubyte.gz: [^\n]+$"):
        load_data(DataConfig(name="mnist", folder=str(tmp_path)), 0)


@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_a_half_finished_download_is_completed(tmp_path, damage, monkeypatch):
    write_idx(tmp_path, pack=True)
    path = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    whole = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(whole[:-9])
    asked = []

    def fetch(title, folder, download):
        asked.append((title, folder, download))
        path.write_bytes(whole)

    monkeypatch.setattr(vision, "_torchvision", fetch)
    config = DataConfig(name="mnist", folder=str(tmp_path))
    with pytest.raises(InputError):
        load_data(config, 0)
    assert asked == []
    for _ in range(2):
        assert len(load_data(replace(config, download=True), 0).test) == 5
    assert asked == [("MNIST", tmp_path, True)]


@pytest.fixture
def torchvision_stub(monkeypatch):
    """Stand-ins for torchvision's CIFAR classes that record what they are asked for."""
    asked = []

    class Source:
        def __init__(self, root, train, download):
            asked.append((type(self).__name__, str(root), train, download))
            count = 6 if train else 4
            self.data = np.arange(count * 32 * 32 * 3).reshape(count, 32, 32, 3).astype(np.uint8)
            self.targets = list(range(count))

    datasets = types.ModuleType("torchvision.datasets")
    for name in ("CIFAR10", "CIFAR100"):
        setattr(datasets, name, type(name, (Source,), {}))
    package = types.ModuleType("torchvision")
    vars(package)["datasets"] = datasets
    shim = types.ModuleType("mpfl.torchvision_shim")
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)
    monkeypatch.setitem(sys.modules, "mpfl.torchvision_shim", shim)
    return asked


@pytest.mark.parametrize(
    ("name", "title", "inner", "classes"),
    [
        ("cifar10", "CIFAR10", "cifar-10-batches-py", 10),
        ("cifar100", "CIFAR100", "cifar-100-python", 100),
    ],
)
def test_cifar_batches_become_channels_first(
    tmp_path, torchvision_stub, name, title, inner, classes
):
    (tmp_path / inner).mkdir()
    data = load_data(DataConfig(name=name, folder=str(tmp_path)), 0)
    assert torchvision_stub == [
        (title, str(tmp_path), True, False),
        (title, str(tmp_path), False, False),
    ]
    assert data.classes == classes
    assert data.train.inputs.shape == (6, 3, 32, 32)
    assert data.train.inputs[0, :, 0, 1].tolist() == [3, 4, 5]
    assert data.test.targets.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("name", "title"), [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")])
def test_the_network_is_used_only_when_asked(tmp_path, torchvision_stub, name, title):
    with pytest.raises(DataMissing):
        load_data(DataConfig(name=name, folder=str(tmp_path)), 0)
    assert torchvision_stub == []
    load_data(DataConfig(name=name, folder=str(tmp_path), download=True), 0)
    assert torchvision_stub[0] == (title, str(tmp_path), True, True)


@pytest.mark.slow
def test_incomplete_cifar_batches_are_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps({}))
    with pytest.raises(DataMissing, match=r"CIFAR10 in .* not found or corrupted"):
        load_data(DataConfig(name="cifar10", folder=str(tmp_path)), 0)


@pytest.mark.data
def test_mnist_has_its_known_counts(data_folder):
    data = load_data(DataConfig(name="mnist", folder=str(data_folder)), 0)
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.train.targets.bincount().tolist() == train
    assert data.test.targets.bincount().tolist() == test
    assert data.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.input_shape == (1, 28, 28)
    inputs = data.test.prepared().inputs
    assert abs(inputs.mean()) < 0.02
    assert abs(inputs.std() - 1) < 0.02


@pytest.mark.data
@pytest.mark.slow
def test_cifar10_is_decoded_from_the_packed_images(data_folder):
    if not (data_folder / "cifar10-jpeg.tar.xz").is_file():
        pytest.skip("no cifar10-jpeg.tar.xz")
    data = load_data(DataConfig(name="cifar10", folder=str(data_folder)), 0)
    assert data.train.targets.bincount().tolist() == [5000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
    assert data.train.inputs.shape == (50_000, 3, 32, 32)
    inputs = data.test.prepared().inputs
    assert inputs.mean((0, 2, 3)).abs().max() < 0.05
    assert (inputs.std((0, 2, 3)) - 1).abs().max() < 0.05
