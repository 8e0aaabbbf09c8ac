"""Sinks: off by default, a clear word where the package is missing, every round once."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.cli.main import invoke
from benchmarks.running.sinks import SINKS, Feed, check_sink, figures_of
from tests.runs import SMALL, records, small

QUICK = {
    "data.train_samples": 240,
    "data.test_samples": 60,
    "prune.rounds": 1,
    "federation.rounds": 2,
}


class Recorder:
    """A sink that remembers."""

    package = "json"
    opened: list[Recorder] = []  # noqa: RUF012

    def __init__(self, folder: Path, title: str, experiment: Any) -> None:
        self.folder, self.title = folder, title
        self.rounds: list[tuple[int, dict[str, float]]] = []
        self.closed = 0
        Recorder.opened.append(self)

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        self.rounds.append((step, dict(figures)))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def opened() -> list[Recorder]:
    if "recorder" not in SINKS:
        SINKS.register("recorder", Recorder)
    Recorder.opened.clear()
    return Recorder.opened


def test_a_run_shows_every_round_once_and_closes(opened: list[Recorder]) -> None:
    run = benchmarks.run(SMALL, QUICK, sink="recorder")
    (sink,) = opened
    assert sink.folder == run.folder
    assert [step for step, _ in sink.rounds] == [1, 2]
    assert [f["test_accuracy"] for _, f in sink.rounds] == [r.test_accuracy for r in run.rounds]
    assert sink.rounds[-1][1]["total_bytes"] == run.summary["total_bytes"]
    assert sink.closed == 1


def test_a_comparison_shows_every_cell_one_after_the_other(opened: list[Recorder]) -> None:
    comparison = benchmarks.compare(
        SMALL, QUICK, methods=["mpfl", "fedavg"], seeds=[0], sink="recorder"
    )
    assert {sink.folder for sink in opened} == {run.folder for run in comparison.runs}
    for sink in opened:
        assert [figures for _, figures in sink.rounds] == [
            figures_of(record) for record in records(sink.folder)
        ]
        assert sink.closed == 1


@pytest.mark.parametrize(("content", "shown"), [(None, []), (b'{"round": 1}\n{"rou', [1])])
def test_of_a_cell_that_died_the_whole_lines_are_shown(
    opened: list[Recorder], tmp_path: Path, content: bytes | None, shown: list[int]
) -> None:
    if content is not None:
        (tmp_path / "rounds.jsonl").write_bytes(content)
    Feed("recorder", tmp_path, "cell", small()).replay()
    assert [step for sink in opened for step, _ in sink.rounds] == shown


def test_without_the_option_nothing_is_opened(opened: list[Recorder]) -> None:
    benchmarks.run(SMALL, QUICK)
    assert opened == []


def test_figures_that_are_no_numbers_are_left_out() -> None:
    record = {"round": 1, "test_loss": float("nan"), "test_accuracy": None, "counted": True}
    assert figures_of({**record, "errors": [], "seconds": 2}) == {"seconds": 2.0}


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"mpfl\[sinks\]"):
        check_sink(name)
    out = tmp_path / "out"
    for command in ("run", "compare"):
        assert invoke([command, "demo", "--sink", name, "--out", str(out)]) == 2
        assert name in capsys.readouterr().err
        assert not out.exists()


def test_an_unknown_sink_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="'tensorboard'"):
        check_sink("tensorbord")


class FakeWandb:
    """What `wandb` is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def init(self, **options: Any) -> FakeWandb:
        self.calls.append(("init", options))
        return self

    def log(self, figures: dict[str, float], step: int) -> None:
        self.calls.append(("log", step, figures))

    def finish(self) -> None:
        self.calls.append(("finish",))


def test_weights_and_biases_stays_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: fake)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    feed = Feed("wandb", tmp_path, "mine", small())
    feed.on_round({"round": 4, "density": 0.5})
    feed.close()
    (_, options), logged, ended = fake.calls
    assert options["mode"] == "offline"
    assert options["dir"] == str(tmp_path)
    assert options["config"]["data"]["name"] == "digits"
    assert logged == ("log", 4, {"density": 0.5})
    assert ended == ("finish",)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the extra [sinks]"
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    feed = Feed("tensorboard", tmp_path, "mine", small())
    feed.on_round({"round": 1, "density": 0.5})
    feed.on_round({"round": 2, "density": 0.25})
    feed.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("density")] == [(1, 0.5), (2, 0.25)]
