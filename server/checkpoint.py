"""Checkpoints: one file, written atomically, checked when read."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from mpfl.errors import InputError
from mpfl.state import Arrays
from server.custody import Content, write_atomically
from server.records import json_text

_MAGIC = b"MPFLCKPT"
_VERSION = 4
_HEADER = struct.Struct("<8sB32sQ")  # magic, version, SHA-256 of all the rest, length of the JSON
_REST = 8 + 1 + 32
_KINDS = {"b1": "BOOL", "u1": "U8", "i1": "I8", "i4": "I32", "u4": "U32", "i8": "I64", "u8": "U64",
          "f4": "F32", "f8": "F64"}  # fmt: skip


def save_checkpoint(path: Path, facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Write JSON-able `facts` and named arrays."""
    text = json_text(facts, sort_keys=True).encode()
    rest = [struct.pack("<Q", len(text)), text, *_safetensors(arrays)]
    digest = hashlib.sha256()
    for part in rest:
        digest.update(part)
    write_atomically(path, _MAGIC + bytes([_VERSION]) + digest.digest(), *rest)


def _safetensors(arrays: Arrays) -> Iterator[Content]:
    """Give the parts of a safetensors file: the library would copy all states three times."""
    table, tensors, end = dict[str, Any](), list[NDArray[Any]](), 0
    for name, array in arrays.items():
        tensors.append(np.ascontiguousarray(array))
        begin, end = end, end + tensors[-1].nbytes
        kind = _KINDS[array.dtype.str.lstrip("<|")]
        table[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (begin, end)}
    header = json.dumps(table).encode()
    yield struct.pack("<Q", len(header)) + header
    for tensor in tensors:
        yield tensor.reshape(-1).view(np.uint8).data


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
    body = memoryview(blob)[_HEADER.size :]
    if version != _VERSION:
        raise InputError(
            f"{path}: checkpoint version {version}, expected {_VERSION}; finish this run with the "
            "mpfl that began it"
        )
    if hashlib.sha256(memoryview(blob)[_REST:]).digest() != digest:
        raise InputError(f"{path}: the checkpoint is damaged (its digest does not fit)")
    try:
        return json.loads(bytes(body[:length])), load(bytes(body[length:]))
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise InputError(f"{path}: the checkpoint is damaged: {error}") from None
