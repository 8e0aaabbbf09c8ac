"""Ray and a real deployment give the same mask, model and payloads as the local engine."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engines import programs as flower_tools
from benchmarks.engines.deployment import SOCKETS, deploy
from benchmarks.engines.ray import run_on_ray
from benchmarks.running.experiment import run
from mpfl.config import Experiment, from_mapping
from mpfl.presets import changed
from server.app import experiment_of, output_folder
from tests.processes import ended, forked, until

ROOT = Path(__file__).resolve().parents[3]
DIGESTS = ("mask_digest", "model_digest", "payload_digest")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed; pip install 'mpfl[ray]'",
)


def experiment(**tables: Any) -> Experiment:
    return from_mapping(
        {
            "data": {"clients": 3, "partition": "dirichlet(0.5)", "train_samples": 300},
            "prune": {"rounds": 1},
            "federation": {"rounds": 2},
            **tables,
        }
    )


def local(wanted: Experiment, folder: Path) -> list[str]:
    summary = run(wanted, folder, workers=0)
    return [summary[key] for key in DIGESTS]


@pytest.mark.ray
@pytest.mark.slow
@needs_ray
def test_ray_gives_the_local_engines_result(tmp_path: Path) -> None:
    wanted, records = experiment(), list[dict[str, Any]]()
    summary = run_on_ray(wanted, tmp_path / "ray", records.append)
    assert [summary[key] for key in DIGESTS] == local(wanted, tmp_path / "local")
    assert summary["engine"] == "ray"
    assert [record["round"] for record in records] == [1, 2]
    assert "round 2" in (tmp_path / "ray" / flower_tools.LOG).read_text()


@pytest.mark.ray
@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("method", ["stc", "bicompfl"])
def test_ray_gives_the_same_result_where_both_ends_keep_something(
    tmp_path: Path, method: str
) -> None:
    wanted = experiment(**dict(changed({}, {"method": method})))
    summary = run_on_ray(wanted, tmp_path / "ray")
    assert [summary[key] for key in DIGESTS] == local(wanted, tmp_path / "local")


@pytest.mark.ray
@pytest.mark.slow
@needs_ray
def test_a_failed_flower_run_is_an_error_though_flwr_exits_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.engines.ray._federation", lambda *_: ["num-supernodes=2"])
    refusal = r"(?s)finished:failed.*num-partitions: got 2, .*num-supernodes=3"
    with pytest.raises(RuntimeError, match=refusal):
        run_on_ray(experiment(), tmp_path / "ray")


@pytest.mark.slow
def test_a_deployment_gives_the_local_engines_result(tmp_path: Path) -> None:
    wanted, said = experiment(), list[str]()
    summary = deploy(wanted, tmp_path / "deployed", said.append)
    assert [summary[key] for key in DIGESTS] == local(wanted, tmp_path / "local")
    text = "\n".join(said)
    assert "unregistered key                refused, exit status 1 (Exit Code: 305" in text
    assert "CA certificate alone  refused (403 Forbidden)" in text
    assert re.search(r"other weights +node \d+ is refused: fingerprint: w0 is [0-9a-f]{16}, ", text)
    assert re.search(r"it serves again +round \d+; before that ", text)
    measured = json.loads((tmp_path / "deployed" / SOCKETS).read_text())
    assert (measured["rounds"], measured["messages"]) == (1, 6)
    for sockets, ledger in zip(measured["socket_bytes"], measured["ledger_bytes"], strict=True):
        assert ledger < sockets < ledger + 6 * 100_000


def test_ray_is_refused_in_one_line_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match="--engine ray: Ray is not installed"):
        run_on_ray(experiment(), tmp_path)


def is_running(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().split()[2] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("kill", [None, signal.SIGINT, signal.SIGTERM])
def test_programs_are_stopped_with_their_children(
    tmp_path: Path, kill: signal.Signals | None
) -> None:
    log = tmp_path / "shell.log"

    def harness() -> None:
        with flower_tools.Programs(tmp_path) as programs:
            programs.start("shell", "sh", "-c", "sleep 3600 & echo $!; wait")
            until(lambda: kill is None and log.read_text().endswith("\n"))

    child = forked(harness)
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    started = int(log.read_text())
    if kill:
        assert is_running(started)
        os.kill(child, kill)
    ended(child)
    until(lambda: not is_running(started))  # a signal takes a moment to arrive on a busy machine


def test_staged_app_holds_the_sources_and_a_valid_description(tmp_path: Path) -> None:
    app = flower_tools.stage_app(tmp_path)
    assert {p.name for p in app.iterdir()} == {"mpfl", "clients", "server", "pyproject.toml"}
    assert (app / "mpfl" / "wire" / "frame.py").is_file()
    text = (app / "pyproject.toml").read_text()
    assert 'serverapp = "server.app:app"' in text
    assert "dependencies = []" in text


def test_app_without_configuration_is_all_defaults_under_the_home_folder() -> None:
    assert experiment_of({}) == Experiment()
    assert output_folder({}, 17) == Path.home() / "mpfl-runs" / "17"


def test_relative_output_folder_is_refused_by_its_key() -> None:
    with pytest.raises(ValueError, match="run-config out: got 'here', expected an absolute"):
        output_folder({"out": "here"}, 17)
