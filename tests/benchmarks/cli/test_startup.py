"""What is not imported until it is needed: lists wait for nothing, rounds for no figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.cli.listing import WRITTEN

ROOT = Path(__file__).parents[3]
NETWORKS = {"torch", "torchvision", "flwr", "numpy", "matplotlib", "scipy", "sklearn", "PIL"}
LATER = {"torchvision", "matplotlib", "scipy", "sklearn", "jinja2", "pandas", "ray"}
"""What a run on digits does not need before its last round is over."""


def imported(script: str) -> set[str]:
    """Return the packages that a script has imported when it prints them, its last line."""
    shown = "print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", script.replace("SHOW", shown)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "scores"]])
def test_helps_and_lists_import_no_network_library(arguments: list[str]) -> None:
    script = f"import sys\nfrom benchmarks.cli.main import invoke\nassert invoke({arguments}) == 0"
    assert not NETWORKS & imported(f"{script}\nSHOW")


def test_a_first_round_is_over_before_figures_are_imported(tmp_path: Path) -> None:
    few = ["federation.rounds=2", "prune.rounds=1", "train.epochs=1", "engine.workers=0"]
    settings = [part for assignment in few for part in ("--set", assignment)]
    arguments = ["run", "demo", "--quiet", *settings, "--out", str(tmp_path / "run")]
    script = (
        "import os, sys\nfrom benchmarks.cli.console import Reporter\n"
        "def first(self, record):\n    SHOW\n    sys.stdout.flush()\n    os._exit(0)\n"
        "Reporter.on_round = first\nfrom benchmarks.cli.main import invoke\n"
        f"invoke({arguments})"
    )
    found = imported(script)
    assert {"torch", "flwr"} <= found
    assert not LATER & found


def test_importing_the_python_interface_imports_no_figures() -> None:
    found = imported("import sys, benchmarks\nassert benchmarks.run and benchmarks.compare\nSHOW")
    assert "torch" in found
    assert not LATER & found


def test_what_is_listed_without_imports_is_what_the_registries_hold() -> None:
    # In a process of its own: other tests register parts in this one.
    script = (
        "import json\n"
        "from benchmarks.cli.listing import REGISTRIES, registered\n"
        "print(json.dumps({kind: registered(kind) for kind in REGISTRIES}))\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout
    written = json.loads(WRITTEN.read_text("utf-8"))
    assert written == json.loads(shown), "python -m benchmarks.cli.listing writes it anew"
