"""Text to model, one token at a time; CPython's own documentation topics as such."""

from __future__ import annotations

import importlib
import string
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mpfl.config import DataConfig
from mpfl.data.loading import DataMissing, held_out
from mpfl.data.samples import Dataset, Samples

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
    distinct = without_repeats(_topics())
    topics = [windows(encode(distinct[name])) for name in sorted(distinct)]
    return divided("pydoc", [topic for topic in topics if len(topic)], len(ALPHABET))


def divided(name: str, texts: Sequence[NDArray[np.int64]], vocabulary: int) -> Dataset:
    """Return a set for language models, a fifth of every text's windows held out.

    Parameters
    ----------
    texts
        Of each natural client, int64 [n, 65] with n > 0; the groups are numbered in this order.
    vocabulary
        Number of different tokens.
    """
    parts = [held_out(len(text), name, number) for number, text in enumerate(texts)]
    pairs = list(zip(texts, parts, strict=True))
    train = _samples(np.concatenate([text[kept] for text, (kept, _) in pairs]))
    test = _samples(np.concatenate([text[held] for text, (_, held) in pairs]))
    groups, tested = ([len(part[side]) for part in parts] for side in (0, 1))
    numbers = np.arange(len(texts))
    of_train, of_test = np.repeat(numbers, groups), np.repeat(numbers, tested)
    return Dataset(name, train, test, vocabulary, (LENGTH,), of_train, of_test)


def _topics() -> dict[str, str]:
    try:
        module = importlib.import_module("pydoc_data.topics")
    except ImportError:
        raise DataMissing(
            "data.name: this Python came without pydoc_data, the text of its documentation topics"
        ) from None
    topics: dict[str, str] = module.topics
    return topics


def windows(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return tokens cut into disjoint windows, int64 [n, 65]; what is left over is dropped."""
    count = len(tokens) // (LENGTH + 1)
    return tokens[: count * (LENGTH + 1)].reshape(count, LENGTH + 1)


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


def _samples(cut: NDArray[np.int64]) -> Samples:
    tokens = torch.from_numpy(cut)
    return Samples(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
