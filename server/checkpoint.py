"""Checkpoints: one file, written atomically, checked when read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mpfl.errors import InputError
from mpfl.state import Arrays
from server.custody import write_atomically
from server.records import json_text

_MAGIC = b"MPFLCKPT"
_VERSION = 3
_HEADER = struct.Struct("<8sB32sQ")  # magic, version, SHA-256 of all the rest, length of the JSON
_REST = 8 + 1 + 32


def save_checkpoint(path: Path, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Write JSON-able `facts` and named arrays."""
    text = json_text(facts, sort_keys=True).encode()
    body = text + save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    rest = struct.pack("<Q", len(text)) + body
    write_atomically(path, _MAGIC + bytes([_VERSION]) + hashlib.sha256(rest).digest() + rest)


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
    _, version, digest, length = _HEADER.unpack_from(blob)
    body = blob[_HEADER.size :]
    if version != _VERSION:
        raise InputError(
            f"{path}: checkpoint version {version}, expected {_VERSION}; finish this run with the "
            "mpfl that began it"
        )
    if hashlib.sha256(blob[_REST:]).digest() != digest:
        raise InputError(f"{path}: the checkpoint is damaged (its digest does not fit)")
    try:
        return json.loads(body[:length]), load(body[length:])
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"{path}: the checkpoint is damaged: {error}") from None
