"""Images in folders of classes, on disk or packed in a tar file."""

from __future__ import annotations

import contextlib
import io
import lzma
import os
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mpfl.data.loading import Scaling
from mpfl.data.samples import Samples
from mpfl.errors import InputError

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_PARTS = ("train", "test")
_IGNORED = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_MOST_BYTES = 512 * 2**20
"""Of one image file."""
_MOST_UNPACKED = 2 * 2**30
"""Bytes of a whole packed set."""

Entry = tuple[str, str, str, bytes]
"""Part (``train`` or ``test``), class, file name, content of the file."""


def has_parts(folder: Path) -> bool:
    """Tell whether there are folders ``train`` and ``test``."""
    return all((folder / part).is_dir() for part in _PARTS)


def has_one_part(folder: Path) -> str:
    """Return which of ``train`` and ``test`` is there without the other; empty if none is."""
    found = [part for part in _PARTS if (folder / part).is_dir()]
    return found[0] if len(found) == 1 else ""


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what the system or a decoder says about a file into an InputError that names it."""
    try:
        yield
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        text = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {text}") from error


def entries_on_disk(folder: Path) -> Iterator[Entry]:
    """Yield the images of a folder, sorted by part, class and name.

    Raises
    ------
    InputError
        For a file that cannot be read, or a class of the training set without images.
    """
    for part in _PARTS:
        for group in shown(folder / part):
            if not group.is_dir():
                continue
            files = images_below(group)
            if part == "train" and not files:
                raise InputError(f"{group}: a class without images")
            for file in files:
                yield part, group.name, file.relative_to(group).as_posix(), image_bytes(file)


def images_below(folder: Path) -> list[Path]:
    """Return the images at any depth, sorted."""
    return [file for file in below(folder) if file.suffix.lower() in _SUFFIXES]


def below(folder: Path, inside: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files at any depth; links are followed, but never round in a circle."""
    real = folder.resolve()
    if real in inside:
        return
    for path in shown(folder):
        if path.is_dir():
            yield from below(path, (*inside, real))
        elif path.is_file():
            yield path


def shown(folder: Path) -> list[Path]:
    """Return what is in a folder but for hidden entries, by name."""
    with reading(folder):
        return sorted(path for path in folder.iterdir() if not _is_hidden(path.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _IGNORED


def image_bytes(file: Path) -> bytes:
    """Return what is in an image file; InputError where it cannot be read, or is huge."""
    with reading(file):
        _check_size(file.stat().st_size, str(file))
        return file.read_bytes()


def _check_size(size: int, where: str) -> None:
    if size > _MOST_BYTES:
        raise InputError(f"{where}: {size:,} bytes, expected at most {_MOST_BYTES:,} of an image")


class _Bounded:
    """A stream that refuses to give more than a packed set can hold."""

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream, self._path, self._left = stream, path, _MOST_UNPACKED

    def read(self, size: int) -> bytes:
        content: bytes = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise InputError(f"{self._path}: unpacks to more than {_MOST_UNPACKED:,} bytes")
        return content


def entries_in_tar(path: Path) -> Iterator[Entry]:
    """Yield the images of a ``.tar.xz`` file in one pass, in the file's order.

    Raises
    ------
    InputError
        If the file is damaged, or far larger than it should be.
    """
    with reading(path), lzma.open(path) as plain:
        stream: Any = _Bounded(plain, path)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                place = PurePosixPath(member.name).parts[-3:]
                if not member.isfile() or len(place) < 3 or place[0] not in _PARTS:
                    continue
                if any(map(_is_hidden, place)) or Path(place[2]).suffix.lower() not in _SUFFIXES:
                    continue
                _check_size(member.size, f"{path}: {member.name}")
                content = archive.extractfile(member)
                if content is not None:
                    yield place[0], place[1], place[2], content.read()


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
        As for `mpfl.data.natural.imagefolder`; `source` is named.
    """
    decoded: dict[str, list[tuple[str, str, NDArray[np.uint8]]]] = {part: [] for part in _PARTS}
    form: tuple[str, tuple[int, int]] | None = None
    for part, name, file, content in entries:
        picture = _open(content, f"{source}: {part}/{name}/{file}")
        if form is None:
            form = ("L" if picture.mode in ("1", "L", "LA") else "RGB", picture.size)
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
    """Return an image upright, with eight bits a channel."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(content))
            picture.load()
            return _eight_bits(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        most = Image.MAX_IMAGE_PIXELS
        raise InputError(f"{where}: too large an image, of more than {most:,} pixels") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except Exception as error:
        raise InputError(f"{where}: not a readable image") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of bytes: of 16 bits 257·v gives v, of fractions v/255 does."""
    if picture.mode.startswith("I"):
        numbers = np.asarray(picture).astype(np.int64)
        _check_range(numbers, 0, 65535)
        return Image.fromarray(((numbers + 128) // 257).astype(np.uint8))
    if picture.mode == "F":
        shares = np.asarray(picture)
        _check_range(shares, 0, 1)
        return Image.fromarray(np.rint(shares * 255).astype(np.uint8))
    return picture.convert("RGBA") if picture.mode in ("P", "PA") else picture


def _check_range(numbers: NDArray[Any], low: int, high: int) -> None:
    if not (numbers.min() >= low and numbers.max() <= high):  # so that NaN is refused
        got = f"{numbers.min():g} to {numbers.max():g}"
        raise InputError(f"pixels from {got}, expected {low} (black) to {high} (white)")


def _pixels(picture: Image.Image, form: tuple[str, tuple[int, int]]) -> NDArray[np.uint8]:
    """Return uint8 [c, h, w]."""
    mode, size = form
    if picture.mode != mode:
        picture = picture.convert(mode)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    flat = np.frombuffer(picture.tobytes(), np.uint8)
    return np.moveaxis(flat.reshape(size[1], size[0], -1), -1, 0)


def as_samples(arrays: dict[str, NDArray[np.generic]], scale: Scaling) -> tuple[Samples, Samples]:
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
    stored = _stored(copy)
    if stored is not None:
        return stored
    classes, arrays = stack(entries_in_tar(path), str(path))
    if path.parent.stat().st_mode & 0o222 and os.access(path.parent, os.W_OK):
        _store(copy, {"classes": np.array(classes), **arrays})
    return classes, arrays


def _stored(copy: Path) -> tuple[list[str], dict[str, NDArray[np.generic]]] | None:
    """Return what a decoded copy holds; None where there is none that is whole."""
    damaged = (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile)
    try:
        with zipfile.ZipFile(copy) as packed:
            if sum(member.file_size for member in packed.infolist()) > _MOST_UNPACKED:
                return None
        with np.load(copy, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        classes = [str(name) for name in arrays.pop("classes")]
        whole = all(_fits(arrays, part, len(classes)) for part in _PARTS)
    except damaged:
        return None
    return (classes, arrays) if whole else None


def _fits(arrays: dict[str, NDArray[Any]], part: str, classes: int) -> bool:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or labels.dtype != np.int64 or images.ndim != 4:
        return False
    if labels.shape != images.shape[:1] or not len(labels):
        return False
    return bool(labels.min() >= 0 and labels.max() < classes)


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
