"""The examples run as a researcher would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = {
    "custom_score": ["mpfl score=moved", "mpfl score=magnitude", "mpfl score=random"],
    "custom_vote_rule": ["mpfl vote=root_budget", "mpfl vote=budget", "mpfl vote=majority"],
    "custom_dataset": ["rings:", "digits:", "mpfl", "fedavg"],
}


def test_every_example_is_tested() -> None:
    assert {file.stem for file in (ROOT / "examples").glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_runs_and_compares(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", str(ROOT / "examples" / f"{name}.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [words for words in EXPECTED[name] if words not in done.stdout] == []
    assert done.stderr == ""
