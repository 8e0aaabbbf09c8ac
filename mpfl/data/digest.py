"""Digests of data as it was loaded, and of who holds what: whether two runs saw the same."""

from __future__ import annotations

import hashlib

import numpy as np

from mpfl.data.samples import Dataset, Samples
from mpfl.data.virtual import Parts, contents


def data_digests(data: Dataset, parts: Parts) -> dict[str, str]:
    """Return the SHA-256 (hexadecimal) of a data set's samples, ``data``, and of its ``partition``.

    Parameters
    ----------
    parts
        Indices of each client's training samples.
    """
    dealt = hashlib.sha256()
    for held in contents(parts):
        dealt.update(held)
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
