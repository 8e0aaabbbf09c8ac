"""The tutorial is true: its blocks, run in order in one folder, do what the page says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.cli.main import invoke
from mpfl.config import Experiment
from mpfl.plugins import load
from tests.runs import records

TEXT = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.\w+)\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder that somebody who did what the page says would have."""
    folder, names = tmp_path_factory.mktemp("tutorial"), dict[str, Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for language, text in BLOCK.findall(TEXT):
            if file := FILE.match(text):
                with (folder / file[1]).open("a") as there:
                    there.write(text[file.end() :])
            elif language == "python":
                exec(text, names)
            elif language == "bash":
                run_commands(text)
        yield folder
    load(Experiment())


def run_commands(text: str) -> None:
    for line in text.splitlines():
        program, *arguments = shlex.split(line)
        if program == "mpfl":
            assert invoke(arguments) == 0, line


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {language for language, _ in BLOCK.findall(TEXT)} == {"bash", "python", "toml"}
    assert len(BLOCK.findall(TEXT)) == TEXT.count("```") // 2


@pytest.mark.slow
def test_a_reader_gets_what_the_page_says(folder: Path) -> None:
    for name in ("first", "sparser", "narrow", "scored", "near", "compared", "swept", "scores"):
        assert (folder / name / "report.html").is_file(), name
    assert (records(folder / "first")[-1]["test_accuracy"] or 0) > 0.9
    comparison = benchmarks.load(folder / "compared")
    assert isinstance(comparison, benchmarks.Comparison)
    assert {row.method for row in comparison.rows} == {
        *("mpfl", "part_way(0.5)", "part_way(0.9)", "fedavg")
    }
    assert all(run.summary["test_accuracy"] > 0.6 for run in comparison.runs)
    told = {run.summary["label"] for run in comparison.runs if run.rounds[-1].extra}
    assert told == {"part_way(0.5)", "part_way(0.9)"}
    assert len(list((folder / "swept" / "cells").iterdir())) == 6
