"""Other simulators on the same work: turns, ratios, failures, and nothing installed unasked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from benchmarks.cli import bench
from benchmarks.cli.main import invoke
from benchmarks.speed import engine
from benchmarks.speed.apart import run_command
from benchmarks.speed.engine import engine_table, write_random_images
from benchmarks.speed.engine_work import BareLoop, Job, experiment
from benchmarks.speed.peers import PEERS, Peer, Ready, environ, installed, prepare, write_work
from mpfl.config import to_toml
from mpfl.errors import InputError
from mpfl.world import world_from_toml

FAKE = """
import json, sys, torch
work = torch.load(sys.argv[1], weights_only=False)
assert not {name.partition(".")[0] for name in sys.modules} & {"mpfl", "benchmarks", "flwr"}
assert [len(clients) for clients in work["orders"]] == [4] * 3
turns = open(__file__ + ".turns", "a+")
turns.write(sys.argv[2] + "\\n")
seconds = [0.5, 2.0 / turns.tell()]  # 1 s in the first turn, 0.5 s in the second
print("pfl says hello")
print(json.dumps({"round_seconds": seconds, "start_seconds": 3.0, "processor_seconds": 6.0}))
"""
BROKEN = "import sys; sys.exit('  File x\\nRuntimeError: no luck\\n====\\nsummary')"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_random_images(folder, train=400, test=50)
    return folder


@pytest.fixture
def canned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own engines need 2 s a round here."""
    result = {"round_seconds": [2.0], "start_seconds": 3.0, "processor_seconds": 1.0}
    monkeypatch.setattr(engine, "run_apart", lambda job: (result, 7))


def fake(folder: Path, name: str, text: str) -> Ready:
    script = folder / f"{name}.py"
    script.write_text(text)
    return Ready(Peer(name, "nothing", script), Path(sys.executable))


@pytest.mark.usefixtures("canned")
def test_peers_take_turns_and_ratios_are_to_each_of_them(images: Path, tmp_path: Path) -> None:
    found = [
        fake(tmp_path, "fake", FAKE),
        fake(tmp_path, "broken", BROKEN),
        Ready(Peer("gone", "nothing", tmp_path), None, "not installed, no network"),
    ]
    seen: list[dict[str, Any]] = []
    rows = engine_table(
        images, 4, 2, (0, 2), (6,), False, 0, passes=2, on_row=seen.append, peers=found, augment=""
    )
    first = ["bare", "local", "local", "fake", "broken", "gone"]
    again = ["bare", "local", "local", "fake"]  # who has failed has no second turn
    assert [row["engine"] for row in seen] == [*first, *again, "local", "local"]
    by_name = {row["engine"]: row for row in rows if row["work"] == "train"}
    assert (tmp_path / "fake.py.turns").read_text() == "2\n2\n"  # as many processes as workers
    row = by_name["fake"]
    assert (row["workers"], row["clients_per_second"], row["failure"]) == (2, 8.0, "")
    assert row["processor_seconds_per_client"] == 6.0 / 12
    assert (row["ratio_to_bare"], row["ratio_to_fake"], row["ratio_to_ray"]) == (4.0, 1.0, None)
    assert by_name["bare"]["ratio_to_fake"] == 0.25
    assert by_name["bare"]["ratio_to_broken"] is None
    assert by_name["broken"]["failure"] == "RuntimeError: no luck"
    assert by_name["gone"]["failure"] == "not installed, no network"
    for name in ("broken", "gone"):
        assert by_name[name]["clients_per_second"] is by_name[name]["ratio_to_bare"] is None
    assert rows[-1]["ratio_to_fake"] is None  # empty clients are no work of a peer's
    assert {frozenset(row) for row in rows} == {frozenset(rows[0])}


def test_a_second_turn_that_fails_is_told(tmp_path: Path) -> None:
    one = {"clients_per_second": 2.0, "failure": ""}
    other = {"clients_per_second": None, "failure": "killed"}
    assert engine._best(one, other) == other


@pytest.mark.parametrize("model", ["lenet300", "lenet5"])
def test_a_peer_gets_the_batches_and_w0_of_the_bare_loop(
    images: Path, tmp_path: Path, model: str
) -> None:
    job = Job("bare", 0, 4, 1, str(images), model=model)
    write_work(job, tmp_path / "work")
    work = torch.load(tmp_path / "work", weights_only=False)
    loop = BareLoop(world_from_toml(to_toml(experiment(job))))
    network, orders = work["network"], work["orders"]
    assert sorted(torch.cat(orders[1]).tolist()) == list(range(400))
    w0 = {name: value.clone() for name, value in network.state_dict().items()}
    for client, number in ((0, 1), (3, 1), (3, 2)):
        network.load_state_dict(w0)
        for index in torch.split(orders[number - 1][client], work["batch_size"]):
            loss = functional.cross_entropy(network(work["inputs"][index]), work["targets"][index])
            with torch.no_grad():
                gradients = torch.autograd.grad(loss, list(network.parameters()))
                for value, gradient in zip(network.parameters(), gradients, strict=True):
                    value -= work["lr"] * gradient
        assert float(loss.detach()) == pytest.approx(loop.client(client, number), rel=1e-5)


def test_a_network_with_layers_of_ours_is_no_work_for_a_peer(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--model: resnet20 has layers"):
        engine_table(images, 4, model="resnet20", peers=[fake(tmp_path, "fake", FAKE)])


class Pip:
    """Stands for `subprocess.run`: notes what would be run, and fails while told to."""

    def __init__(self) -> None:
        self.commands, self.stderr = list[list[str]](), ""

    def __call__(self, command: list[str], **named: Any) -> None:
        self.commands.append(command)
        assert named["check"]
        Path(command[-1]).mkdir(parents=True, exist_ok=True) if "venv" in command else None
        if self.stderr and "pip" in command:
            raise subprocess.CalledProcessError(1, command, "", self.stderr)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Pip:
    double = Pip()
    monkeypatch.setattr("benchmarks.speed.peers.subprocess.run", double)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return double


def test_an_environment_is_announced_installed_once_and_kept(pip: Pip, tmp_path: Path) -> None:
    said: list[str] = []
    peer = Peer("other", "other==1.0", tmp_path / "script.py")
    assert installed(peer) is None
    ready = prepare(peer, said.append)
    assert (len(said), len(pip.commands), ready.failure) == (1, 2, "")
    assert said[0].startswith("other: installing other==1.0 torch==")
    assert pip.commands[1][-2:] == ["other==1.0", f"torch=={torch.__version__.partition('+')[0]}"]
    assert ready.python == installed(peer) == Path(pip.commands[1][0])
    assert ready.python.is_relative_to(tmp_path / "mpfl" / "peers")
    assert prepare(peer, said.append) == ready
    assert (len(said), len(pip.commands)) == (1, 2)
    prepare(Peer("other", "other==1.1", peer.script), said.append)
    assert len(pip.commands) == 4  # another release has an environment of its own


def test_what_cannot_be_installed_is_one_line_and_tried_again(pip: Pip, tmp_path: Path) -> None:
    pip.stderr = "WARNING: slow\nERROR: No matching distribution found for other\n[notice] pip\n"
    peer = Peer("other", "other", tmp_path)
    for commands in (2, 4):
        ready = prepare(peer, lambda line: None)
        why = "not installed, No matching distribution found for other"
        assert (ready.python, ready.failure) == (None, why)
        assert len(pip.commands) == commands
    assert "--clear" in pip.commands[2]


@pytest.mark.usefixtures("canned")
def test_nothing_is_installed_without_the_flag(
    pip: Pip, images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pip.stderr = "ERROR: no network"
    options = ["--data-dir", str(images), "--clients", "4", "--empty", "", "--no-ray", "--json"]
    assert invoke(["bench", "engine", *options]) == 0
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert pip.commands == []
    assert "installing" not in said.err
    assert {key for row in rows for key in row if "pfl" in key} == set()

    assert invoke(["bench", "engine", *options, "--peers"]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[0].startswith("pfl: installing pfl[pytorch]==")
    assert "train pfl 2 workers: not installed, no network" in said.err
    with_peer = json.loads(said.out)
    assert [row["engine"] for row in with_peer] == [*(row["engine"] for row in rows), "pfl"]
    assert [r["ratio_to_bare"] for r in with_peer[:-1]] == [r["ratio_to_bare"] for r in rows]

    monkeypatch.setattr(bench, "PEERS", ())
    assert invoke(["bench", "engine", *options[:-1]]) == 0
    assert "failure" not in capsys.readouterr().out


def test_a_peer_sees_no_packages_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    seen = environ()
    assert "PYTHONPATH" not in seen
    assert (seen["PYTHONSAFEPATH"], seen["PYTHONNOUSERSITE"]) == ("1", "1")
    assert seen["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_pfl_averages_what_the_bare_loop_trains(
    images: Path, tmp_path: Path, processes: int
) -> None:
    python = installed(PEERS[0])
    if python is None:
        pytest.skip("no environment of pfl; mpfl bench engine --peers installs one")
    job = Job("bare", 0, 5, 2, str(images), samples=70)  # an odd number, three batches each
    write_work(job, tmp_path / "work")
    command = Ready(PEERS[0], python).command(tmp_path / "work", processes)
    result, _ = run_command(command, environ())
    loop = BareLoop(world_from_toml(to_toml(experiment(job))))
    w0 = torch.cat([value.flatten() for value in loop.model.state_dict().values()]).clone()
    moved = torch.zeros_like(w0)
    for client in range(5):
        loop.client(client, 3)
        moved += torch.cat([v.flatten() for v in loop.model.state_dict().values()]) - w0
    assert result["moved"] == pytest.approx(float(moved.norm()) / 5, rel=1e-4)
    assert len(result["round_seconds"]) == 2
