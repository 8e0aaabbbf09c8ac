"""Parts of one's own from the command line: every command and engine, any number of workers."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.cli.listing import list_parts
from benchmarks.cli.main import invoke
from mpfl.config import Experiment, from_mapping
from mpfl.plugins import load
from server.runfolder import RunFolder, read_config
from tests.runs import digests, records

STUDY = Path(__file__).parents[2] / "plugins" / "study.py"
KEYS = {
    "model.name": "narrow(10)",
    "data.name": "halved",
    "data.partition": "own_iid",
    "data.clients": 3,
    "data.train_samples": 120,
    "data.test_samples": 60,
    "train.loss": "prox(0.05)",
    "train.gradient": "noisy(0.02)",
    "train.lr_decay": "own_cosine",
    "prune.score": "own_score",
    "prune.ranking": "own_flat",
    "prune.vote": "own_budget",
    "prune.schedule": "own_linear",
    "prune.rounds": 2,
    "prune.density": 0.3,
    "federation.rounds": 3,
    "faults.stress": 0.34,
    "faults.stress_kind": "own_labels",
    "faults.byzantine": 0.34,
    "faults.attack": "own_attack",
    "wire.mask_codec": "own_raw",
    "wire.up": "own_float",
    "wire.down": "own_float",
    "engine.record_ballots": True,
}
"""A part of one's own wherever a configuration can name one."""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    load(Experiment())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration beside its plugin, as a researcher has them."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copy(STUDY, folder)
    lines = ['plugins = ["study.py"]', *(f"{key} = {json.dumps(v)}" for key, v in KEYS.items())]
    (folder / "study.toml").write_text("\n".join(lines) + "\n")
    return folder / "study.toml"


def mpfl(*arguments: object) -> None:
    assert invoke([*map(str, arguments)]) == 0


def run(study: Path, out: Path, *settings: str) -> dict[str, Any]:
    options = [word for text in settings for word in ("--set", text)]
    mpfl("run", study, "--out", out, "--quiet", *options)
    return dict(json.loads((out / "summary.json").read_text()))


@pytest.fixture(scope="module")
def finished(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    run(study, folder, "engine.workers=0")
    return folder


def test_every_kind_of_part_can_be_of_ones_own(finished: Path) -> None:
    lines = records(finished)
    assert [line["rejected"] for line in lines] == [{}] * 3
    assert [line["phase"] for line in lines] == ["mask", "mask", "train"]
    assert "own_budget" in lines[0]["vote"]["densities"]
    assert lines[-1]["layer_density"].keys() == {"1", "3"}


def test_every_kind_of_part_is_listed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mpfl("list", "--plugin", study.with_name("study.py"))
    shown = capsys.readouterr().out
    for usage in (
        *("narrow(width=12)", "halved", "own_iid", "own_score", "own_flat", "own_budget"),
        *("own_linear", "own_cosine", "prox(mu=0.1)", "noisy(sigma=0.01)", "own_attack"),
        *("own_labels", "own_raw", "own_float", "sparse_own(fraction=0.1)"),
    ):
        assert f"\n  {usage} " in shown.replace("\n", " \n"), usage
    assert "Averaging of sparse updates." in shown
    load(Experiment())
    assert "narrow(width=12)" not in list_parts("models")["models"]


def test_a_run_is_the_same_whatever_the_number_of_workers(
    study: Path, finished: Path, tmp_path: Path
) -> None:
    first = json.loads((finished / "summary.json").read_text())
    assert digests(run(study, tmp_path / "two", "engine.workers=2")) == digests(first)


def test_a_killed_run_goes_on_without_the_file(
    study: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs is the text that the run began with, whatever has become of the file."""
    mine = tmp_path / "mine"
    shutil.copytree(study.parent, mine)
    out = tmp_path / "run"

    def killed(record: dict[str, Any]) -> None:
        if record["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benchmarks.run(str(mine / "study.toml"), {"engine.workers": 0}, out=out, on_round=killed)
    (mine / "study.py").write_text("raise RuntimeError\n")
    load(Experiment())
    mpfl("resume", out, "--quiet")
    found = [json.loads((f / "summary.json").read_text()) for f in (out, finished)]
    assert digests(found[0]) == digests(found[1])


def test_every_command_that_reads_a_run_finds_its_parts(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(finished, folder)
    load(Experiment())
    mpfl("report", folder)
    mpfl("retrain", folder, "--epochs", 1, "--quiet")
    load(Experiment())
    mpfl("votes", folder)
    load(Experiment())
    mpfl("mask", "export", folder / "mask.mpfl", "--run", folder, "--out", tmp_path / "mask.npz")
    assert "own_budget" in (folder / "votes" / "round-2.csv").read_text()


def test_methods_with_options_are_compared_swept_and_continued(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ("--set", "federation.rounds=2", "--set", "faults.byzantine=0.0")
    out = tmp_path / "compared"
    mpfl("compare", study, *few, "--methods", "fedavg,sparse_own(0.5)", "--out", out, "--quiet")
    cells = {folder.name for folder in (out / "cells").iterdir()}
    assert cells == {"fedavg__seed0", "sparse_own(0.5)__seed0"}
    (line, *_) = records(out / "cells" / "sparse_own(0.5)__seed0")
    assert line["extra"] == {"fraction": 0.5}
    shutil.rmtree(out / "cells" / "sparse_own(0.5)__seed0")
    load(Experiment())
    mpfl("resume", out)
    assert "sparse_own(0.5)" in capsys.readouterr().out
    assert "sparse_own(0.5)" in (out / "report.html").read_text()
    swept = "method=sparse_own(0.1),sparse_own(fraction=0.2)"
    mpfl("compare", study, *few, "--sweep", swept, "--out", tmp_path / "swept", "--quiet")
    cells = {folder.name for folder in (tmp_path / "swept" / "cells").iterdir()}
    assert cells == {"sparse_own(0.1)__seed0", "sparse_own(fraction=0.2)__seed0"}


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("sparse_own(2)", "method: got fraction = 2, expected 0 < fraction <= 1"),
        ("sparse_own(0.1, 3)", "'sparse_own' takes one number, as in sparse_own(fraction=0.1)"),
        ("sparse_ow", "method: unknown method 'sparse_ow'; did you mean 'sparse_own'?"),
        ("fedavg(3)", "'fedavg' takes no argument"),
        ("sparse own", "method: cannot read 'sparse own'"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    study: Path, tmp_path: Path, method: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", str(study), "--set", f"method={method}", "--out", str(tmp_path / "run")]
    assert invoke(arguments) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_methods_named_twice_over_are_refused(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--methods", "fedavg", "--sweep", "method=fedavg,topk"]
    assert invoke(["compare", str(study), *arguments]) == 2
    assert "--methods and --sweep method" in capsys.readouterr().err


def test_a_plugin_that_cannot_be_loaded_is_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.py").write_text("x = 1\nimport no_such_module_here\n")
    out = tmp_path / "run"
    plugin = str(tmp_path / "broken.py")
    assert invoke(["run", "demo", "--plugin", plugin, "--out", str(out)]) == 2
    shown = capsys.readouterr().err
    assert "plugins: broken.py, line 2: ModuleNotFoundError: No module named" in shown
    assert shown.count("\n") == 1
    assert not out.exists()


def test_a_rule_that_no_run_uses_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "rule.py").write_text(
        "from mpfl.vote import RULES, Rule\n"
        "RULES.register('broken', Rule(lambda vote, spec: 1 / 0, 'broken'))\n"
        "RULES.register('worse', Rule(lambda vote: 1 / 0, 'worse(3)'))\n"
    )
    few = {"data.clients": 2, "federation.rounds": 2, "prune.rounds": 1, "engine.workers": 0}
    found = benchmarks.run("demo", {**few, "plugins": [str(tmp_path / "rule.py")]})
    assert not {"broken", "worse(3)"} & found.rounds[0].vote.densities.keys()


def test_a_run_folder_holds_the_text_of_its_plugins(study: Path, tmp_path: Path) -> None:
    table = {"plugins": [str(study.with_name("study.py"))], "model": {"name": "narrow"}}
    experiment = from_mapping(table)
    RunFolder.create(tmp_path / "run", experiment)
    assert read_config(tmp_path / "run") == experiment
    assert STUDY.read_text().splitlines()[3] in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed; pip install 'mpfl[ray]'",
)
def test_ray_gives_the_same_result_with_parts_of_ones_own(
    study: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ray"
    mpfl("run", study, "--out", out, "--engine", "ray", "--quiet")
    found = [json.loads((f / "summary.json").read_text()) for f in (out, finished)]
    assert digests(found[0]) == digests(found[1])
