"""Records: what is written is what is read, whatever the values; wrong keys have their names."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.running.experiment import run
from mpfl.errors import InputError
from mpfl.vote.laboratory import VoteStatistics
from server.records import (
    HEADER,
    Failure,
    Health,
    Machine,
    RoundRecord,
    Row,
    SharedRun,
    Summary,
    from_json,
    json_text,
    to_json,
)
from tests.federation import tiny
from tests.runs import records, run_small

FOLDERS = Path(__file__).parents[1] / "golden" / "folders"
CLASSES = (RoundRecord, Summary, VoteStatistics, Machine, Health, Failure, SharedRun)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = {int: st.integers(), float: NUMBERS, str: st.text(), bool: st.booleans(), Any: NUMBERS}


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of an annotation of a record."""
    inner = get_args(kind)
    if get_origin(kind) is UnionType:
        return st.none() | values(inner[0])
    if get_origin(kind) is list:
        return st.lists(values(inner[0]), max_size=3)
    if get_origin(kind) is dict:
        return st.dictionaries(st.text(), values(inner[1]), max_size=3)
    return PLAIN[kind] if kind in PLAIN else any_of(kind)


def any_of(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Return records with values of the annotated types."""
    kinds = get_type_hints(cls)
    return st.builds(cls, **{item.name: values(kinds[item.name]) for item in fields(cls)})


OPTIONAL = {item.name for item in fields(Summary) if item.default is None}


@given(st.sampled_from(CLASSES).flatmap(any_of))
def test_what_is_written_is_what_is_read(record: Any) -> None:
    text = json_text(record)
    assert "\n" not in text
    assert from_json(type(record), text, "here") == record


@given(any_of(RoundRecord))
def test_columns_that_a_method_does_not_have_are_absent(record: RoundRecord) -> None:
    keys = list(to_json(record))
    may_be = [item.name for item in fields(RoundRecord) if item.default is None]
    assert {"vote", "moved", "client_density", "extra", "validation_loss"} <= set(may_be)
    absent = [key for key in may_be if getattr(record, key) is None]
    assert keys == [item.name for item in fields(RoundRecord) if item.name not in absent]


@given(any_of(Summary), st.sampled_from([item.name for item in fields(Summary)]))
def test_a_missing_and_a_misspelt_key_are_named(record: Summary, key: str) -> None:
    table = to_json(record)
    known = key in table
    value = table.pop(key, None)
    if known and key not in OPTIONAL:
        with pytest.raises(InputError, match=rf"^here: damaged \(no key '{key}'\)$"):
            from_json(Summary, json.dumps(table), "here")
    with pytest.raises(InputError, match=rf"unknown key '{key}z'; did you mean '{key}'"):
        from_json(Summary, json.dumps({**table, f"{key}z": value}), "here")


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_null(loss: float) -> None:
    assert json_text({"test_loss": [loss, 1.0]}) == '{"test_loss": [null, 1.0]}'


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999", "null", '"1"', "true", "[]", "1e1"])
def test_only_what_may_be_null_may_be_no_number(text: str) -> None:
    line = (FOLDERS / "finished" / "rounds.jsonl").read_text().splitlines()[0]
    loss = line.replace('"test_loss": 4.610140323638916', f'"test_loss": {text}')
    if text in ("NaN", "Infinity", "1e999", "null"):
        assert from_json(RoundRecord, loss, "here").test_loss is None
    elif text != "1e1":
        with pytest.raises(InputError, match=r"^here: damaged \(test_loss: got"):
            from_json(RoundRecord, loss, "here")
    with pytest.raises(InputError, match=r"^here: damaged \(clients_replied: got"):
        from_json(RoundRecord, line.replace('replied": 3', f'replied": {text}'), "here")


def test_lines_of_0_1_0_are_written_as_they_were() -> None:
    for file in FOLDERS.rglob("rounds.jsonl"):
        for line in file.read_text().splitlines():
            assert json_text(from_json(RoundRecord, line, "here")) == line
    for file in FOLDERS.rglob("summary.json"):
        again = json_text(from_json(Summary, file.read_text(), "here"), indent=2, sort_keys=True)
        assert again + "\n" == file.read_text()
    for file in FOLDERS.rglob("ledger.csv"):
        header, *rows = file.read_text().splitlines()
        assert header == HEADER
        assert [Row.from_csv(row).csv() for row in rows] == rows


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",uplink,", ",up,", "direction 'up'"),
        (",8,", ",9,", "the kinds do not add up to the message"),
        (",65.2", "", "shorter"),
        ("65.2", "65.2,", "longer"),
        ("65.2", "many", "could not convert"),
    ],
)
def test_a_wrong_row_says_why(old: str, new: str, message: str) -> None:
    row = "1,0,uplink,mask,92,0,0,8,0,221,321,312.5,65.2"
    assert sum(int(number) for number in row.split(",")[4:10]) == 321
    with pytest.raises(ValueError, match=message):
        Row.from_csv(row.replace(old, new))


def test_rounds_of_text_have_a_perplexity(tmp_path: Path) -> None:
    text = {"data__name": "pydoc", "data__partition": "iid", "model__name": "lstm_lm(8)"}
    few = {"data__train_samples": 40, "federation__rounds": 3, "federation__eval_every": 2}
    run_small(tmp_path / "text", method="fedavg", **text, **few)
    found = records(tmp_path / "text")
    assert [("perplexity" in line) for line in found] == [False, True, True]
    for line in found[1:]:
        assert line["perplexity"] == pytest.approx(math.exp(line["test_loss"]))
    run_small(tmp_path / "images", federation__rounds=1)
    assert "perplexity" not in records(tmp_path / "images")[0]


def test_peak_memory_has_the_workers_in_it(tmp_path: Path) -> None:
    alone = run(tiny(), tmp_path / "alone", workers=0)
    beside = run(tiny(), tmp_path / "beside", workers=2)
    assert beside["peak_memory_bytes"] > alone["peak_memory_bytes"] + 2 * 50_000_000
