"""Run folders read back: what is written arrives, what is damaged is named in one line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.results.loading import comparison_settings, load_folders, load_run
from benchmarks.results.rows import comparison_table
from mpfl.errors import InputError
from tests.benchmarks.conftest import edit_rounds
from tests.runs import records

FILES = ("config.toml", "rounds.jsonl", "ledger.csv", "summary.json")

Make = Callable[..., Path]


def test_a_run_arrives_as_it_was_written(make_run: Make, tmp_path: Path) -> None:
    keys = {"federation__rounds": 6, "federation__eval_every": 4, "data__clients": 2}
    run = load_run(make_run(tmp_path / "run", seed=3, **keys))
    assert (run.label, run.summary.method, run.seed, run.folder) == ("mpfl", "mpfl", 3, "run")
    assert len(run.rounds) == 6
    assert [line.round for line in run.evaluated] == [4, 6]
    assert len(run.ledger) == 6 * 2 * 2
    assert run.total_bytes == run.ledger.message_bytes.sum() == run.summary.total_bytes
    assert run.rounds[-1].uplink_bytes == run.ledger.message_bytes[run.ledger.uplink].sum()
    assert run.mask is not None
    assert run.mask.digest() == run.summary.mask_digest
    assert run.shapes["fc1.weight"] == (300, 64)
    assert run.rounds[0].vote is not None
    assert run.rounds[0].vote.densities["any"] > run.rounds[0].vote.densities["unanimous"]


def test_a_run_without_optional_parts_loads(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "fedavg")
    for name in ("mask.mpfl", "model.safetensors"):
        (folder / name).unlink()
    run = load_run(folder)
    assert run.mask is None
    assert run.shapes == {}
    assert all(line.vote is None for line in run.rounds)


def test_a_not_a_number_loss_counts_as_none(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    edit_rounds(folder, [line | {"test_loss": math.nan} for line in records(folder)])
    assert "NaN" in (folder / "rounds.jsonl").read_text()
    assert {line.test_loss for line in load_run(folder).rounds} == {None}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(make_run: Make, tmp_path: Path, name: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / name).unlink()
    _refused(folder, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.toml", "seed = \n"),
        ("summary.json", "{"),
        ("summary.json", "[]"),
        ("summary.json", '{"seed": "zero"}'),
        ("summary.json", '{"sweep": 3}'),
        ("rounds.jsonl", ""),
        ("rounds.jsonl", '{"round": 1}\n'),
        ("rounds.jsonl", "[1]\n"),
        ("rounds.jsonl", '{"round": 1, "phase": "mask", "uplink_b'),
        ("ledger.csv", "round,phase\n1,mask\n"),
        ("ledger.csv", "\0"),
    ],
)
def test_a_damaged_text_file_is_named(make_run: Make, tmp_path: Path, name: str, text: str) -> None:
    folder = make_run(tmp_path / "run")
    (folder / name).write_text(text)
    _refused(folder, name)


@pytest.mark.parametrize("name", ["mask.mpfl", "model.safetensors"])
@pytest.mark.parametrize("length", [0, 5, 40])
def test_a_truncated_binary_file_is_named(
    make_run: Make, tmp_path: Path, name: str, length: int
) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / name
    file.write_bytes(file.read_bytes()[:length])
    _refused(folder, name)


def test_bytes_that_decrease_are_damage(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / "rounds.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    _refused(folder, "rounds.jsonl: line 2")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"test_accuracy"', '"test_accuraay"', "unknown key 'test_accuraay'; did you mean"),
        ('"moved"', '"mooved"', "unknown key 'mooved'; did you mean 'moved'?"),
        ('"unanimity"', '"unanimty"', "unknown key 'vote.unanimty'; did you mean"),
        ('"phase": "mask", ', "", "no key 'phase'"),
        ('"counted": true', '"counted": 1', "counted: got 1, expected true or false"),
        ('"density": ', '"density": 1e999, "_": ', "unknown key '_'"),
        ('"rejected": {}', '"rejected": {"late": "2"}', "rejected.late: got '2', expected"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(
    make_run: Make, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = make_run(tmp_path / "run") / "rounds.jsonl"
    first, second, *rest = file.read_text().splitlines()
    file.write_text("\n".join([first, second.replace(old, new, 1), *rest]) + "\n")
    _refused(tmp_path / "run", f"rounds.jsonl: line 2: damaged ({message}")


def test_a_wrong_key_of_the_summary_is_named(make_run: Make, tmp_path: Path) -> None:
    file = make_run(tmp_path / "run") / "summary.json"
    file.write_text(file.read_text().replace('"cores"', '"chores"'))
    _refused(tmp_path / "run", "summary.json: damaged (unknown key 'machine.chores'; did you mean")


def test_kinds_that_do_not_add_up_are_damage(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / "ledger.csv"
    lines = file.read_text().splitlines()
    fields = lines[4].split(",")
    fields[4] = str(int(fields[4]) + 1)
    file.write_text("\n".join([*lines[:4], ",".join(fields), *lines[5:]]) + "\n")
    _refused(folder, "ledger.csv: line 5")


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    name=st.sampled_from([*FILES, "mask.mpfl", "model.safetensors"]),
    place=st.floats(0, 1, exclude_max=True),
    byte=st.integers(0, 255),
    cut=st.booleans(),
)
def test_any_damage_is_a_value_error_or_harmless(
    make_run: Make, tmp_path: Path, name: str, place: float, byte: int, cut: bool
) -> None:
    folder = make_run(tmp_path / "run")
    content = bytearray((folder / name).read_bytes())
    index = int(place * len(content))
    if cut:
        del content[index:]
    else:
        content[index] = byte
    (folder / name).write_bytes(content)
    message = name
    try:
        load_run(folder)
    except ValueError as error:
        message = str(error)
    assert name in message
    assert "\n" not in message


def test_unfinished_cells_are_reported_not_read(make_comparison: Make, tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1)
    (folder / "cells" / "mpfl__seed0" / "summary.json").unlink()
    found = load_folders([folder])
    assert [run.label for run in found.runs] == ["centralized", "fedavg", "signsgd_mv"]
    assert found.unfinished == ["mpfl__seed0"]


def test_a_comparison_without_a_finished_cell_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c" / "cells" / "x").mkdir(parents=True)
    with pytest.raises(ValueError, match="no finished run"):
        load_folders([tmp_path / "c"])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        load_folders([tmp_path / "nowhere"])


def test_equal_runs_in_two_folders_are_not_taken_for_seeds(make_run: Make, tmp_path: Path) -> None:
    runs = load_folders([make_run(tmp_path / name) for name in ("a", "b")]).runs
    assert [run.name for run in runs] == ["mpfl (a)", "mpfl (b)"]


def test_runs_on_other_work_are_not_taken_for_seeds(make_run: Make, tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=0)
    make_run(tmp_path / "b", seed=1)
    assert {run.name for run in load_folders([tmp_path / "a", tmp_path / "b"])[0]} == {"mpfl"}
    make_run(tmp_path / "b", seed=1, data__clients=5)
    runs = load_folders([tmp_path / "a", tmp_path / "b"]).runs
    assert [run.name for run in runs] == ["mpfl (a)", "mpfl (b)"]


def test_comparisons_of_other_work_stand_apart_and_keep_their_seeds(
    make_comparison: Make, make_run: Make, tmp_path: Path
) -> None:
    folders = [make_comparison(tmp_path / name, methods=("fedavg",)) for name in ("x/A", "x/B")]
    names = ["fedavg comparison=A"] * 2 + ["fedavg comparison=B"] * 2
    assert [run.name for run in load_folders(folders)[0]] == names
    make_run(folders[1] / "cells" / "fedavg__seed0", "fedavg", seed=0, data__clients=5)
    make_run(folders[1] / "cells" / "fedavg__seed1", "fedavg", seed=1, data__clients=5)
    found = load_folders(folders)
    assert [run.name for run in found.runs] == names
    assert list(found.comparisons.values()) == ["A", "B"]
    assert {run.name for run in load_folders([folders[1]])[0]} == {"fedavg"}


def test_what_failed_goes_by_the_name_of_its_comparison(
    make_comparison: Make, make_run: Make, tmp_path: Path
) -> None:
    a, b = (make_comparison(tmp_path / n, methods=("fedavg", "mpfl")) for n in "AB")
    for cell in (b / "cells").iterdir():
        name, seed = cell.name.split("__seed")
        make_run(cell, name, seed=int(seed), data__clients=5)
    cell = b / "cells" / "mpfl__seed1"
    (cell / "summary.json").unlink()
    failure = {"label": "mpfl", "seed": 1, "sweep": {}, "error": "died"}
    (cell / "failure.json").write_text(json.dumps(failure))
    found = load_folders([a, b])
    assert [dict(f.sweep) for f in found.failures.values()] == [{"comparison": "B"}]
    assert found.unfinished == []
    rows = {r.method: r for r in comparison_table(found.runs, failures=[*found.failures.values()])}
    assert sorted(rows) == [f"{m} comparison={c}" for m in ("fedavg", "mpfl") for c in "AB"]
    assert [rows[f"mpfl comparison={c}"].failed for c in "AB"] == [0, 1]
    assert rows["mpfl comparison=A"].ratio is not None, "each goes by its own baseline"
    (found,) = [load_folders([b])]
    assert [f.sweep for f in found.failures.values()] == [{}]


def test_a_seed_that_failed_is_one_of_its_cell_even_if_a_rule_set_the_swept_key(
    make_comparison: Make, make_run: Make, tmp_path: Path
) -> None:
    cells = make_comparison(tmp_path / "c", seeds=1, methods=("fedavg",)) / "cells"
    swept = {"prune.density": 0.9}
    for seed in (0, 1):
        make_run(cells / f"mpfl__prune.density=0.9__seed{seed}", seed=seed, sweep=swept)
    dead = cells / "mpfl__prune.density=0.9__seed1"
    (dead / "summary.json").unlink()
    failure = {"label": "mpfl", "seed": 1, "sweep": swept, "error": "died"}
    (dead / "failure.json").write_text(json.dumps(failure))
    assert {run.label for run in load_folders([tmp_path / "c"]).runs} == {"fedavg", "mpfl"}


def test_a_comparison_beside_a_run_keeps_its_baseline(
    make_comparison: Make, make_run: Make, tmp_path: Path
) -> None:
    folder = make_comparison(tmp_path / "A", seeds=1, methods=("fedavg", "mpfl"))
    alone = make_run(tmp_path / "R", prune__density=0.3)
    found = load_folders([folder, alone])
    assert [run.name for run in found.runs] == ["fedavg", "mpfl (A)", "mpfl (R)"]
    assert found.comparisons == {}


def test_runs_whose_folders_have_one_name_are_told_apart(make_run: Make, tmp_path: Path) -> None:
    folders = [make_run(tmp_path / parent / "run") for parent in ("x", "y")]
    runs = load_folders(folders).runs
    assert [run.name for run in runs] == ["mpfl (x/run)", "mpfl (y/run)"]


def test_the_comparisons_own_settings_are_read(make_comparison: Make, tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1, methods=("fedavg",))
    (folder / "comparison.toml").write_text('[compare]\nbaseline = "mpfl"\nmargin = 0.02\n')
    assert comparison_settings([folder]) == {"baseline": "mpfl", "margin": 0.02}
    assert comparison_settings([folder, tmp_path]) == {"baseline": "mpfl", "margin": 0.02}
    other = make_comparison(tmp_path / "d", seeds=1, methods=("fedavg",))
    published = "[[compare.published]]\naccuracy = 0.9\n"
    (other / "comparison.toml").write_text(f"[compare]\nmargin = 0.02\n{published}")
    assert comparison_settings([folder, other, other]) == {
        "margin": 0.02,
        "published": [{"accuracy": 0.9}],
    }


def _refused(folder: Path, name: str) -> None:
    with pytest.raises(InputError, match=re.escape(name)) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)
