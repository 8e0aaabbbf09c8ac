"""With validation samples the test set chooses nothing: not where to stop, nor a target."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.cli.main import invoke
from benchmarks.results.loading import load_run
from benchmarks.results.measures import bytes_to_accuracy, held_accuracy
from benchmarks.results.rows import Row, comparison_table
from benchmarks.running.experiment import resume, run
from mpfl.config import to_toml
from mpfl.world import World, build_world
from server.loop import evaluations
from tests.federation import Federation, tiny
from tests.runs import digests, records

VALID = {"data__train_samples": 400, "data__validation": 0.2, "federation__rounds": 5}


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every label of the test set wrong, wherever a model is evaluated on it."""

    def wrong(world: World) -> Any:
        samples = world._placed(world.data.test)
        targets = (samples.targets + 1) % world.data.classes
        return type(samples)(samples.inputs, targets, samples.scale, samples.shift)

    made = cached_property(wrong)
    made.__set_name__(World, "test_samples")
    monkeypatch.setattr(World, "test_samples", made)


def test_a_round_has_the_accuracy_on_the_samples_held_out(tmp_path: Path) -> None:
    experiment = tiny(**VALID)
    summary = run(experiment, tmp_path / "run")
    game = Federation(experiment)
    game.play(5)
    samples = game.world.validation_samples
    game.world.model.load_model(game.method.model())
    inputs, _ = samples.batch(torch.arange(len(samples)))
    guesses = game.world.model.module(inputs).argmax(1)
    right = float((guesses == samples.targets).float().mean())
    last = records(tmp_path / "run")[-1]
    assert last["validation_accuracy"] == pytest.approx(right)
    assert last["validation_accuracy"] != last["test_accuracy"]
    assert summary["validation_accuracy"] == last["validation_accuracy"]
    assert summary["validation_loss"] == last["validation_loss"]
    assert load_run(tmp_path / "run").rounds[-1].validation_accuracy == pytest.approx(right)


def test_without_them_no_record_speaks_of_them(tmp_path: Path) -> None:
    summary = run(tiny(federation__rounds=1), tmp_path / "run")
    (line,) = records(tmp_path / "run")
    assert not [key for key in (*summary, *line) if key.startswith("validation")]


def test_a_round_without_a_test_has_none(tmp_path: Path) -> None:
    run(tiny(**VALID, federation__eval_every=2), tmp_path / "run")
    found = ["validation_accuracy" in line for line in records(tmp_path / "run")]
    assert found == [False, True, False, True, True]


def test_a_strategy_of_flowers_is_told_both() -> None:
    world = build_world(tiny(**VALID))
    found = evaluations(world, Federation(world.experiment, world).method)
    assert set(found) == {
        *("test_accuracy", "test_loss"),
        *("validation_accuracy", "validation_loss"),
    }


def stopped_and_compared(folder: Path) -> tuple[int, list[Row]]:
    """Return where a rule stops a run, and the table of a comparison."""
    for method in METHODS:
        run(tiny(**VALID, method=method), folder / method)
    whole = [load_run(folder / method) for method in METHODS]
    validation = sorted(line.validation_accuracy for line in whole[0].rounds)
    rule = {"stop__target_accuracy": validation[2]}
    summary = run(tiny(**VALID, **rule, method="mpfl"), folder / "stopped")
    return summary["rounds"], comparison_table(whole, "fedavg", 0.2)


METHODS = ("mpfl", "fedavg", "topk")
OF_THE_TEST = ("accuracy", "on_front")
"""Figures of a row that say how well a method does; nothing follows from them."""


def choices(found: tuple[int, list[Row]]) -> Any:
    rows = sorted(found[1], key=lambda row: row.method)
    return found[0], [
        {key: value for key, value in asdict(row).items() if key not in OF_THE_TEST} for row in rows
    ]


def test_nothing_is_chosen_by_the_test_set(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    honest = stopped_and_compared(tmp_path / "honest")
    request.getfixturevalue("poisoned")
    spoiled = stopped_and_compared(tmp_path / "spoiled")
    assert choices(spoiled) == choices(honest)
    assert sum(row.reached for row in honest[1]) >= 2
    assert all(row.target for row in honest[1])
    best = [max(row.accuracy.mean for row in rows) for _, rows in (honest, spoiled)]
    assert best[1] < 0.3 < best[0]  # the poison works


def test_a_run_diverges_on_validation_samples(tmp_path: Path, poisoned: None) -> None:
    summary = run(tiny(**VALID, method="centralized", train__lr=1e6), tmp_path / "run")
    assert summary["health"]["failed"].startswith("diverged: the loss")


def test_targets_are_of_validation_samples(tmp_path: Path) -> None:
    run(tiny(**VALID, method="fedavg"), tmp_path / "run")
    data, lines = load_run(tmp_path / "run"), records(tmp_path / "run")
    last = sorted(line["validation_accuracy"] for line in lines[-3:])
    assert held_accuracy(data) == last[1]
    reached = next(line for line in lines if line["validation_accuracy"] >= last[1])
    assert bytes_to_accuracy(data, last[1]) == reached["total_bytes"]


def test_killed_and_resumed_it_is_the_same(tmp_path: Path) -> None:
    experiment = tiny(**VALID)

    def kill(record: dict[str, Any]) -> None:
        if record["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(experiment, tmp_path / "killed", kill)
    summary = resume(tmp_path / "killed")
    whole = run(experiment, tmp_path / "whole")
    assert digests(summary) == digests(whole)
    assert summary["validation_loss"] == whole["validation_loss"]


def test_the_command_line_takes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.toml"
    config.write_text(to_toml(tiny(**VALID)))
    assert invoke(["run", str(config), "--out", str(tmp_path / "run"), "--json"]) == 0
    assert "validation_accuracy" in json.loads(capsys.readouterr().out)
