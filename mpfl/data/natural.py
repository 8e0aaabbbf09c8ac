"""Folders of files: images by class, and what belongs to one client each, images or text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpfl.config import DataConfig
from mpfl.data.folder import (
    Entry,
    as_samples,
    below,
    entries_on_disk,
    has_one_part,
    has_parts,
    image_bytes,
    images_below,
    reading,
    shown,
    stack,
)
from mpfl.data.loading import data_folder, held_out, missing, normalisation
from mpfl.data.samples import Dataset
from mpfl.data.text import ALPHABET, LENGTH, divided, encode, windows
from mpfl.errors import InputError

_BYTES = 256
_MOST_TEXT = 2**28
"""Bytes of one text file."""


def imagefolder(config: DataConfig) -> Dataset:
    """Load ``train/<class>/…`` and ``test/<class>/…``, or ``<client>/<class>/…``.

    Classes are numbered by ascending name. Of a folder a client, a fifth of every client's images
    (at least one of two) is held out, the same ones whatever the run's seed, and
    ``data.partition = "natural"`` gives them to clients as they lie there.

    Images may lie in folders within a class; hidden entries are skipped. The first training image
    decides size and whether there is colour; the others are resized (bilinear) and converted to
    that. Pictures are turned as their EXIF orientation says, 16 bits become 8 (257·v gives v),
    numbers from 0 to 1 become bytes, and transparency is left out. Networks see
    (x/255 − 0.5) / 0.25.

    Raises
    ------
    DataMissing
        If the folder has no ``train`` and ``test`` folders, nor folders of clients.
    ValueError
        Naming an unreadable or huge image, a class, part or client without images, a test class
        without training images, or one of the folders ``train`` and ``test`` without the other.
    """
    folder = data_folder(config)
    if has_parts(folder):
        return _images(folder, entries_on_disk(folder))
    clients = [path for path in shown(folder) if path.is_dir()] if folder.is_dir() else []
    if part := has_one_part(folder):
        other = "test" if part == "train" else "train"
        raise InputError(f"{folder / part}: expected a folder {other!r} beside it")
    if not any(path.is_dir() for client in clients for path in shown(client)):
        layout = "(train/<class>/* and test/<class>/*, or <client>/<class>/*)"
        raise missing(f"imagefolder {layout}", folder, "")
    parts = [_of_client(client, number) for number, client in enumerate(clients)]
    entries = (
        (part, name, file, image_bytes(path)) for own in parts for part, name, file, path in own
    )
    return _images(folder, entries, _groups(parts, "train"), _groups(parts, "test"))


Found = list[tuple[str, str, str, Path]]
"""Part, class, name and path of each of a client's images."""


def _groups(clients: Sequence[Found], part: str) -> NDArray[np.int64]:
    """Return the client of every image of a part, in the order that `stack` gives them."""
    every = ((n, *image) for n, images in enumerate(clients) for image in images)
    order = sorted((name, file, n) for n, own, name, file, _ in every if own == part)
    return np.array([n for *_, n in order], np.int64)


def _images(
    folder: Path,
    entries: Iterator[Entry],
    groups: NDArray[np.int64] | None = None,
    test_groups: NDArray[np.int64] | None = None,
) -> Dataset:
    classes, arrays = stack(entries, str(folder))
    channels = arrays["train_images"].shape[1]
    train, test = as_samples(arrays, normalisation((0.5,) * channels, (0.25,) * channels))
    shape = tuple(train.inputs.shape[1:])
    return Dataset("imagefolder", train, test, len(classes), shape, groups, test_groups)


def _of_client(client: Path, number: int) -> Found:
    classes = [path for path in shown(client) if path.is_dir()]
    files = [(name.name, file) for name in classes for file in images_below(name)]
    if not files:
        raise InputError(f"{client}: a client without images (<client>/<class>/*)")
    held = set(held_out(len(files), "imagefolder", number)[1].tolist())
    return [
        (
            "test" if place in held else "train",
            name,
            file.relative_to(client.parent).as_posix(),
            file,
        )
        for place, (name, file) in enumerate(files)
    ]


def textfolder(config: DataConfig) -> Dataset:
    """Load text to model, of a folder: a file, or a folder of files, is what one client has.

    Tokens are characters of the alphabet of `pydoc` (97, of UTF-8 text), or bytes (256), as
    ``data.level`` says. Every file is cut into disjoint windows of 65 tokens (what is left over is
    dropped): the first 64 are the input, the last 64 the targets. A fifth of each client's windows
    (at least one of two) is held out, the same ones whatever the run's seed. Hidden entries are
    skipped.

    Returns
    -------
    Dataset
        Inputs and targets int64 [n, 64]; ``groups`` numbers the clients by ascending name.

    Raises
    ------
    DataMissing
        If the folder is missing or has no files.
    InputError
        Naming a file that is empty, binary or of another encoding, or a client whose files are all
        too short for a window.
    """
    folder = data_folder(config)
    clients = shown(folder) if folder.is_dir() else []
    texts = [_text_of(client, config.level) for client in clients]
    if not texts:
        raise missing("textfolder (one text file or folder of them a client)", folder, "")
    vocabulary = len(ALPHABET) if config.level == "character" else _BYTES
    return divided("textfolder", texts, vocabulary)


def _text_of(client: Path, level: str) -> NDArray[np.int64]:
    """Return the windows of a client, int64 [n, 65] with n > 0."""
    files = list(below(client)) if client.is_dir() else [client]
    found = [windows(_tokens(file, level)) for file in files]
    if not sum(map(len, found)):
        kind = f"{level}s, which one sequence needs"
        raise InputError(f"{client}: no text of at least {LENGTH + 1} {kind}")
    return np.concatenate(found)


def _tokens(file: Path, level: str) -> NDArray[np.int64]:
    with reading(file):
        size = file.stat().st_size
        content = b"" if size > _MOST_TEXT else file.read_bytes()
    if size > _MOST_TEXT:
        raise InputError(f"{file}: {size:,} bytes, expected at most {_MOST_TEXT:,} of text")
    if not content.strip():
        raise InputError(f"{file}: an empty file, expected text")
    if b"\0" in content:
        raise InputError(f"{file}: a binary file (it has a byte of zero), expected text")
    if level == "byte":
        return np.frombuffer(content, np.uint8).astype(np.int64)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file}: not UTF-8 text (byte {error.start}); convert it, or set data.level = 'byte'"
        ) from None
    return encode(text.replace("\r\n", "\n").replace("\r", "\n"))
