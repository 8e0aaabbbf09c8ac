"""docs/deployment.md to the letter, on one host: its commands give the local engine's result."""

from __future__ import annotations

import json
import re
import socket
import tomllib
from pathlib import Path

import pytest

from benchmarks.engines import programs as flower
from benchmarks.running.experiment import run
from mpfl.config import from_toml
from server.runfolder import SUMMARY
from tests.processes import PATIENCE_SECONDS, until

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "deployment.md"
LASTING = re.compile(r"flower-superlink|python -m benchmarks\.engines\.gate|until flower-supernode")
DIGESTS = ("mask_digest", "model_digest", "payload_digest")


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(bash|toml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def on_this_host(text: str, folder: Path) -> tuple[str, list[int]]:
    """Return the page with this host's name, free ports, and this test's folder."""
    names = ["--port 8000", "9443", "9094"]
    ports = [flower.free_port() for _ in names]
    places = {
        "superlink.example.org": "localhost",
        "127.0.0.1:8000": f"127.0.0.1:{ports[0]}",
        "--port 8000": f"--port {ports[0]}",
        "--host 0.0.0.0": "--host 127.0.0.1",
        "9443": str(ports[1]),
        "9094": str(ports[2]),
        "910$i": f"$(({flower.free_port()} + i))",
        "/absolute/path/to": str(folder),
        "/srv/mpfl-runs": str(folder),
        "~/mpfl site": f"{ROOT} site",
    }
    for there, here in places.items():
        assert there in text, there
        text = text.replace(there, here)
    return text, ports


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_the_pages_commands_run_an_experiment(tmp_path: Path) -> None:
    text, ports = on_this_host(PAGE.read_text(), tmp_path)
    (tmp_path / "first").mkdir()
    waiting = ports[:2]
    with flower.Programs(tmp_path) as programs:
        for number, (kind, block) in enumerate(blocks(text)):
            if kind == "toml":
                name = "run.toml" if "experiment" in block else "config.toml"
                (tmp_path / name).write_text(block)
            elif "git clone" not in block and not block.startswith("flwr run"):
                program = programs.start(f"block{number}", "bash", "-ec", block)
                if not LASTING.search(block):
                    assert program.wait(PATIENCE_SECONDS) == 0, log(programs, number)
                elif waiting:
                    port = waiting.pop(0)
                    until(lambda port=port: listens(port))  # type: ignore[misc]
        (submit,) = (block for _, block in blocks(text) if block.startswith("flwr run"))
        program = programs.start("run", "bash", "-ec", submit)
        assert program.wait(PATIENCE_SECONDS) == 0, programs.log("run").read_text()
        runs = programs.call("ls", "site")["runs"]
    assert [row["status"] for row in runs] == ["finished:completed"], runs
    experiment = from_toml(tomllib.loads((tmp_path / "run.toml").read_text())["experiment"])
    deployed = json.loads((tmp_path / "first" / SUMMARY).read_text())
    local = run(experiment, tmp_path / "local", workers=0)
    assert [deployed[key] for key in DIGESTS] == [local[key] for key in DIGESTS]


def log(programs: flower.Programs, number: int) -> str:
    return programs.log(f"block{number}").read_text()


def test_the_page_serves_the_operator_on_loopback_and_names_127_0_0_1_in_the_certificate() -> None:
    commands = "\n".join(block for kind, block in blocks(PAGE.read_text()) if kind == "bash")
    assert "flower-superlink --host 127.0.0.1 " in commands
    assert "DNS:superlink.example.org,IP:127.0.0.1" in commands
    assert "flower-superlink --host 0.0.0.0" not in commands
