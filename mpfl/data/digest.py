"""Digests of data as it was loaded, and of who holds what: whether two runs saw the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mpfl.data.samples import Dataset, Samples


def data_digests(data: Dataset, parts: Sequence[NDArray[np.int64]]) -> dict[str, str]:
    """Return the SHA-256 (hexadecimal) of a data set's samples, ``data``, and of its ``partition``.

    Parameters
    ----------
    parts
        Indices of each client's training samples.
    """
    dealt = hashlib.sha256()
    for part in parts:
        dealt.update(len(part).to_bytes(8, "little") + part.astype("<i8").tobytes())
    samples = "".join(map(_samples_digest, data.parts.values()))
    content = hashlib.sha256(f"{samples} {data.classes}".encode())
    return {"data": content.hexdigest(), "partition": dealt.hexdigest()}


def _samples_digest(samples: Samples) -> str:
    found = hashlib.sha256(f"{samples.scale} {samples.shift}".encode())
    for tensor in (samples.inputs, samples.targets):
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        found.update(f"{array.dtype.str} {array.shape} ".encode())
        found.update(array.data if array.size else b"")
    return found.hexdigest()
