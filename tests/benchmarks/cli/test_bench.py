"""``mpfl bench``: tables of real measurements, small ones here."""

import importlib.util
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.cli.bench import rows_table
from benchmarks.cli.main import invoke
from benchmarks.speed.apart import tree_memory
from benchmarks.speed.engine import engine_table, measure, mnist_or_noise, write_random_images
from benchmarks.speed.engine_work import BareLoop, Job, experiment
from mpfl.config import to_toml
from mpfl.errors import InputError
from mpfl.world import world_from_toml

SMAPS = Path("/proc/self/smaps_rollup")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed; pip install 'mpfl[ray]'",
)


@pytest.mark.parametrize(
    ("arguments", "column", "values"),
    [
        (["votes", "--units", "1000", "--ballots", "5", "--repeats", "1"], "way", {"memcpy"}),
        (["codec", "--bits", "1000", "--fractions", "0.1"], "codec", {"mpfl auto", "zlib"}),
    ],
)
def test_tables_come_as_text_and_as_json(arguments, column, values, capsys):
    assert invoke(["bench", *arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row[column] for row in rows} >= values
    assert invoke(["bench", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "load average" in printed
    assert [value for value in values if value not in printed] == []


def printed(rows, width):
    text = io.StringIO()
    console = Console(width=width, file=text)
    console.print(rows_table("t", rows, width))
    return [line.split() for line in text.getvalue().splitlines() if line.strip()]


def test_a_table_shows_units_and_gaps():
    rows = [{"memory_bytes": 2_500_000, "ratio_to_bare": None, "way": "a"}]
    assert printed(rows, 80) == [
        ["t"],
        ["ratio"],
        ["to"],
        ["way", "memory", "bare"],
        ["─" * len("way 2.50 MB ratio")],
        ["a", "2.50", "MB", "–"],
    ]


def test_a_narrow_terminal_breaks_heads_between_words_and_no_cell():
    rows = [{"way": "one at a time", "ratio_to_unpack_and_add": 1.25, "seconds": 0.0000123}] * 2
    words = [word for line in printed(rows, 40) for word in line]
    assert {"ratio", "to", "unpack", "and", "add", "1.25", "1.23e-05"} <= set(words)
    assert "one at a time" in " ".join(words)


def test_a_table_too_wide_for_the_terminal_is_turned():
    rows = [{"network": "lenet300", **{f"quantity_{i}": i for i in range(20)}}]
    lines = printed(rows, 60)
    assert lines[1] == ["network", "lenet300"]
    assert lines[-1] == ["quantity", "19", "19"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["codec", "--fractions", "much"],
        ["codec", "--fractions", "1.5"],
        ["engine", "--workers", "two"],
        ["engine", "--data-dir", "/nonexistent"],
        ["engine", "--model", "lenet6"],
        ["engine", "--device", "cpu", "--peers"],
        ["engine", "--augment", "rotate"],
        ["engine", "--model", "lenet300(5)"],
    ],
)
def test_bad_options_are_one_line_and_status_2(arguments, capsys):
    assert invoke(["bench", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_empty_clients_are_timed_on_the_local_grid():
    row = measure(Job("local", 1, 20, 1))
    assert (row["work"], row["engine"], row["clients"]) == ("empty", "local", 20)
    assert row["clients_per_second"] > 0
    assert row["first_round_seconds"] > 0
    assert (row["memory_bytes"] is None) != SMAPS.exists()
    assert (row["memory_bytes"] or 20_000_001) > 20_000_000


def test_a_failing_engine_is_an_error_with_its_reason():
    with pytest.raises(InputError, match="no messages"):
        measure(Job("bare", 0, 2, 1))
    with pytest.raises(RuntimeError, match="KeyError: 'none'"):
        measure(Job("none", 0, 2, 1))


@pytest.mark.slow
def test_training_is_timed_against_the_bare_loop_on_random_images(tmp_path):
    write_random_images(tmp_path, train=2_000, test=200)
    seen: list[dict[str, Any]] = []
    rows = engine_table(
        tmp_path, 20, 1, (1,), empty=(), ray=False, vectorised=4, passes=2, on_row=seen.append
    )
    assert [row["engine"] for row in rows[:3]] == ["bare", "local", "local, crop_flip"]
    assert [row["engine"] for row in seen] == [row["engine"] for row in rows] * 2
    for row, *turns in zip(rows, seen[:4], seen[4:], strict=True):
        for key, best in (("clients_per_second", max), ("first_round_seconds", min)):
            assert row[key] == best(turn[key] for turn in turns)
    bare, local, augmented, vectorised = rows
    assert augmented["workers"] == 1
    assert augmented["ratio_to_bare"] > 0
    assert vectorised["engine"].startswith("vectorised on c")
    assert vectorised["ratio_to_bare"] > 0
    assert bare["ratio_to_bare"] == 1.0
    speed = local["clients_per_second"] / bare["clients_per_second"]
    assert local["ratio_to_bare"] == pytest.approx(speed)
    assert local["ratio_to_ray"] is None
    assert local["processor_seconds_per_client"] > 0


@pytest.mark.slow
def test_the_bare_loop_learns_and_starts_anew_with_every_client(data_folder):
    if not (data_folder / "MNIST").is_dir():
        pytest.skip(f"no MNIST in {data_folder}")
    job = Job("bare", 0, 100, 1, str(data_folder))
    loop = BareLoop(world_from_toml(to_toml(experiment(job))))
    first = loop.client(0, 1)
    assert first < 1.5
    loop.client(1, 1)
    assert loop.client(0, 1) == first


def test_random_images_are_read_as_mnist():
    with mnist_or_noise(None) as folder:
        world = world_from_toml(to_toml(experiment(Job("bare", 0, 100, 1, folder))))
    assert world.data.input_shape == (1, 28, 28)
    assert [len(part) for part in world.parts] == [600] * 100


@pytest.mark.skipif(not SMAPS.exists(), reason="no smaps_rollup here")
def test_memory_counts_the_children_too():
    code = "import subprocess, sys; block = bytearray(b'x') * 30_000_000; print(1, flush=True);"
    child = f"[sys.executable, '-c', {code + 'input()'!r}]"
    parent = [sys.executable, "-c", f"{code} subprocess.run({child})"]
    with subprocess.Popen(parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.readline()
        memory = tree_memory(process.pid)
        process.communicate(b"\n")
    assert 60_000_000 < memory < 120_000_000


@pytest.mark.ray
@pytest.mark.slow
@needs_ray
def test_ray_is_timed_on_the_same_work():
    row = measure(Job("ray", 1, 4, 1))
    assert row["clients_per_second"] > 0
    assert row["processor_seconds_per_client"] is None
