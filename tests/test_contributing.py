"""CONTRIBUTING is true: its edits, made in a copy, are all that a part of one's own takes."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runs import records

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCK = re.compile(r"^```python\n# (\S+?)(?:, (imports|above|in) ?(\w*))?\n(.*?)^```", re.M | re.S)

SMALL = """
data = {clients = 3, train_samples = 90, test_samples = 60}
federation.rounds = 4
prune = {rounds = 3, density = 0.3}
engine.workers = 0
"""
PARTS = {
    "a method": ["method=mine"],
    "a score": ["prune.score='signed'"],
    "a score with an argument": ["prune.score='signed(2)'"],
    "a vote rule": ["prune.vote='several(3)'"],
    "a vote rule that needs the ballots": ["prune.vote='central'"],
    "a ranking": ["prune.ranking='centred(0.5)'"],
    "a schedule": ["prune.schedule='late(share=0.7)'"],
    "a mask codec": ["wire.mask_codec='negative'"],
    "a value codec": ["wire.up='fixed(0.01)'", "wire.down='fixed'"],
}
"""What a run sets to use the parts of CONTRIBUTING."""

PROGRAM = """
import json, sys
from pathlib import Path
import mpfl
from benchmarks.cli.main import invoke
from benchmarks.cli.listing import list_parts

parts, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
status = {}
for name, settings in {"nothing": [], **parts}.items():
    options = [word for setting in settings for word in ("--set", setting)]
    config, out = str(folder / "small.toml"), str(folder / name)
    status[name] = invoke(["run", config, "--out", out, "--quiet", *options])
(folder / "told.json").write_text(
    json.dumps({"home": mpfl.__file__, "status": status, "listed": list_parts("")})
)
"""


def edit(root: Path, path: str, place: str, name: str, code: str) -> None:
    """Do what the first line of a block says with the rest of it."""
    file = root / path
    if not place:
        assert not file.exists(), f"{path} is not new"
        file.write_text(code)
        return
    text = file.read_text()
    if place == "imports":
        imports = [n for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]
        lines = text.splitlines(keepends=True)
        lines.insert(imports[-1].end_lineno or 0, code)
        file.write_text("".join(lines))
        return
    where = text.index(f"\n{name}: Registry[") + 1
    if place == "in":
        where = text.index("{", where) + 1
    file.write_text(text[:where] + f"\n{code}\n" + text[where:])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the folder of one run for each of the parts, and what the program said of itself."""
    folder, copy = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("copy")
    for package in ("mpfl", "clients", "server", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, copy / package, ignore=ignored)
    for path, place, name, code in BLOCK.findall(TEXT):
        edit(copy, path, place, name, code)
    (folder / "small.toml").write_text(SMALL)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(PARTS), str(folder)],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads((folder / "told.json").read_text())
    assert told["home"] == str(copy / "mpfl" / "__init__.py")
    assert set(told["status"].values()) == {0}, done.stderr
    return folder, told


def test_every_block_says_where_it_goes() -> None:
    assert len(BLOCK.findall(TEXT)) == TEXT.count("```python\n")


@pytest.mark.parametrize("name", PARTS)
def test_a_part_added_as_the_text_says_runs_and_is_what_ran(
    runs: tuple[Path, dict[str, Any]], name: str
) -> None:
    folder, _ = runs
    assert [record["rejected"] for record in records(folder / name)] == [{}] * 4
    summary, usual = (
        json.loads((folder / run / "summary.json").read_text()) for run in (name, "nothing")
    )
    assert summary["payload_digest"] != usual["payload_digest"]
    assert (summary["mask_digest"] == usual["mask_digest"]) == (name.endswith("codec"))


def test_the_parts_are_listed_with_their_arguments(runs: tuple[Path, dict[str, Any]]) -> None:
    listed = runs[1]["listed"]
    for kind, usage, line in (
        ("methods", "mine", "Federated averaging that goes half of the way to every mean."),
        ("scores", "signed(power=1.0)", "Prefer positive weights."),
        ("rules", "several(least=2)", "Keep a unit that at least so many votes keep."),
        ("rules", "central", "Keep what the ballot keeps that agrees best with the others."),
        ("rankings", "centred(share=1.0)", "As flat, after taking a share"),
        ("schedules", "late(share=0.5)", "Keep everything until this share"),
        ("mask-codecs", "negative", "The bits of what is pruned."),
        ("value-codecs", "fixed(step=0.001)", "Signed bytes times a fixed step."),
    ):
        assert listed[kind][usage].startswith(line)
