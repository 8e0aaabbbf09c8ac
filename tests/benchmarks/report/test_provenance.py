"""Where figures come from: enough to make them again, and the own method first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.report import provenance
from benchmarks.results.loading import load_run
from benchmarks.results.rundata import RunData
from server.records import Machine

Make = Callable[..., Path]


@pytest.fixture
def runs(make_run: Make, tmp_path: Path) -> list[RunData]:
    """Return runs in the order of their folders' names."""
    labels = ("centralized", "fedavg", "mpfl")
    return [load_run(make_run(tmp_path / label, label)) for label in labels]


def test_only_keys_that_differ_are_shown(runs: list[RunData]) -> None:
    assert provenance.differing(runs[:1]) is None
    other = replace(runs[0], config={**runs[0].config, "extra": {"key": math.pi}})
    table = provenance.differing([runs[0], other])
    assert table is not None
    assert list(table.headings) == ["run", "extra.key"]
    assert [line.cells[0].text for line in table.lines] == ["–", str(math.pi)]


def test_the_own_methods_configuration_is_the_one_shown(runs: list[RunData]) -> None:
    assert provenance.first_to_read(runs).label == "mpfl"
    assert provenance.first_to_read(runs[:2]).label == "centralized"


def test_codecs_are_those_in_effect(make_run: Make, tmp_path: Path, runs: list[RunData]) -> None:
    fine = load_run(make_run(tmp_path / "int4", "fedavg", wire__up="int4", wire__down="float16"))
    named = replace(fine, label="fine")
    table = provenance.codecs({"fedavg": [runs[1]], "mpfl": [runs[2]], "fine": [named]})
    known = {line.name: [cell.text for cell in line.cells] for line in table.lines}
    assert known["fedavg"][:3] == ["float32", "float32", "–"]
    assert known["fine"][:2] == ["int4", "float16"]
    assert known["mpfl"][2] == "auto"
    assert provenance.codecs({"centralized": [runs[0]]}).lines == []


def test_a_method_of_an_unknown_plugin_has_no_line(runs: list[RunData]) -> None:
    odd = replace(runs[1], config={**runs[1].config, "method": "of_a_plugin"})
    assert provenance.codecs({"odd": [odd]}).lines == []


def test_commit_and_processor_are_said_once(runs: list[RunData]) -> None:
    summary = replace(
        runs[0].summary,
        versions={"mpfl": "9.1", "torch": "8.2", "commit": "0123456789abcdef0123-dirty"},
        machine=Machine("x86_64", "Linux", 2, 0, "A Processor", "AVX2"),
    )
    made = [replace(run, summary=summary) for run in runs]
    said = provenance.origin(made)
    assert said == "mpfl 9.1 commit 0123456789ab-dirty, PyTorch 8.2, A Processor (AVX2)"


def test_a_folder_says_the_command_that_makes_it_again(
    make_run: Make, make_comparison: Make, tmp_path: Path
) -> None:
    run, compared = make_run(tmp_path / "run"), make_comparison(tmp_path / "c", seeds=1)
    (only,) = provenance.reproductions([run])
    assert only.command == "mpfl run config.toml --out again"
    first, second = provenance.reproductions([run, compared, run])
    assert first.command == "mpfl run run.toml --out run-again"
    assert first.text == (run / "config.toml").read_text()
    assert second.command == "mpfl compare c.toml --out c-again"
    assert second.text == (compared / "comparison.toml").read_text()
