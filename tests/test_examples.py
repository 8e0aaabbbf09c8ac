"""The examples run."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

import benchmarks
from benchmarks.cli.main import invoke
from tests.processes import ended, forked

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = {
    "custom_score": ["mpfl score=moved", "mpfl score=magnitude", "mpfl score=random"],
    "custom_method": ["randk(0.1) ", "randk(0.3) ", "fedavg "],
    "custom_vote_rule": ["mpfl vote=root_budget", "mpfl vote=budget", "mpfl vote=majority"],
    "custom_dataset": ["rings:", "digits:", "mpfl", "fedavg"],
}


def test_every_example_is_tested() -> None:
    assert {file.stem for file in (ROOT / "examples").glob("*.py")} == set(EXPECTED)


def missing(name: str, printed: str) -> list[str]:
    return [words for words in EXPECTED[name] if words not in printed]


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_runs_and_compares(name: str, tmp_path: Path) -> None:
    """With few samples and rounds; the imports are done, which takes longer than all the rest."""
    whole = benchmarks.compare
    few = {"data.train_samples": 200, "data.test_samples": 50, "federation.rounds": 2}

    def example() -> None:
        tempfile.tempdir = str(tmp_path)
        warnings.simplefilter("error", RuntimeWarning)
        benchmarks.compare = lambda config, keys, **rest: whole(config, {**keys, **few}, **rest)
        with (
            (tmp_path / "printed").open("w") as printed,
            (tmp_path / "said").open("w") as said,
            redirect_stdout(printed),
            redirect_stderr(said),
        ):
            runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")

    child = forked(example)  # what it registers must not be met by other tests
    assert ended(child) == 0
    assert missing(name, (tmp_path / "printed").read_text()) == []
    assert (tmp_path / "said").read_text() == ""


@pytest.mark.parametrize(
    ("name", "kind", "part"),
    [
        ("custom_score", "scores", "moved"),
        ("custom_method", "methods", "randk(fraction=0.1)"),
        ("custom_vote_rule", "rules", "root_budget"),
        ("custom_dataset", "datasets", "rings"),
    ],
)
def test_an_example_is_a_plugin(
    name: str, kind: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["list", kind, "--plugin", str(ROOT / "examples" / f"{name}.py")]) == 0
    assert part in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_runs_as_a_researcher_would_run_it(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(ROOT / "examples" / f"{name}.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert missing(name, done.stdout) == []
    assert done.stderr == ""
