"""The scale table: every stage is there, timed beside a copy, and its results are checked."""

import json

import numpy as np
import pytest

from benchmarks.cli.main import invoke
from benchmarks.speed import scale
from benchmarks.speed.scale import scale_table
from mpfl.mask import Mask
from mpfl.ranking import rank
from mpfl.vote import Tally

STAGES = ["classes", "ballot", "decode", "tally", "vote", "checkpoint"]


def test_every_stage_is_timed_beside_a_copy_of_its_bytes():
    rows = scale_table(60_000, density=0.2)
    assert [row["stage"] for row in rows] == STAGES
    assert [row["bytes"] for row in rows] == [240_000, 240_000, 7_500, 7_500, 240_000, 247_500]
    for row in rows:
        assert row["seconds"] >= 0
        assert row["peak_memory_bytes"] is None or row["peak_memory_bytes"] > 240_000


def test_the_command_prints_the_table(capsys):
    assert invoke(["bench", "scale", "--units", "20000", "--json"]) == 0
    assert [row["stage"] for row in json.loads(capsys.readouterr().out)] == STAGES


@pytest.mark.parametrize("arguments", [(999, 0.1), (10_000, 0.0), (10_000, 1.0)])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="expected"):
        scale_table(*arguments)


def test_a_ballot_that_is_not_the_best_units_is_noticed(monkeypatch):
    def worst(scores, layout, density, previous, ranking):
        return rank([-values for values in scores], layout, density, previous, ranking)

    monkeypatch.setattr(scale, "rank", worst)
    with pytest.raises(RuntimeError, match="is in place"):
        scale_table(5_000)


def test_a_payload_of_another_ballot_is_noticed(monkeypatch):
    monkeypatch.setattr(scale, "decode_mask", lambda payload, layout, **_: Mask.full(layout))
    with pytest.raises(RuntimeError, match="does not give back"):
        scale_table(5_000)


def test_a_wrong_tally_is_noticed(monkeypatch):
    monkeypatch.setattr(Tally, "counts", lambda self: np.ones(5_000, np.uint32))
    with pytest.raises(RuntimeError, match="tally of unit"):
        scale_table(5_000)
