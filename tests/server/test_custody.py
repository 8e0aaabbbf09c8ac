"""A run folder in good hands: it knows when it was edited, and says how an edit is accepted."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli.main import invoke
from benchmarks.results.loading import load_run
from benchmarks.running.experiment import resume, run
from mpfl.errors import InputError, RunError
from server.custody import MANIFEST, held, listed, take
from server.health import FAILURE, read_failure
from tests.federation import tiny
from tests.processes import ended, forked
from tests.runs import records, unseal

COMMANDS = (["report"], ["resume"], ["retrain"], ["pivot", "--rows=seed", "--columns=label"])


def stop(record: dict[str, Any]) -> None:
    if record["round"] == 2:
        raise KeyboardInterrupt


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    run(tiny(federation__rounds=2), tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    with pytest.raises(KeyboardInterrupt):
        run(tiny(engine__record_ballots=True), tmp_path / "cut", stop)
    return tmp_path / "cut"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_the_manifest_lists_every_result(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()} - {"checkpoint", MANIFEST}
    assert listed(finished).keys() == names


def test_a_well_formed_edit_is_refused_and_accepted_without_the_manifest(
    finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit(finished / "summary.json", '"test_accuracy": 0.', '"test_accuracy": 0.9')
    with pytest.raises(InputError, match=r"summary\.json: edited.*remove manifest\.json"):
        load_run(finished)
    unseal(finished)
    with caplog.at_level(logging.WARNING):
        assert not load_run(finished).sealed
    assert "unsealed" in caplog.text


@pytest.mark.parametrize("change", [("lr = 0.1", "lr = 0.2"), ("seed = 0", "seed = 1")])
def test_a_configuration_edited_between_run_and_resume_is_refused(
    cut: Path, change: tuple[str, str]
) -> None:
    edit(cut / "config.toml", *change)
    with pytest.raises(InputError, match=r"config\.toml: edited"):
        resume(cut)


def test_a_folder_that_went_on_without_its_manifest_stays_unsealed(cut: Path) -> None:
    unseal(cut)
    assert resume(cut) is not None
    assert not (cut / MANIFEST).exists()


def test_what_came_after_the_checkpoint_is_cut_off(cut: Path) -> None:
    late = cut / "ballots" / "round-3"
    late.mkdir(exist_ok=True)
    (late / "client-0.mpfl").write_bytes(b"half")
    for name in ("rounds.jsonl", "ledger.csv"):
        with (cut / name).open("a") as file:
            file.write("torn")
    assert resume(cut) is not None
    assert [line["round"] for line in records(cut)] == [1, 2, 3, 4]
    assert load_run(cut).sealed


@pytest.mark.parametrize("name", ["rounds.jsonl", "ledger.csv", "ballots/round-1/client-0.mpfl"])
def test_what_differs_before_the_checkpoint_is_refused(cut: Path, name: str) -> None:
    content = bytearray((cut / name).read_bytes())
    content[len(content) // 3] ^= 1
    (cut / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        resume(cut)


@pytest.mark.parametrize("name", ["central_retrain.json", "ballots/round-1/client-0.mpfl"])
def test_a_file_of_somebody_else_is_refused(finished: Path, name: str) -> None:
    (finished / name).parent.mkdir(parents=True, exist_ok=True)
    (finished / name).write_bytes((finished / "mask.mpfl").read_bytes())
    for command, *options in COMMANDS:
        assert invoke([command, str(finished), *options]) == 2
    with pytest.raises(InputError, match=rf"{name}: manifest.json does not list it"):
        load_run(finished)


def test_a_lock_of_a_dead_process_is_no_obstacle(tmp_path: Path) -> None:
    assert ended(forked(lambda: take(tmp_path))) == 0
    with held(tmp_path, patience=0):
        pass


def test_whoever_holds_a_folder_is_named(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(InputError, match=f"process {os.getpid()} works on it"):
        take(tmp_path)


def test_why_a_run_failed_is_vouched_for_until_it_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RunError):
        run(tiny(faults__drop_before=1.0, federation__rounds=2), out)
    assert read_failure(out) is not None
    edit(out / FAILURE, '"label": "mpfl"', '"label": "ours"')
    with pytest.raises(InputError, match=r"failure\.json: edited"):
        read_failure(out)
    with pytest.raises(RunError):
        resume(out)
    assert read_failure(out) is not None
