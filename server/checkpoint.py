"""Checkpoints: one file, written atomically, checked when read."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mpfl.errors import InputError

_MAGIC = b"MPFLCKPT"
_HEADER = struct.Struct("<8sBIQ")  # magic, version, CRC-32 of the body, length of the JSON


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_checkpoint(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write JSON-able `facts` and nested dictionaries of NumPy `arrays`."""
    text = json.dumps(facts, sort_keys=True).encode()
    flat = {key: np.ascontiguousarray(value) for key, value in _flatten(arrays)}
    body = text + save(flat)
    header = _HEADER.pack(_MAGIC, 1, zlib.crc32(body), len(text))
    write_atomically(path, header + body)


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
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
    if version != 1:
        raise InputError(f"{path}: checkpoint version {version}, expected 1")
    if zlib.crc32(body) != checksum:
        raise InputError(f"{path}: the checkpoint is damaged (checksum mismatch)")
    try:
        return json.loads(body[:length]), _nest(load(body[length:]))
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"{path}: the checkpoint is damaged: {error}") from None


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, np.ndarray]]:
    items: list[tuple[str, np.ndarray]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            items += _flatten(value, f"{prefix}{key}/")
        else:
            items.append((prefix + key, value))
    return items


def _nest(flat: Mapping[str, np.ndarray]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree
