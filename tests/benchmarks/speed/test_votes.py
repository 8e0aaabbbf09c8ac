"""The vote benchmark on a small case: every way is timed, and all agree on the counts."""

from __future__ import annotations

import pytest

from benchmarks.speed import votes


def test_every_way_is_timed_beside_the_naive_one_and_memcpy():
    rows = votes.votes_table(units=200_001, ballots=21, repeats=1)
    assert [row["way"] for row in rows] == [
        "tally",
        "unpack and add",
        "memcpy",
        "memcpy to one place",
    ]
    by_way = {row["way"]: row for row in rows}
    assert by_way["unpack and add"]["ratio_to_unpack"] == 1
    assert by_way["memcpy"]["ratio_to_memcpy"] == 1
    assert all(row["gigabytes_per_second"] > 0 for row in rows)
    assert by_way["unpack and add"]["bit_planes"] > by_way["tally"]["bit_planes"]


def test_a_way_that_counts_differently_is_an_error(monkeypatch):
    class Wrong(votes._Unpacking):
        def finish(self):
            return super().finish() + 1

    monkeypatch.setattr(votes, "_Unpacking", Wrong)
    with pytest.raises(ValueError, match="disagree"):
        votes.votes_table(units=1000, ballots=3, repeats=1)
