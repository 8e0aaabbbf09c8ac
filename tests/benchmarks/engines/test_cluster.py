"""A run joins a Ray cluster that is there; what is none is refused in one line, and soon."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.cli.main import invoke
from benchmarks.engines import cluster as module
from benchmarks.engines.cluster import Cluster, find_cluster
from benchmarks.engines.programs import Programs, free_port
from benchmarks.engines.ray import run_on_ray
from benchmarks.running.experiment import run
from mpfl.config import from_mapping
from mpfl.errors import InputError
from tests.processes import PATIENCE_SECONDS, until
from tests.runs import digests

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed; pip install 'mpfl[ray]'",
)
STUDY = """
from pathlib import Path
import numpy as np
import ray
from mpfl.scores import SCORES, Score

def noted(inputs):
    if ray.is_initialized():
        node = ray.get_runtime_context().get_node_id()
        (Path({folder!r}) / node).touch()
    return [np.abs(scores) for scores in SCORES["magnitude"].compute(inputs)]

SCORES.register("noted", Score(noted))
"""


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Two nodes of one core each, which are two hosts as far as Ray can tell."""
    monkeypatch.setattr(module, "JOIN_SECONDS", PATIENCE_SECONDS)  # however busy the machine is
    with tempfile.TemporaryDirectory(prefix="ray-") as name, Programs(Path(name)) as programs:
        address = f"127.0.0.1:{free_port()}"
        port = address.rpartition(":")[2]
        common = ["--block", "--num-cpus=1", "--object-store-memory=100000000"]
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={name}/r"]
        for log, own in (("head", head), ("other", [f"--address={address}", "--node-name=other"])):
            program = programs.start(log, "ray", "start", *own, *common)
            text = programs.log(log)
            while "runtime started" not in text.read_text():
                assert program.poll() is None, text.read_text()
                time.sleep(0.2)
        until(lambda: find_cluster(address).nodes == 2)
        yield find_cluster(address)


@pytest.mark.ray
@pytest.mark.slow
@needs_ray
def test_a_run_on_two_nodes_uses_both_and_gives_the_local_engines_result(
    two_nodes: Cluster, tmp_path: Path
) -> None:
    assert (two_nodes.nodes, two_nodes.cores) == (2, 2)
    (tmp_path / "nodes").mkdir()
    study = tmp_path / "study.py"
    study.write_text(STUDY.format(folder=str(tmp_path / "nodes")))
    wanted = from_mapping(
        {
            "plugins": [str(study)],
            "data": {"clients": 6, "train_samples": 300},
            "prune": {"rounds": 4, "score": "noted"},
            "federation": {"rounds": 6},
        }
    )
    local = run(wanted, tmp_path / "local", workers=0)
    study.unlink()  # its text is what travels
    joined = run_on_ray(wanted, tmp_path / "joined", cluster=two_nodes)
    assert digests(joined) == digests(local)
    assert len(list((tmp_path / "nodes").iterdir())) == 2
    own = run_on_ray(wanted, tmp_path / "own")  # not the cluster that runs beside it
    assert digests(own) == digests(local)
    assert len(list((tmp_path / "nodes").iterdir())) == 3


def refusal(address: str, capsys: pytest.CaptureFixture[str], folder: Path) -> str:
    arguments = ["run", "demo", "--engine", "ray", "--ray-address", address, "--out", str(folder)]
    assert invoke(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mpfl: --ray-address: ")
    assert said.err.count("\n") == 1
    assert not folder.exists()
    return said.err


@needs_ray
@pytest.mark.parametrize(
    "address", ["6379", "head:", ":6379", "head:x", "head:0", "head:65536", "ray://head:10001"]
)
def test_what_is_no_address_is_refused(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    wanted = f"got {address!r}, expected HOST:PORT of a cluster's head"
    assert wanted in refusal(address, capsys, tmp_path / "out")


@needs_ray
def test_an_address_where_nothing_listens_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    said = refusal(address, capsys, tmp_path / "out")
    assert f"nothing can be reached at {address} (connection refused)" in said


@needs_ray
def test_an_address_where_something_else_listens_is_refused_in_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "JOIN_SECONDS", 2.0)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        said = refusal(address, capsys, tmp_path / "out")
    assert f"{address} cannot be joined: no head of a Ray cluster answers within 2 sec" in said
    assert time.monotonic() - began < 60


@needs_ray
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"failure": "Version mismatch: 2.0 and 3.0"}, "cannot be joined: Version mismatch: 2.0"),
        ({"nodes": 1, "cores": 0}, "offers no processor cores"),
    ],
)
def test_a_cluster_that_cannot_take_the_run_is_refused_with_its_reason(
    answer: dict[str, object], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = f"print({json.dumps(json.dumps(answer))})"
    monkeypatch.setattr(module, "_command", lambda _: [sys.executable, "-c", said])
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(InputError, match=why):
        find_cluster(f"127.0.0.1:{listener.getsockname()[1]}")


def test_an_address_without_the_engine_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(["run", "demo", "--ray-address", "head:6379", "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == (
        "mpfl: --ray-address: got 'head:6379', which needs --engine ray\n"
    )
