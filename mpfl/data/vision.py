"""Labelled images of fixed size: digits, MNIST and Fashion-MNIST, CIFAR-10 and -100."""

from __future__ import annotations

import gzip
import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpfl.config import DataConfig
from mpfl.data.folder import as_samples, cached_tar, entries_on_disk, has_parts, reading, stack
from mpfl.data.loading import DataMissing, Scaling, data_folder, missing, normalisation, stratified
from mpfl.data.samples import Dataset, Samples
from mpfl.errors import InputError
from mpfl.seeding import numpy_rng

_IDX_TYPES = {1: "labels", 3: "images"}
_IDX_CLASSES = 10
_IDX_FILES = 4
"""Where all are there unpacked, torchvision fetches nothing."""
_MOST_IDX = 256 * 2**20
"""Unpacked bytes of a file; the images of MNIST are 47 million."""

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def digits(config: DataConfig) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits, 8×8, values 0 to 16 (Alpaydin & Kaynak 1998).

    359 of them are held out, stratified, the same ones whatever the run's seed.
    """
    table = _digits_table()
    labels = table[:, 64].astype(np.int64)
    inputs = torch.from_numpy(table[:, :64].astype(np.uint8).reshape(-1, 1, 8, 8))
    held = stratified(labels, len(labels) // 5, numpy_rng(0, "digits held out"))
    kept = np.setdiff1d(np.arange(len(labels)), held)
    scale = normalisation((0.3053,), (0.3760,), white=16.0)
    whole = Samples(inputs, torch.from_numpy(labels), **scale)
    train, test = (whole.subset(torch.from_numpy(part)) for part in (kept, held))
    return Dataset(config.name, train, test, 10, (1, 8, 8))


def _digits_table() -> NDArray[np.float64]:
    # scikit-learn takes seconds to import, and the file is all that is wanted of it.
    found = importlib.util.find_spec("sklearn")
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt") as lines:
                return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def mnist(config: DataConfig) -> Dataset:
    """Load MNIST, 60,000 + 10,000 images of 28×28 (LeCun et al. 1998), from ``MNIST/raw``."""
    return _idx_dataset(config, "MNIST", 0.1307, 0.3081)


def fashion_mnist(config: DataConfig) -> Dataset:
    """Load Fashion-MNIST, the size of MNIST (Xiao et al. 2017), from ``FashionMNIST/raw``."""
    return _idx_dataset(config, "FashionMNIST", 0.2860, 0.3530)


def _idx_dataset(config: DataConfig, title: str, mean: float, std: float) -> Dataset:
    folder = data_folder(config)
    raw = folder / title / "raw"
    try:
        parts = _idx_parts(raw, title, mean, std)
    except InputError:
        if not config.download or len([*raw.glob("*-ubyte")]) == _IDX_FILES:
            raise
        _torchvision(title, folder, download=True)
        parts = _idx_parts(raw, title, mean, std)
    train, test = parts
    shapes = [tuple(samples.inputs.shape[2:]) for samples in parts]
    if shapes[0] != shapes[1]:
        raise InputError(f"{raw}: train images of {shapes[0]} pixels, but t10k ones of {shapes[1]}")
    return Dataset(config.name, train, test, _IDX_CLASSES, tuple(train.inputs.shape[1:]))


def _idx_parts(raw: Path, title: str, mean: float, std: float) -> list[Samples]:
    return [_idx_samples(raw, part, title, mean, std) for part in ("train", "t10k")]


def _idx_samples(raw: Path, part: str, title: str, mean: float, std: float) -> Samples:
    images = _read_idx(raw / f"{part}-images-idx3-ubyte", 3, title)
    labels = _read_idx(raw / f"{part}-labels-idx1-ubyte", 1, title)
    if len(images) != len(labels):
        raise InputError(f"{raw}: {len(images)} {part} images but {len(labels)} labels")
    if labels.max() >= _IDX_CLASSES:
        name = _idx_path(raw / f"{part}-labels-idx1-ubyte")
        raise InputError(f"{name}: a label {int(labels.max())}, expected 0 to {_IDX_CLASSES - 1}")
    return Samples(images.unsqueeze(1), labels.long(), **normalisation((mean,), (std,)))


def _idx_path(path: Path) -> Path | None:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    return None


def _read_idx(path: Path, dimensions: int, title: str) -> Tensor:
    """Read one idx file of bytes; an unpacked one is mapped, so processes share its memory."""
    found = _idx_path(path)
    if found is None:
        raise missing(title, path.parent)
    with reading(found):
        flat = _idx_bytes(found)
    header = 4 + 4 * dimensions
    if len(flat) < header or bytes(flat[:4]) != bytes([0, 0, 8, dimensions]):
        raise InputError(f"{found}: not an idx file of {_IDX_TYPES[dimensions]}")
    shape = [int(size) for size in np.frombuffer(bytes(flat[4:header]), ">u4")]
    expected = header + math.prod(shape)
    if len(flat) != expected:
        raise InputError(f"{found}: {len(flat)} bytes, expected {expected}")
    if not all(shape):
        raise InputError(f"{found}: holds no {_IDX_TYPES[dimensions]}")
    return torch.from_numpy(np.asarray(flat[header:]).reshape(shape))


def _idx_bytes(found: Path) -> NDArray[np.uint8]:
    if found.suffix == ".gz":
        with gzip.open(found) as packed:
            content = packed.read(_MOST_IDX + 1)
        if len(content) > _MOST_IDX:
            raise InputError(f"{found}: unpacks to more than {_MOST_IDX:,} bytes")
        return np.frombuffer(bytearray(content), np.uint8)
    if not found.stat().st_size:
        return np.empty(0, np.uint8)
    # Mode "c": writable as torch wants it, yet never written back to the file.
    return np.memmap(found, np.uint8, mode="c")


def cifar10(config: DataConfig) -> Dataset:
    """Load CIFAR-10, 50,000 + 10,000 colour images of 32×32 (Krizhevsky 2009).

    Where the original batches are missing, images in ``cifar10-jpeg.tar.xz`` or in folders
    ``train/<class>`` and ``test/<class>`` do: the same pictures, recompressed, so that accuracies
    come out a little lower.
    """
    scale = normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    folder = data_folder(config)
    packed = folder / "cifar10-jpeg.tar.xz"
    if config.download or (folder / "cifar-10-batches-py").is_dir():
        return _cifar(config, "CIFAR10", 10, scale)
    if packed.is_file():
        classes, arrays = cached_tar(packed)
    elif has_parts(folder):
        classes, arrays = stack(entries_on_disk(folder), str(folder))
    else:
        raise missing("CIFAR10", folder)
    if tuple(classes) != CIFAR10_CLASSES or arrays["train_images"].shape[1:] != (3, 32, 32):
        raise InputError(f"{folder}: these images are not those of CIFAR-10")
    train, test = as_samples(arrays, scale)
    return Dataset(config.name, train, test, 10, (3, 32, 32))


def cifar100(config: DataConfig) -> Dataset:
    """Load CIFAR-100, the size of CIFAR-10 with 100 classes (Krizhevsky 2009)."""
    scale = normalisation((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    folder = data_folder(config)
    if not config.download and not (folder / "cifar-100-python").is_dir():
        raise missing("CIFAR100", folder)
    return _cifar(config, "CIFAR100", 100, scale)


def _cifar(config: DataConfig, title: str, classes: int, scale: Scaling) -> Dataset:
    parts = []
    for source in _torchvision(title, data_folder(config), config.download):
        images = torch.from_numpy(np.ascontiguousarray(source.data.transpose(0, 3, 1, 2)))
        parts.append(Samples(images, torch.tensor(source.targets), **scale))
    return Dataset(config.name, parts[0], parts[1], classes, (3, 32, 32))


def _torchvision(title: str, folder: Path, download: bool) -> list[Any]:
    """Return torchvision's training and test set; it checks the files' MD5 sums."""
    from mpfl import torchvision_shim  # noqa: F401, I001  (torchvision needs it first)
    from torchvision import datasets

    maker = getattr(datasets, title)
    try:
        return [maker(folder, train=train, download=download) for train in (True, False)]
    except OSError as error:  # no network, or no place to write to
        raise InputError(f"data.download: cannot fetch {title} into {folder}: {error}") from error
    except RuntimeError as error:
        raise DataMissing(f"data.folder: {title} in {folder}: {error}") from error
