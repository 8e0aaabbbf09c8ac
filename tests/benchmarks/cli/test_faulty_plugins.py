"""What a part of one's own does wrong is one line that says where, and costs nothing else."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from benchmarks.cli.main import invoke
from mpfl.config import Experiment
from mpfl.plugins import load

PARTS = """
import numpy as np
import torch

from mpfl import DATASETS, DECAYS, METHODS, PARTITIONS, RULES, SCHEDULES, VALUE_CODECS
from mpfl import InputError, Method, Rule
from clients import Client, train_weights
from server import WEIGHTS, WeightMethod


def owner(task):
    return np.arange(len(task.labels)) % task.clients


def failing(*_):
    raise KeyError("x")


PARTITIONS.register("from_one", lambda task: owner(task) + 1)
PARTITIONS.register("half", lambda task: owner(task)[::2])
PARTITIONS.register("hole", lambda task: np.maximum(owner(task), 1))
PARTITIONS.register("places", lambda task: [np.flatnonzero(owner(task) == 0)])
PARTITIONS.register("shares", lambda task: owner(task) / 2)
PARTITIONS.register("failing", failing)
DATASETS.register("nothing", lambda config: None)
SCHEDULES.register("below", lambda target, elapsed: -1.0)
SCHEDULES.register("none", lambda target, elapsed: None)
DECAYS.register("uphill", lambda step, steps: -1.0)
SCHEDULES.register("untyped", lambda target, elapsed, power=2: target)


def late(kind):
    def choose(vote):
        if not vote.context.previous.bools().all():
            raise kind("too late")
        return vote.counts > 0
    return choose


def kept(vote):
    return vote.counts > 0


RULES.register("late", Rule(late(ValueError), "late"))
RULES.register("late_input", Rule(late(InputError), "late_input"))
RULES.register("counts", Rule(lambda vote: vote.counts, "counts"))
RULES.register("nothing", Rule(lambda vote: None, "nothing"))
RULES.register("twice", Rule(kept, "twice", lambda ballots: [0, 0]))
RULES.register("no_list", Rule(kept, "no_list", lambda ballots: None))
RULES.register("beyond", Rule(kept, "beyond", lambda ballots: [99]))


class Written:
    relative, feedback, bits_each = True, False, 32

    def encode(self, values, segments, rng, context):
        return values.tobytes()

    def decode(self, payload, segments, context):
        return np.frombuffer(payload, np.float32)


class Complete(Written):
    def bound_bytes(self, payload, segments, context):
        return len(payload)


class Wide(Complete):
    def decode(self, payload, segments, context):
        return super().decode(payload, segments, context).astype(np.float64)


class Text(Complete):
    def encode(self, values, segments, rng, context):
        return "text"


class Change(Complete):
    def encode(self, values, segments, rng, context):
        values *= 0
        return values.tobytes()


class Infinite(Complete):
    def bound_bytes(self, payload, segments, context):
        return float("inf")


for codec in (Written, Wide, Text, Change, Infinite):
    VALUE_CODECS.register(codec.__name__.lower(), codec)


def answer(request, client):
    return train_weights(request, client, client.world.experiment.federation.rounds)


class Typo(WeightMethod):
    reads = ("trian.*", *WEIGHTS)

    def finish_round(self, enough):
        return {}


def ending(result):
    class Own(WeightMethod):
        def finish_round(self, enough):
            self.state.step += 1
            return result
    return Own


METHODS.register("typo", Method(client=answer, server=Typo))
tensor = {"extra": {"x": torch.ones(1)}}
for name, result in (("none", None), ("total", {"total_bytes": 2}), ("tensor", tensor)):
    METHODS.register(f"returns_{name}", Method(client=answer, server=ending(result)))
"""
SMALL = {
    "data.clients": 3,
    "data.train_samples": 60,
    "data.test_samples": 30,
    "model.size": 0.1,
    "prune.rounds": 2,
    "federation.rounds": 3,
    "engine.workers": 0,
}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    load(Experiment())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text(PARTS)
    lines = ['plugins = ["parts.py"]', *(f"{key} = {value}" for key, value in SMALL.items())]
    (tmp_path / "study.toml").write_text("\n".join(lines) + "\n")
    return tmp_path / "study.toml"


@pytest.mark.parametrize(
    ("setting", "status", "said"),
    [
        ("data.partition=from_one", 2, "data.partition: got clients 1 to 3, expected 0 to 2"),
        ("data.partition=half", 2, "data.partition: got int64[30], expected the client of every"),
        ("data.partition=hole", 2, "data.partition: client 0 has no sample"),
        ("data.partition=places", 2, "data.partition: got [array([ 0,"),
        ("data.partition=shares", 2, "data.partition: got float64[60]"),
        ("data.partition=failing", 2, "plugins: parts.py, line 16: KeyError: 'x'"),
        ("data.name=nothing", 2, "data.name: 'nothing' made None, expected a Dataset"),
        ("prune.schedule=below", 2, "prune.schedule: 'below': round 1: got -1.0, expected 0 <"),
        ("prune.schedule=none", 2, "prune.schedule: 'none': round 1: got None, expected 0 <"),
        ("train.lr_decay=uphill", 2, "train.lr_decay: 'uphill': round 1: got -1.0, expected a"),
        ("prune.schedule=untyped(3)", 2, "prune.schedule: 'untyped(3)': an argument of schedule"),
        ("prune.vote=counts", 2, "prune.vote: 'counts' chose array([1], dtype=uint32), expected"),
        ("prune.vote=nothing", 2, "prune.vote: 'nothing' chose None, expected bool[1]"),
        ("prune.vote=twice", 2, "prune.vote: 'twice' counts the ballots [0, 0], expected a list"),
        ("prune.vote=beyond", 2, "prune.vote: 'beyond' counts the ballots [99], expected a list"),
        ("prune.vote=no_list", 2, "prune.vote: 'no_list' counts the ballots None, expected a list"),
        ("prune.vote=late", 1, "round 2: parts.py, line 35: ValueError: too late"),
        ("wire.up=written", 2, "wire.up: 'written' has no bound_bytes, as every value codec has"),
        ("wire.up=wide", 2, "wire.up: 'wide' reads array([-1."),
        ("wire.down=text", 2, "wire.down: 'text' writes 'text', expected bytes"),
        ("wire.up=change", 2, "wire.up: 'change' changes the values that it is given"),
        ("wire.up=infinite", 2, "wire.up: 'infinite' reads what is not finite, or has no bound"),
        ("method=typo", 2, "method 'typo': it reads 'trian.*', and there is no such key"),
        ("method=returns_none", 1, "finish_round returned None, expected a dictionary"),
        ("method=returns_total", 1, "finish_round returned 'total_bytes'; numbers of a method's"),
        ("method=returns_tensor", 1, "finish_round: extra['x'] is of type Tensor, expected a"),
    ],
)
def test_it_is_one_line_that_names_the_key_or_the_line(
    setting: str, status: int, said: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(study.parent / "out")
    assert invoke(["run", str(study), "--set", setting, "--quiet", "--out", out]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mpfl: {said}")
    failure = study.parent / "out" / "failure.json"
    assert failure.is_file() == (status == 1)
    if status == 1:
        assert json.loads(failure.read_text())["error"] == line.removeprefix("mpfl: ")


@pytest.mark.parametrize("kind", ["late", "late_input"])
def test_in_a_comparison_the_others_go_on_and_a_resume_forgets_nothing(
    kind: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = study.parent / "c"
    sweep = ["--methods", "mpfl,fedavg", "--sweep", f"prune.vote={kind},budget"]
    arguments = ["compare", str(study), *sweep, "--set", "engine.workers=2", "--out", str(out)]
    assert invoke([*arguments, "--quiet"]) == 1
    told = capsys.readouterr().err
    name, why = f"mpfl__prune.vote={kind}__seed0", "round 2: parts.py, line "
    assert f"failed: {name}: {why}" in told
    assert "1 of 4 runs failed" in told
    assert "plugins (" not in told  # nothing says that they have no effect
    assert invoke(["resume", str(out), "--quiet"]) == 1
    assert f"failed: {name}: {why}" in capsys.readouterr().err
    assert invoke(["report", str(out), "--quiet"]) == 0
    rows = {
        line["method"]: line for line in csv.DictReader(StringIO((out / "table.csv").read_text()))
    }
    assert rows[f"mpfl vote={kind}"]["failed"] == "1"
    assert rows["mpfl vote=budget"]["failed"] == "0"
    assert f"Failed, and ranked nowhere: {name} ({why}" in (out / "report.html").read_text()
