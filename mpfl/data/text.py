"""CPython's own documentation topics as text to model, one character at a time."""

from __future__ import annotations

import importlib
import string

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import DataConfig
from mpfl.data.samples import DataMissing, Dataset, Samples
from mpfl.seeding import numpy_rng

LENGTH = 64
"""Characters a network reads, and predicts the successors of, in one sequence."""

ALPHABET = "\x00\n" + string.printable[:95]
"""Token k is the k-th character: token 0 stands for any other, then newline and printable ASCII."""

_TYPEWRITER = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "."})
_COMMON = 40  # shorter paragraphs recur by their nature ("For example:") and stay


def encode(text: str) -> NDArray[np.int64]:
    """Return one token per character, int64; typographic quotes and dashes become plain ones."""
    points = np.frombuffer(text.translate(_TYPEWRITER).encode("utf-32-le"), "<u4")
    table = np.zeros(129, np.int64)
    table[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
    tokens: NDArray[np.int64] = table[np.minimum(points, 128)]
    return tokens


def decode(tokens: NDArray[np.int64]) -> str:
    """Return the text of tokens; the inverse of `encode` for text within the alphabet."""
    return "".join(ALPHABET[token] for token in tokens)


def pydoc(_: DataConfig) -> Dataset:
    """Load the topics of ``help()`` in this Python as a set for language models.

    The alphabet is fixed (97 tokens), so every Python has the same network; the text is that of
    the running Python's minor version (about 380,000 characters in 78 topics in 3.11), so runs
    compare within one. A paragraph in several topics counts in the shortest only, lest
    what is held out be met in training. Each topic is cut into disjoint windows of 65
    characters (what is left over is dropped): the first 64 are the input, the last 64 the
    targets. A fifth of each topic's windows (at least one of two) is held out, the same ones
    whatever the run's seed.

    Returns
    -------
    Dataset
        Inputs and targets int64 [n, 64]; ``groups`` numbers the topics by ascending name.

    Raises
    ------
    DataMissing
        If this Python came without its topics.
    """
    kept, held, groups = [], [], []
    for number, windows in enumerate(_windows(_topics())):
        count = max(1, round(len(windows) / 5)) if len(windows) > 1 else 0
        order = numpy_rng(0, "pydoc held out", number).permutation(len(windows))
        held.append(windows[np.sort(order[:count])])
        kept.append(windows[np.sort(order[count:])])
        groups += [number] * len(kept[-1])
    train, test = (_samples(np.concatenate(part)) for part in (kept, held))
    topic = np.array(groups, np.int64)
    return Dataset("pydoc", train, test, len(ALPHABET), (LENGTH,), topic)


def _topics() -> dict[str, str]:
    try:
        module = importlib.import_module("pydoc_data.topics")
    except ImportError:
        raise DataMissing(
            "data.name: this Python came without pydoc_data, the text of its documentation topics"
        ) from None
    topics: dict[str, str] = module.topics
    return topics


def _windows(topics: dict[str, str]) -> list[NDArray[np.int64]]:
    """Return int64 [n, 65] per topic that fills a window, by ascending name."""
    distinct = without_repeats(topics)
    cut = []
    for name in sorted(distinct):
        tokens = encode(distinct[name])
        count = len(tokens) // (LENGTH + 1)
        if count:
            cut.append(tokens[: count * (LENGTH + 1)].reshape(count, LENGTH + 1))
    return cut


def without_repeats(topics: dict[str, str]) -> dict[str, str]:
    """Return the topics without the paragraphs that a shorter topic (or they themselves) had."""
    seen: set[str] = set()
    distinct = {}
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        fresh = []
        for paragraph in topics[name].split("\n\n"):
            words = " ".join(paragraph.split())
            if len(words) < _COMMON or words not in seen:
                fresh.append(paragraph)
            seen.add(words)
        distinct[name] = "\n\n".join(fresh)
    return distinct


def _samples(windows: NDArray[np.int64]) -> Samples:
    tokens = torch.from_numpy(windows)
    return Samples(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
