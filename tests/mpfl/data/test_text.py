"""The documentation topics: tokens, windows, held-out parts and groups."""

from __future__ import annotations

import string
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mpfl.config import DataConfig
from mpfl.data import DataMissing, load_data, partition, text

KNOWN = "\n" + string.ascii_letters + string.digits + string.punctuation + " "


@pytest.fixture(scope="module")
def pydoc():
    return load_data(DataConfig(name="pydoc"), 0)


@given(st.text(st.sampled_from(KNOWN)))
def test_text_within_the_alphabet_makes_the_round_trip(words):
    tokens = text.encode(words)
    assert tokens.dtype == np.int64
    assert len(tokens) == len(words)
    assert text.decode(tokens) == words


@given(st.text())
def test_any_text_has_a_token_per_character(words):
    tokens = text.encode(words)
    assert len(tokens) == len(words)
    assert all(0 <= token < 97 for token in tokens)


def test_tokens_are_fixed_for_good():
    assert len(text.ALPHABET) == len(set(text.ALPHABET)) == 97
    assert text.encode("09azAZ! ~\n").tolist() == [2, 11, 12, 37, 38, 63, 64, 96, 95, 1]
    assert text.encode("ßé\t\x80\U0001f600").tolist() == [0] * 5
    assert text.decode(text.encode("“it’s”")) == '"it\'s"'


def test_targets_are_the_inputs_shifted_by_one(pydoc):
    for samples in (pydoc.train, pydoc.test):
        assert samples.inputs.shape[1] == 64
        assert torch.equal(samples.inputs[:, 1:], samples.targets[:, :-1])
    assert pydoc.input_shape == (64,)
    assert pydoc.classes == 97


def test_the_text_is_that_of_the_topics(pydoc):
    from pydoc_data.topics import topics

    everything = [text.decode(text.encode(topic)) for topic in topics.values()]
    for index in range(0, len(pydoc.train), 97):
        inputs, targets = pydoc.train.batch(torch.tensor([index]))
        window = text.decode(torch.cat([inputs[0], targets[0, -1:]]).numpy())
        for paragraph in window.split("\n\n"):  # one before it may have been left out
            assert any(paragraph in topic for topic in everything)


def test_a_topic_is_a_client(pydoc):
    topics = np.unique(pydoc.groups)
    assert topics.tolist() == list(range(len(topics)))
    assert len(topics) >= 70
    parts = partition(
        DataConfig(clients=len(topics), partition="natural"),
        pydoc.train.targets.numpy(),
        0,
        pydoc.groups,
    )
    assert sorted(int(pydoc.groups[p].min()) for p in parts) == topics.tolist()
    assert all(len(np.unique(pydoc.groups[p])) == 1 for p in parts)


def test_the_held_out_part_is_a_fifth_and_the_same_for_every_seed(pydoc):
    share = len(pydoc.test) / (len(pydoc.test) + len(pydoc.train))
    assert 0.19 < share < 0.22
    other = load_data(DataConfig(name="pydoc"), 5)
    assert torch.equal(pydoc.test.inputs, other.test.inputs)


def test_held_out_windows_are_not_met_in_training(pydoc):
    def windows(samples):
        return {row.tobytes() for row in samples.inputs.numpy()}

    shared = windows(pydoc.train) & windows(pydoc.test)
    assert len(shared) <= 0.005 * len(pydoc.test)


def test_a_recurring_paragraph_stays_in_the_shortest_topic_only():
    shared = "a paragraph long enough to count as one of its own"
    topics = {"long": f"{shared}\n\nExample:\n\nmore", "short": f"{shared}\n\nExample:"}
    kept = text.without_repeats(topics)
    assert kept == {"short": f"{shared}\n\nExample:", "long": "Example:\n\nmore"}


def test_fewer_sequences_are_drawn_by_topic(pydoc):
    few = load_data(DataConfig(name="pydoc", train_samples=500, test_samples=40), 3)
    assert (len(few.train), len(few.test), len(few.groups)) == (500, 40, 500)
    share = np.bincount(pydoc.groups) / len(pydoc.groups)
    drawn = np.bincount(few.groups, minlength=len(share))
    assert np.abs(drawn - 500 * share).max() < 1
    rows = {
        row.tobytes(): topic
        for row, topic in zip(pydoc.train.inputs.numpy(), pydoc.groups, strict=True)
    }
    mine = [rows[row.tobytes()] for row in few.train.inputs.numpy()]
    assert np.mean(np.array(mine) == few.groups) > 0.99


def test_a_python_without_its_topics_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataMissing, match="came without pydoc_data"):
        load_data(DataConfig(name="pydoc"), 0)
