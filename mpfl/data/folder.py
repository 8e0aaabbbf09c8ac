"""Images in folders of classes, on disk or packed in a tar file."""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mpfl.config import DataConfig
from mpfl.data.samples import Dataset, Samples, data_folder, missing, normalisation
from mpfl.errors import InputError

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_PARTS = ("train", "test")

Entry = tuple[str, str, str, bytes]
"""Part (``train`` or ``test``), class, file name, content of the file."""


def imagefolder(config: DataConfig) -> Dataset:
    """Load ``train/<class>/*`` and ``test/<class>/*``; classes are numbered by ascending name.

    The first training image decides size and whether there is colour; the others are resized
    (bilinear) and converted to that. Networks see (x/255 − 0.5) / 0.25.

    Raises
    ------
    DataMissing
        If the folder has no ``train`` and ``test`` folders.
    ValueError
        For an unreadable image, a part without images, or a test class without training images.
    """
    folder = data_folder(config)
    if not has_parts(folder):
        raise missing("imagefolder (train/<class>/*, test/<class>/*)", folder, "")
    classes, arrays = stack(entries_on_disk(folder), str(folder))
    channels = arrays["train_images"].shape[1]
    train, test = as_samples(arrays, normalisation((0.5,) * channels, (0.25,) * channels))
    return Dataset("imagefolder", train, test, len(classes), tuple(train.inputs.shape[1:]))


def has_parts(folder: Path) -> bool:
    """Tell whether there are folders ``train`` and ``test``."""
    return all((folder / part).is_dir() for part in _PARTS)


def entries_on_disk(folder: Path) -> Iterator[Entry]:
    """Yield the images of a folder, sorted by part, class and name."""
    for part in _PARTS:
        for path in sorted((folder / part).glob("*/*")):
            if path.suffix.lower() in _SUFFIXES and path.is_file():
                yield part, path.parent.name, path.name, path.read_bytes()


def entries_in_tar(path: Path) -> Iterator[Entry]:
    """Yield the images of a tar file (compressed or not) in one pass, in the file's order.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                place = PurePosixPath(member.name).parts[-3:]
                if not member.isfile() or len(place) < 3 or place[0] not in _PARTS:
                    continue
                content = archive.extractfile(member)
                if content is not None and Path(place[2]).suffix.lower() in _SUFFIXES:
                    yield place[0], place[1], place[2], content.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a tar file: {error}") from error


def stack(
    entries: Iterable[Entry], source: str
) -> tuple[list[str], dict[str, NDArray[np.generic]]]:
    """Decode images into arrays, in order of part, class and name.

    Returns
    -------
    tuple
        The class names, and ``train_images`` uint8 [n, c, h, w], ``train_labels`` int64 [n],
        ``test_images`` and ``test_labels``.

    Raises
    ------
    InputError
        As for `imagefolder`; `source` is named.
    """
    decoded: dict[str, list[tuple[str, str, NDArray[np.uint8]]]] = {part: [] for part in _PARTS}
    form: tuple[str, tuple[int, int]] | None = None
    for part, name, file, content in entries:
        picture = _open(content, f"{source}: {part}/{name}/{file}")
        if form is None:
            form = ("L" if picture.mode in ("1", "L", "LA", "I;16") else "RGB", picture.size)
        decoded[part].append((name, file, _pixels(picture, form)))
    for part in _PARTS:
        if not decoded[part]:
            raise InputError(f"{source}: no images in {part}/<class>/")
        decoded[part].sort(key=lambda item: item[:2])
    classes = sorted({name for name, _, _ in decoded["train"]})
    strange = sorted({name for name, _, _ in decoded["test"]} - set(classes))
    if strange:
        raise InputError(f"{source}: class {strange[0]!r} has test but no training images")
    arrays: dict[str, NDArray[np.generic]] = {}
    for part, items in decoded.items():
        arrays[f"{part}_images"] = np.stack([pixels for _, _, pixels in items])
        labels = [classes.index(name) for name, _, _ in items]
        arrays[f"{part}_labels"] = np.array(labels, np.int64)
    return classes, arrays


def _open(content: bytes, where: str) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{where}: not a readable image") from error
    return picture


def _pixels(picture: Image.Image, form: tuple[str, tuple[int, int]]) -> NDArray[np.uint8]:
    """Return uint8 [c, h, w]."""
    mode, size = form
    if picture.mode != mode:
        picture = picture.convert(mode)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    flat = np.frombuffer(picture.tobytes(), np.uint8)
    return np.moveaxis(flat.reshape(size[1], size[0], -1), -1, 0)


def as_samples(
    arrays: dict[str, NDArray[np.generic]], scale: dict[str, tuple[float, ...]]
) -> tuple[Samples, Samples]:
    """Return training and test samples of what `stack` returned."""
    train, test = (
        Samples(
            torch.from_numpy(arrays[f"{part}_images"]),
            torch.from_numpy(arrays[f"{part}_labels"]),
            **scale,
        )
        for part in _PARTS
    )
    return train, test


def cached_tar(path: Path) -> tuple[list[str], dict[str, NDArray[np.generic]]]:
    """Return `stack` of a tar file, from a decoded copy beside it where there is a current one.

    The copy is ``<name>.<size>-<time of change>.npz``: replacing the tar file makes it void. It
    is written only if the folder is writable, and whole or not at all.
    """
    status = path.stat()
    copy = path.with_name(f"{path.name}.{status.st_size}-{status.st_mtime_ns}.npz")
    if copy.is_file():
        with np.load(copy, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return [str(name) for name in arrays.pop("classes")], arrays
    classes, arrays = stack(entries_in_tar(path), str(path))
    if path.parent.stat().st_mode & 0o222 and os.access(path.parent, os.W_OK):
        _store(copy, {"classes": np.array(classes), **arrays})
    return classes, arrays


def _store(copy: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    # A full or unwilling disk is no reason to go without the data.
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(dir=copy.parent, suffix=".tmp", delete=False) as file,
    ):
        temporary = Path(file.name)
        try:
            np.savez(file, **arrays)  # type: ignore[arg-type]
            file.close()
            temporary.replace(copy)
        finally:
            temporary.unlink(missing_ok=True)
