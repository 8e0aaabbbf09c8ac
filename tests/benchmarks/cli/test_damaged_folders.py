"""A folder with one damaged file gives the same result as before, or one line and status 2."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import tomli_w

from benchmarks.cli import votes
from benchmarks.cli.main import invoke
from benchmarks.figures.style import Picture
from benchmarks.report import pages as report
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import compare, plan_cells
from benchmarks.running.experiment import run
from mpfl.config import to_mapping
from tests.federation import tiny
from tests.folders import lasting

PLACES = int(os.environ.get("MPFL_DAMAGES", "8"))
"""Damages of each kind of folder; the long test has 200."""
Damage = Callable[[Path], Path | None]
"""Damages a folder; returns the file."""
KEYS = {"federation__rounds": 3, "prune__rounds": 2, "engine__record_ballots": True}
DRAWN = ("curve_pictures", "cost_pictures", "pruning_pictures", "byte_pictures", "sweep_pictures")


@dataclass(frozen=True)
class Case:
    """A kind of folder, and what is done with it.

    Attributes
    ----------
    folder
        Undamaged; not to be changed.
    commands
        Arguments; ``RUN`` stands for the folder, ``OUT`` for a new one.
    """

    folder: Path
    commands: tuple[str, ...]


OF_A_RUN = (
    "report RUN",
    "resume RUN",
    "retrain RUN --epochs 1 --out OUT/retrained.json",
    "votes RUN --json --out OUT",
    "pivot RUN --rows label --columns seed --value central_retrain.test_accuracy",
    "mask show RUN/mask.mpfl --json",
    "mask diff RUN/mask.mpfl RUN/ballots/round-1/client-0.mpfl",
    "mask export RUN/mask.mpfl --format prune --out OUT/mask.pt",
    "mask export RUN/mask.mpfl --out OUT/mask.npz",
)
OF_A_COMPARISON = (
    "report RUN",
    "resume RUN --json",
    "compare CONFIG --out RUN --json",
    "pivot RUN --rows label --columns seed",
    "mask show RUN/cells/mpfl__seed0/mask.mpfl",
)
OF_AN_UNFINISHED_RUN = ("resume RUN", "votes RUN --round 1 --json --out OUT", "report RUN")


def stop_after(rounds: int) -> Callable[[dict[str, object]], None]:
    def stop(record: dict[str, object]) -> None:
        if record["round"] == rounds:
            raise KeyboardInterrupt

    return stop


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Return a run and a comparison, each finished and not."""
    base = tmp_path_factory.mktemp("damage")
    run(tiny(**KEYS), base / "run")
    assert invoke(["retrain", str(base / "run"), "--epochs", "1", "--quiet"]) == 0
    with pytest.raises(KeyboardInterrupt):
        run(tiny(**KEYS), base / "cut", stop_after(2))
    asked = {"methods": ["mpfl", "fedavg"], "seeds": [0]}
    table = {**to_mapping(tiny(federation__rounds=2)), "compare": asked}
    (base / "config.toml").write_text(tomli_w.dumps(table))
    for name in ("compared", "going"):
        compare(table, [], base / name)
        for cell in plan_cells(*split_table(table)):
            out = base / name / "cells" / cell.name
            if name == "compared" or cell.label == "mpfl":
                run(cell.experiment, out, tags=cell.tags)
            else:
                with pytest.raises(KeyboardInterrupt):
                    run(cell.experiment, out, stop_after(1), tags=cell.tags)
    return {
        "run": Case(base / "run", OF_A_RUN),
        "unfinished run": Case(base / "cut", OF_AN_UNFINISHED_RUN),
        "comparison": Case(base / "compared", OF_A_COMPARISON),
        "unfinished comparison": Case(base / "going", OF_A_COMPARISON),
    }


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in DRAWN:
        monkeypatch.setattr(report, name, lambda *_: [])
    for name in ("partition_map", "spread_over_clients", "error_picture", "target_bars"):
        monkeypatch.setattr(report, name, lambda *_: None)
    picture = Picture("votes", "", "", "", "<svg/>", b"", b"")
    monkeypatch.setattr(votes, "vote_histogram", lambda *_: picture)


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit status, what it printed, all files but one never used."""

    status: int
    printed: str
    error: str
    files: dict[str, bytes]


def outcome(case: Case, command: str, place: Path, damage: Damage) -> Outcome:
    """Do a command on a copy of the folder, once it is damaged."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "out").mkdir(parents=True)
    folder = shutil.copytree(case.folder, place / "folder")
    damaged = damage(folder)
    names = {"RUN": folder, "OUT": place / "out", "CONFIG": case.folder.parent / "config.toml"}
    for name, path in names.items():
        command = command.replace(name, str(path))
    before = written(damaged)
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()) as error:
        status = invoke(command.split())
    left = [path for path in place.rglob("*") if path.is_file()]
    unused = damaged if written(damaged) == before else None
    files = {path.relative_to(place).as_posix(): lasting(path)
             for path in left if status == 0 and path != unused}  # fmt: skip
    return Outcome(status, printed.getvalue(), error.getvalue(), files)


def written(path: Path | None) -> int | None:
    return path.stat().st_mtime_ns if path and path.exists() else None


def damages(folder: Path, seed: int) -> tuple[str, Damage]:
    """Return a file of the folder and what damages it."""
    chance = random.Random(seed)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    name = chance.choice(files).relative_to(folder).as_posix()
    kind = chance.choice((flip, digit, truncate, extend, swap, delete, foreign))

    def damage(copy: Path) -> Path:
        content = kind((copy / name).read_bytes(), random.Random(seed))
        (copy / name).unlink()
        if content is not None:
            (copy / name).write_bytes(content)
        return copy / name

    return f"{kind.__name__} {name}", damage


def flip(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return (
        content[:place] + bytes([content[place] ^ chance.randrange(1, 256)]) + content[place + 1 :]
    )


def digit(content: bytes, chance: random.Random) -> bytes:
    places = [place for place, byte in enumerate(content) if byte in b"0123456789"]
    if not places:
        return flip(content, chance)
    place = chance.choice(places)
    other = chance.choice([byte for byte in b"0123456789" if byte != content[place]])
    return content[:place] + bytes([other]) + content[place + 1 :]


def truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def extend(content: bytes, chance: random.Random) -> bytes:
    last = content.splitlines(keepends=True)[-1]
    return content + chance.choice((b"\n", b"\0", last, chance.randbytes(9)))


def swap(content: bytes, chance: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def delete(content: bytes, chance: random.Random) -> None:
    return None


def foreign(content: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 1000))


def check(case: Case, place: Path, seeds: Iterator[int] | range) -> None:
    wanted = {command: outcome(case, command, place, lambda _: None) for command in case.commands}
    for seed in seeds:
        what, damage = damages(case.folder, seed)
        for command in case.commands:
            got, same = outcome(case, command, place, damage), wanted[command]
            where = f"seed {seed}: {what}, then {command}: {got.error or got.printed}"
            if got.status == 0:
                assert got.printed == same.printed, where
                assert differing(got, same, what) == [], where
            else:
                assert got.status == 2, where
                said = [x for x in got.error.splitlines() if not x.startswith("without effect")]
                assert [line[:6] for line in said] == ["mpfl: "], where


def differing(one: Outcome, other: Outcome, what: str) -> list[str]:
    """Return what differs but for what says that a folder has lost its manifest, if it has.

    A damaged file that the command had no use for is in neither.
    """
    lost = what.startswith("delete") and what.endswith("manifest.json")
    says = ("manifest.json", "report.html") if lost else ()
    spare = {f"folder/{what.partition(' ')[2]}"} - one.files.keys()
    names = {*one.files, *other.files} - spare
    return [n for n in names if one.files.get(n) != other.files.get(n) and not n.endswith(says)]


@pytest.mark.parametrize("kind", ["run", "unfinished run", "comparison", "unfinished comparison"])
def test_a_damaged_file_changes_no_result_in_silence(
    cases: dict[str, Case], tmp_path: Path, kind: str
) -> None:
    check(cases[kind], tmp_path / "place", range(PLACES))
