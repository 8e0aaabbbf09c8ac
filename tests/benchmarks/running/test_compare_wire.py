"""``compare.wire`` puts every method of a comparison on one wire."""

import pytest

from benchmarks.cli.main import invoke
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import plan_cells
from mpfl.errors import InputError
from tests.runs import SMALL


def cells(**compare):
    table = {**SMALL, "compare": {"wire": "int4", "seeds": [0, 1], **compare}}
    return plan_cells(*split_table(table))


def test_every_cell_has_the_wire_whatever_variants_and_rules_say():
    found = cells(
        methods=["mpfl", "other"],
        baseline="mpfl",
        variants={"other": {"method": "ssfl", "wire.up": "float16"}},
        adjust=[{"when": {"label": "mpfl"}, "set": {"wire.down": "float16"}}],
    )
    assert len(found) == 4
    assert {(c.experiment.wire.up, c.experiment.wire.down) for c in found} == {("int4", "int4")}


def test_of_recipes_that_only_write_in_another_way_the_baseline_is_left():
    found = cells(methods=["mpfl", "topk", "fedavg", "fedavg_q8"])
    assert [cell.name for cell in found] == [
        *("mpfl__seed0", "mpfl__seed1", "fedavg__seed0", "fedavg__seed1")
    ]


def test_a_sweep_of_the_wire_beside_it_is_refused():
    with pytest.raises(InputError, match=r"compare\.wire: got 'int4'"):
        cells(methods=["mpfl"], baseline="mpfl", sweep={"wire.up": ["int8"]})


def test_the_program_takes_a_wire_and_names_old_keys(tmp_path, capsys):
    few = ["--set", "federation.rounds=2", "--set", "prune.rounds=1", "--seeds", "0"]
    few += ["--set", "data.train_samples=400", "--set", "data.test_samples=100"]
    out = ["--out", str(tmp_path / "c")]
    old = ["--set", "wire.uplink_values=int4", "--set", "wire.downlink_values=int4"]
    methods = ["--methods", "mpfl,fedavg", "--wire", "step(2.0)"]
    assert invoke(["compare", "demo", *few, *methods, *old, *out]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said.count("wire.uplink_values is wire.up now") == 1
    assert said.count("wire.downlink_values is wire.down now") == 1
    for name in ("mpfl", "fedavg"):
        text = (tmp_path / "c" / "cells" / f"{name}__seed0" / "config.toml").read_text()
        assert 'up = "step(2.0)"\ndown = "step(2.0)"\n' in text


def test_a_wire_that_is_no_codec_is_named(capsys):
    assert invoke(["compare", "demo", "--methods", "mpfl,fedavg", "--wire", "int5"]) == 2
    assert "int5" in capsys.readouterr().err
