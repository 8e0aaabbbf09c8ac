"""Checkpoints: one file, written atomically, checked when read."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mpfl.errors import InputError
from mpfl.state import Arrays
from server.records import json_text

_MAGIC = b"MPFLCKPT"
_VERSION = 2
_HEADER = struct.Struct("<8sBIQ")  # magic, version, CRC-32 of the body, length of the JSON


@contextmanager
def writing(path: Path, option: str = "--out") -> Iterator[None]:
    """Turn what the system refuses to write into an InputError that names option and path."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{option}: cannot write {path}: {error.strerror}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_checkpoint(path: Path, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Write JSON-able `facts` and named arrays."""
    text = json_text(facts, sort_keys=True).encode()
    body = text + save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    header = _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(body), len(text))
    write_atomically(path, header + body)


def load_checkpoint(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Return (facts, arrays) as they were saved.

    Raises
    ------
    InputError
        If the file is missing, truncated, damaged or of another version.
    """
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the checkpoint: {error.strerror}") from None
    if len(blob) < _HEADER.size or blob[:8] != _MAGIC:
        raise InputError(f"{path}: not a checkpoint, or truncated")
    _, version, checksum, length = _HEADER.unpack_from(blob)
    body = blob[_HEADER.size :]
    if version != _VERSION:
        raise InputError(
            f"{path}: checkpoint version {version}, expected {_VERSION}; finish this run with the "
            "mpfl that began it"
        )
    if zlib.crc32(body) != checksum:
        raise InputError(f"{path}: the checkpoint is damaged (checksum mismatch)")
    try:
        return json.loads(body[:length]), load(body[length:])
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"{path}: the checkpoint is damaged: {error}") from None
