"""A tuning: equal work for every method, chosen without the test set, the same however killed."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from benchmarks.cli.main import invoke
from benchmarks.results.loading import load_run
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import plan_cells
from benchmarks.running.side_by_side import run_cells
from benchmarks.tuning import tuning
from benchmarks.tuning.outcome import Trial
from mpfl.config import from_mapping, from_toml, to_mapping
from mpfl.errors import InputError, RunError
from mpfl.nested import value_at, with_override
from mpfl.presets import load_table
from mpfl.world import World
from server.app import failure
from server.custody import held
from server.health import read_failure, write_failure
from tests.federation import tiny
from tests.processes import ended, forked, killed_before, until
from tests.runs import records

TUNED, CSV = "tuned.toml", "trials.csv"
SPACE = {"*": {"train.lr": "log(0.05, 0.5)"}}


def table(methods: list[str], trials: int, compare: Any = None, **keys: Any) -> dict[str, Any]:
    usual = {"federation__rounds": 2, "prune__rounds": 1, "data__train_samples": 300}
    base = to_mapping(tiny(**{**usual, **keys}))
    asked = {"methods": methods, "margin": 0.1, **(compare or {})}
    return {**base, "compare": asked, "tune": {"trials": trials, "space": SPACE}}


def tuned(tables: dict[str, Any], out: Path, workers: int = 0) -> list[Trial]:
    return tuning.tune(tuning.plan(tables), out, workers=workers)


def results(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in (TUNED, CSV)}


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Trial]]:
    """Three methods that would make different numbers of rounds, three trials each."""
    out = tmp_path_factory.mktemp("tuning") / "t"
    compare = {"variants": {"mpfl": {"federation.rounds": 4}}}
    return out, tuned(table(["mpfl", "fedavg", "topk"], 3, compare), out)


def test_every_method_gets_the_same_number_of_client_epochs(
    three: tuple[Path, list[Trial]],
) -> None:
    out, trials = three
    spent: dict[str, int] = {}
    for folder in (out / "trials").iterdir():
        config = load_run(folder).config
        assert config["train"]["epochs"] == 1
        label = folder.name.partition("__")[0]
        asked = sum(line["clients_sampled"] for line in records(folder))
        spent[label] = spent.get(label, 0) + asked
    assert spent == dict.fromkeys(["mpfl", "fedavg", "topk"], 3 * 4 * 4)
    assert {trial.client_epochs for trial in trials} == {16}
    assert [trial.number for trial in trials] == [0, 1, 2] * 3


def test_the_baseline_sets_the_target_and_the_best_are_chosen(
    three: tuple[Path, list[Trial]],
) -> None:
    _, trials = three
    own = [trial for trial in trials if trial.label == "fedavg"]
    target = max(trial.accuracy for trial in own) - 0.1
    assert {trial.target for trial in trials} == {target}
    for label in ("mpfl", "fedavg", "topk"):
        of_one = [trial for trial in trials if trial.label == label]
        (chosen,) = (trial for trial in of_one if trial.chosen)
        assert chosen.score == min(trial.score for trial in of_one)
        reached = [t.bytes_to_target for t in of_one if t.bytes_to_target is not None]
        assert chosen.bytes_to_target == (min(reached) if reached else None)


def test_the_comparison_that_comes_out_has_what_was_chosen(
    three: tuple[Path, list[Trial]],
) -> None:
    out, trials = three
    rest, config = split_table(load_table(str(out / TUNED)))
    assert (config.methods, config.seeds) == (["mpfl", "fedavg", "topk"], [0])
    cells = {cell.label: cell for cell in plan_cells(rest, config)}
    for trial in (trial for trial in trials if trial.chosen):
        found = to_mapping(cells[trial.label].experiment)
        assert {key: value_at(found, key) for key in trial.settings} == dict(trial.settings)
        assert found["federation"]["rounds"] == 4
        assert found["data"]["validation"] == 0.1
        ran = load_run(out / "trials" / f"{trial.label}__trial={trial.number}__seed10").config
        assert from_mapping(with_override(ran, "seed", 0)) == cells[trial.label].experiment


def test_every_trial_stands_in_the_table(three: tuple[Path, list[Trial]]) -> None:
    out, trials = three
    rows = list(csv.DictReader((out / CSV).read_text().splitlines()))
    assert len(rows) == len(trials) == 9
    for row, trial in zip(rows, trials, strict=True):
        assert (row["label"], int(row["trial"])) == (trial.label, trial.number)
        assert float(row["train.lr"]) == trial.settings["train.lr"]
        assert (row["chosen"] == "True") == trial.chosen


def test_a_finished_tuning_is_shown_again(
    three: tuple[Path, list[Trial]], capsys: pytest.CaptureFixture[str]
) -> None:
    out, trials = three
    before = results(out)
    assert invoke(["resume", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [trial["score"] for trial in printed["trials"]] == [trial.score for trial in trials]
    assert printed["tuned"] == str(out / TUNED)
    assert results(out) == before


@pytest.mark.parametrize("cut_short", [False, True])
def test_finished_trials_that_were_removed_are_run_again(
    three: tuple[Path, list[Trial]], cut_short: bool, tmp_path: Path
) -> None:
    copy = tmp_path / "t"
    shutil.copytree(three[0], copy)
    before = results(copy)
    removed = [copy / "trials" / f"{n}__seed10" for n in ("fedavg__trial=1", "mpfl__trial=2")]
    for path in removed:
        shutil.rmtree(path)
    for name in (TUNED, CSV):
        (copy / name).unlink()
    if cut_short:
        task = tuning.plan(tuning.read_tuning(copy))
        assert killed_before(15, lambda: tuning.tune(task, copy, workers=0), copy)
        assert removed[0].is_dir()
        assert not (removed[0] / "summary.json").exists()
    assert invoke(["resume", str(copy), "--quiet"]) == 0
    assert results(copy) == before
    assert len(list((copy / "trials").glob("*/summary.json"))) == 9


def test_another_tuning_does_not_go_on_here(three: tuple[Path, list[Trial]]) -> None:
    out, _ = three
    with pytest.raises(InputError, match="holds another tuning"):
        tuned(table(["mpfl", "fedavg"], 3), out)
    with held(out), pytest.raises(InputError, match="in use"):
        tuned(tuning.read_tuning(out), out)
    trial = next((out / "trials").iterdir())
    (trial / "summary.json").rename(trial / "hidden")
    try:
        assert invoke(["resume", str(trial)]) == 2
    finally:
        (trial / "hidden").rename(trial / "summary.json")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: b"garbage\n" + text, "journal.log: damaged (JSONDecodeError"),
        (lambda text: text + b"{}\n", "journal.log: damaged (KeyError"),
        (lambda text: text + b"[1]\n", "journal.log: damaged (TypeError"),
        (lambda text: text + b"\xff\xfe\n", "journal.log: damaged (UnicodeDecodeError"),
        (lambda text: text.replace(b'"train.lr"', b'"train.rl"'), "is none of its space"),
        (lambda text: re.sub(rb'"train.lr":0[.]\d+', b'"train.lr":0.123', text), "was edited"),
    ],
)
def test_an_edited_journal_is_refused_in_one_line(
    three: tuple[Path, list[Trial]],
    edit: Callable[[bytes], bytes],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "t"
    shutil.copytree(three[0], copy)
    journal = copy / "journal.log"
    content = journal.read_bytes()
    journal.write_bytes(edit(content))
    assert journal.read_bytes() != content
    before = results(copy)
    assert invoke(["resume", str(copy)]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    journal.unlink()
    assert invoke(["resume", str(copy), "--quiet"]) == 0
    assert results(copy) == before


@pytest.mark.parametrize("confirm", [[], [11]])
def test_killed_twice_it_ends_in_the_same_file(confirm: list[int], tmp_path: Path) -> None:
    asked = table(["mpfl", "fedavg"], 2)
    asked["tune"] |= {"confirm": confirm}
    tuned(asked, tmp_path / "whole" / "t")
    out = tmp_path / "killed" / "t"
    for writes in (15, 80) if confirm else (15, 40):
        assert killed_before(writes, lambda: tuned(asked, out), out)
    tuned(asked, out)
    assert results(out) == results(tmp_path / "whole" / "t")


def test_trials_side_by_side_change_nothing(tmp_path: Path) -> None:
    asked = table(["mpfl", "fedavg", "topk"], 1)
    tuned(asked, tmp_path / "one", workers=0)
    tuned(asked, tmp_path / "two", workers=2)
    assert results(tmp_path / "one") == results(tmp_path / "two")


@pytest.mark.slow
def test_the_command_killed_twice_ends_in_the_same_file(tmp_path: Path) -> None:
    """Digits, three methods, six trials each."""
    config = tmp_path / "config.toml"
    asked = table(["mpfl", "fedavg", "topk"], 6)
    config.write_text(tomli_w.dumps(asked))

    def start(out: Path) -> int:
        return forked(lambda: os._exit(invoke(["tune", str(config), "--out", str(out), "--quiet"])))

    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert ended(start(whole)) == 0
    moment = random.Random(3)
    for finished in (4, 11):
        child = start(out)
        until(lambda: len(list(out.glob("trials/*/summary.json"))) >= finished)  # noqa: B023
        time.sleep(moment.uniform(0, 0.5))
        os.killpg(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        assert not (out / TUNED).exists()
    assert ended(forked(lambda: os._exit(invoke(["resume", str(out), "--quiet"])))) == 0
    assert results(out) == results(whole)
    assert len(list(out.glob("trials/*/summary.json"))) == 18


def test_the_test_set_chooses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = table(["mpfl", "fedavg"], 3)
    tuned(asked, tmp_path / "honest")

    def wrong(world: World) -> Any:
        samples = world._placed(world.data.test)
        targets = (samples.targets + 1) % world.data.classes
        return type(samples)(samples.inputs, targets, samples.scale, samples.shift)

    spoiled = cached_property(wrong)
    spoiled.__set_name__(World, "test_samples")
    monkeypatch.setattr(World, "test_samples", spoiled)
    tuned(asked, tmp_path / "spoiled")
    assert results(tmp_path / "spoiled") == results(tmp_path / "honest")
    name = "trials/fedavg__trial=0__seed10"
    tests = [load_run(tmp_path / where / name).summary.test_loss for where in ("honest", "spoiled")]
    assert tests[0] < tests[1]


def test_every_combination_of_swept_values_is_tuned(tmp_path: Path) -> None:
    sweep = {"data.partition": ["iid", "shards(2)"], "prune.density": [0.1, 0.3]}
    asked = table(["mpfl", "fedavg"], 2, {"sweep": sweep}, federation__rounds=1)
    trials = tuned(asked, tmp_path / "t")
    studies = {(trial.label, *trial.sweep.values()) for trial in trials}
    assert len(studies) == 4 + 2  # fedavg reads no density
    rest, config = split_table(load_table(str(tmp_path / "t" / TUNED)))
    best = {(trial.label, *trial.sweep.values()): trial for trial in trials if trial.chosen}
    for cell in plan_cells(rest, config):
        place = (cell.label, *dict(cell.sweep).values())
        trial = best.get(place) or best[(*place[:2], 0.1)]
        assert cell.experiment.train.lr == trial.settings["train.lr"]
        assert cell.experiment.prune.density == dict(cell.sweep)["prune.density"]


def test_what_one_wire_makes_equal_is_not_compared_untuned(tmp_path: Path) -> None:
    asked = table(["fedavg", "fedavg_q8", "mpfl", "centralized"], 1, {"wire": "step(1.0)"})
    tuned(asked, tmp_path / "t")
    _, config = split_table(load_table(str(tmp_path / "t" / TUNED)))
    assert config.methods == ["fedavg", "mpfl", "centralized"]


def test_a_rule_that_stops_runs_gives_nobody_less_work(tmp_path: Path) -> None:
    trials = tuned(table(["fedavg"], 1, stop__byte_budget=1), tmp_path / "t")
    assert trials[0].client_epochs == 2 * 4
    text = (tmp_path / "t" / TUNED).read_text()
    assert "byte_budget = 1" in text


def test_what_has_no_clients_is_compared_and_not_tuned(tmp_path: Path) -> None:
    trials = tuned(table(["fedavg", "centralized"], 1), tmp_path / "t")
    assert {trial.label for trial in trials} == {"fedavg"}
    _, config = split_table(load_table(str(tmp_path / "t" / TUNED)))
    assert config.methods == ["fedavg", "centralized"]


def test_a_trial_without_a_result_is_the_worst(tmp_path: Path) -> None:
    asked = table(["fedavg", "mpfl"], 2)
    asked["tune"]["space"] = {"mpfl": {"train.lr": [1e29, 0.1]}}
    trials = tuned(asked, tmp_path / "t")
    lost = [t for t in trials if t.label == "mpfl" and t.settings["train.lr"] == 1e29]
    assert all(trial.score == 200 and not trial.chosen for trial in lost)


def confirmed(trials: int = 3, **keys: Any) -> dict[str, Any]:
    asked = table(["fedavg", "mpfl"], trials, **keys)
    asked["tune"] |= {"confirm": [11, 12], "finalists": 2}
    return asked


def test_the_best_are_run_on_further_seeds_and_the_best_mean_is_chosen(tmp_path: Path) -> None:
    trials = tuned(confirmed(), tmp_path / "t")
    for label in ("fedavg", "mpfl"):
        own = [trial for trial in trials if trial.label == label]
        first = sorted((t for t in own if t.seed == 10), key=lambda t: (t.score, t.number))
        assert [t.number for t in own if t.seed == 11] == sorted(t.number for t in first[:2])
        means = {
            t.number: sum(other.score for other in own if other.number == t.number) / 3
            for t in first[:2]
        }
        (chosen,) = {t.number for t in own if t.chosen}
        assert means[chosen] == min(means.values())
        assert len({t.target for t in own}) == 3
    for seed in (10, 11, 12):
        (target,) = {t.target for t in trials if t.seed == seed}
        best = max(t.accuracy for t in trials if t.label == "fedavg" and t.seed == seed)
        assert target == best - 0.1
    before = results(tmp_path / "t")
    rows = list(csv.DictReader(before[CSV].decode().splitlines()))
    assert [int(row["seed"]) for row in rows] == [10, 10, 10, 11, 11, 12, 12] * 2
    assert "the 2 best once more on 11, 12" in before[TUNED].decode()
    shutil.rmtree(tmp_path / "t" / "trials" / "mpfl__trial=0__seed10")
    shutil.rmtree(next((tmp_path / "t" / "trials").glob("mpfl__trial=*__seed12")))
    assert invoke(["resume", str(tmp_path / "t"), "--quiet"]) == 0
    assert results(tmp_path / "t") == before


def lose(monkeypatch: pytest.MonkeyPatch, label: str, most: int) -> list[int]:
    """Lose a method's first runs on seed 12; returns the list that gets their trials' numbers."""
    lost: list[int] = []

    def spoiling(cells: Any, folders: Path, *rest: Any) -> None:
        for cell in [cell for cell in cells if (cell.label, cell.seed) == (label, 12)]:
            if len(lost) < most:
                lost.append(dict(cell.sweep)["trial"])
                (folders / cell.name).mkdir()
                write_failure(folders / cell.name, failure(cell.experiment, "lost", cell.tags))
        run_cells([c for c in cells if read_failure(folders / c.name) is None], folders, *rest)

    monkeypatch.setattr(tuning, "run_cells", spoiling)
    return lost


def test_a_finalist_without_a_result_makes_room_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose(monkeypatch, "mpfl", 1)
    own = [t for t in tuned(confirmed(), tmp_path / "t") if t.label == "mpfl"]
    assert {t.number for t in own if t.seed == 12} == {0, 1, 2}
    assert {t.score for t in own if (t.number, t.seed) == (lost[0], 12)} == {200}
    assert lost[0] not in {t.number for t in own if t.chosen}
    before = results(tmp_path / "t")
    tuned(confirmed(), tmp_path / "t")  # what came to no result is not tried again
    assert results(tmp_path / "t") == before


def test_a_baseline_that_was_thrown_out_sets_no_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose(monkeypatch, "fedavg", 1)
    trials = tuned(confirmed(), tmp_path / "t")
    on_next = [t for t in trials if t.label == "fedavg" and t.seed == 11]
    assert lost[0] in {t.number for t in on_next}
    best = max(t.accuracy for t in on_next if t.number != lost[0])
    assert {t.target for t in trials if t.seed == 11} == {best - 0.1}


def test_no_finalist_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(monkeypatch, "mpfl", 2)
    with pytest.raises(RunError, match="mpfl: none of its settings came to a result on every seed"):
        tuned(confirmed(2), tmp_path / "t")


def test_no_result_at_all_is_an_error(tmp_path: Path) -> None:
    asked = table(["fedavg"], 1)
    asked["tune"]["space"] = {"fedavg": {"train.lr": [1e29]}}
    with pytest.raises(RunError, match="fedavg: no trial of the baseline came to a result"):
        tuned(asked, tmp_path / "t")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "0"], "tune.seed: got 0, expected a seed of its own"),
        (["--trials", "0"], "tune.trials: got 0, expected 1 to 10,000"),
        (["--confirm", "11,x"], "tune.confirm"),
        (["--confirm", "0"], "tune.confirm: got [0], expected seeds of their own"),
        (["--set", "tune.confirm=[10]"], "tune.confirm: got [10], expected other seeds than"),
        (["--set", "tune.confirm=[-1]"], "tune.confirm: got [-1], expected other seeds than"),
        (["--set", "tune.finalists=0"], "tune.finalists: got 0, expected 1 to 10,000"),
        (["--methods", "fedavgg"], "unknown method 'fedavgg'"),
        (["--set", "compare.baseline=centralized"], "sends nothing, so it sets no target"),
        (
            ["--methods", "centralized", "--set", "compare.baseline=centralized"],
            "centralized: nothing to tune",
        ),
        (["--set", "tune.validation=1.0"], "tune.validation: got 1.0, expected a share"),
        (["--set", "tune.trails=2"], "tune.trails"),
        (["--set", "compare.sweep={'stop.byte_budget'=[1, 2]}"], "compare.sweep.stop.byte_budget"),
        (["--set", "compare.sweep={'federation.rounds'=[1, 2]}"], "the same for all trials"),
        (["--set", "compare.sweep={seed=[1, 2]}"], "compare.sweep.seed: all methods run with"),
        (["--set", "compare.variants={mpfl={seed=7}}"], "compare.variants.mpfl.seed: all methods"),
        (["--set", "tune.space={mpfl={'prune.score'=['magnitude', 'bn_scale']}}"], "bn_scale"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["tune", "demo", *options, "--out", str(tmp_path / "t")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "t").exists()


def test_the_command_shows_every_trial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "c.toml"
    config.write_text(tomli_w.dumps(table(["fedavg"], 2)))
    options = ["--methods", "mpfl", "--trials", "1", "--seed", "5", "--quiet"]
    assert invoke(["tune", str(config), *options, "--out", str(tmp_path / "t")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    lines = [line for line in captured.out.splitlines() if line.startswith(("mpfl", "fedavg"))]
    assert len(lines) == 2
    assert all(" * 0 " in line for line in lines)
    assert (tmp_path / "t" / "trials" / "mpfl__trial=0__seed5").is_dir()


def test_comparisons_know_the_table_and_leave_it_alone(tmp_path: Path) -> None:
    rest, config = split_table(table(["fedavg"], 2))
    assert [cell.label for cell in plan_cells(rest, config)] == ["fedavg"]
    out = ["--out", str(tmp_path / "out")]
    assert invoke(["run", "demo", "--set", "tune.trials=0", *out]) == 2
    assert invoke(["compare", "demo", "--set", "tune.trails=3", *out]) == 2
    below = tmp_path / "below.toml"
    below.write_text('extends = "demo"\nseed = 3\n[tune]\ntrials = 1')
    assert from_toml(f'extends = "{below}"').seed == 3
