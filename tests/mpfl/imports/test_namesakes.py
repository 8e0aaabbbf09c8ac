"""A script beside files that are called as our packages are: both are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SMALL = '{"data.clients": 2, "prune.rounds": 1, "federation.rounds": 1, "engine.workers": 0}'
RUN = f'import mpfl; mpfl.run("demo", {SMALL}); print("ran")\n'
OWN = 'print("own file")\nVALUE = 3\ndef answer():\n    return VALUE + 1\n'


def outcome(folder: Path, script: str, files: dict[str, str]) -> subprocess.CompletedProcess[str]:
    for name, text in {**files, "script.py": script}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "printed"),
    [
        (RUN, ["ran"]),
        (RUN + "from server import answer; print(answer())", ["ran", "own file", "4"]),
        ("import server\n" + RUN + "print(server.answer())", ["own file", "ran", "4"]),
        (f'import benchmarks; benchmarks.run("demo", {SMALL}); print("ran")', ["ran"]),
    ],
)
def test_a_server_py_of_ones_own_is_found_and_hides_nothing(
    tmp_path: Path, script: str, printed: list[str]
) -> None:
    done = outcome(tmp_path, script, {"server.py": OWN})
    assert done.stdout.splitlines() == printed, done.stderr


@pytest.mark.parametrize("name", ["server", "clients", "benchmarks", "data"])
@pytest.mark.parametrize("inside", ["__init__.py", "notes.txt"])
def test_so_are_folders(tmp_path: Path, name: str, inside: str) -> None:
    use = f"import {name}; print({name}.VALUE)" if inside == "__init__.py" else ""
    done = outcome(tmp_path, RUN + use, {f"{name}/{inside}": OWN})
    assert done.stdout.splitlines()[-1] == ("3" if use else "ran"), done.stderr


def test_modules_of_the_same_name_are_refused_by_theirs(tmp_path: Path) -> None:
    done = outcome(tmp_path, RUN, {"clients/__init__.py": "", "clients/app.py": ""})
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert f"{tmp_path / 'clients'} hides mpfl's own package 'clients'" in last
    assert "'app'" in last


def test_a_pool_of_processes_runs_experiments(tmp_path: Path) -> None:
    script = (
        "import multiprocessing\n"
        f"def one(seed):\n    import mpfl\n    changes = {SMALL} | {{'engine.workers': 2}}\n"
        "    return mpfl.run('demo', {**changes, 'seed': seed}).summary['mask_digest']\n"
        "def both(seed):\n    import mpfl\n"
        f"    return len(mpfl.compare('demo', {SMALL}, methods=['mpfl', 'fedavg']).runs)\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(len(set(pool.map(one, [0, 1]))), pool.map(both, [0]))\n"
    )
    done = outcome(tmp_path, script, {})
    assert done.stdout == "2 [2]\n", done.stderr
