"""The partition summary: counts, skew and its table."""

from __future__ import annotations

import numpy as np
import pytest

from mpfl.data import summary

LABELS = np.array([0, 0, 1, 1, 2, 2])


def test_counts_are_samples_per_client_and_class():
    got = summary([np.array([0, 1, 2]), np.array([3, 4, 5])], LABELS, 4)
    assert got.counts.tolist() == [[2, 1, 0, 0], [0, 1, 2, 0]]
    assert got.sizes.tolist() == [3, 3]


def test_token_targets_count_every_position():
    got = summary([np.array([1])], np.array([[0, 0], [1, 2]]), 3)
    assert got.counts.tolist() == [[0, 1, 1]]


def test_skew_is_the_mean_distance_from_the_pooled_shares():
    even = summary([np.array([0, 2, 4]), np.array([1, 3, 5])], LABELS, 3)
    apart = summary([np.array([0, 1]), np.array([2, 3]), np.array([4, 5])], LABELS, 3)
    assert even.skew() == pytest.approx(0)
    assert apart.skew() == pytest.approx(2 / 3)


def test_the_table_has_a_line_per_client_and_a_shade_per_class():
    lines = summary([np.array([0, 1, 2]), np.array([3, 4, 5])], LABELS, 4).text().splitlines()
    assert lines[0].startswith("2 clients, 6 samples, 4 classes; per client min 3, median 3, max 3")
    assert lines[2:] == ["      0        3  |*-  |", "      1        3  | -* |"]
    assert all(ord(character) < 128 for line in lines for character in line)


def test_many_clients_and_classes_are_condensed():
    labels = np.arange(5000) % 100
    owner = np.minimum(np.random.default_rng(0).geometric(0.01, 5000), 300)
    parts = [np.flatnonzero(owner == client) for client in np.unique(owner)]
    lines = summary(parts, labels, 100).text(rows=12).splitlines()
    assert len(lines) == 14
    assert "12 of the clients, by size" in lines[0]
    assert max(map(len, lines[1:])) <= 100
    sizes = [int(line.split()[1]) for line in lines[2:]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(map(len, parts))
    assert sizes[-1] == min(map(len, parts))
