"""A run that is killed, interrupted or out of room goes on to the same files, byte for byte."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from benchmarks.cli import main as program
from benchmarks.report import pages as report
from benchmarks.running.compare_config import split_table
from benchmarks.running.comparison import plan_cells
from benchmarks.running.experiment import resume, run
from benchmarks.running.interruption import Interrupted, interruptible
from mpfl.config import to_mapping, to_toml
from mpfl.errors import InputError
from server.custody import files, held
from tests.federation import tiny
from tests.folders import lasting_files
from tests.processes import ended, forked, until

MOMENTS = int(os.environ.get("MPFL_SOAK_SIGNALS", "1"))
"""Random moments for each signal; the long test has 30."""
WRITES = int(os.environ.get("MPFL_SOAK_WRITES", "6"))
"""The disk is full at every n-th write; the long test takes every one."""
SENT = {
    "kill": (signal.SIGKILL,),
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
    "terminate": (signal.SIGTERM,),
    "hang up": (signal.SIGHUP,),
}
OVER = os.WEXITED | os.WNOHANG | os.WNOWAIT
HELD_BACK = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
KEYS = {"federation__rounds": 4, "engine__record_ballots": True}


@pytest.fixture(autouse=True)
def _without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("curve_pictures", "byte_pictures", "pruning_pictures"):
        monkeypatch.setattr(report, name, lambda *_: [])
    for name in ("partition_map", "spread_over_clients", "error_picture"):
        monkeypatch.setattr(report, name, lambda *_: None)


def command(config: Path, out: Path) -> list[str]:
    """Return what a user types: ``run``, and ``resume`` once there is something to go on with."""
    if (out / "config.toml").is_file():
        return ["resume", str(out), "--quiet"]
    return ["run", str(config), "--out", str(out), "--quiet"]


def started(arguments: list[str], errors: Path) -> int:
    """Start the command in a child process, in which signals wait until somebody handles them."""

    def work() -> None:
        app = program.app
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup leaves ignored

        def awake(*given: Any, **options: Any) -> Any:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)
            return app(*given, **options)

        program.app = awake  # type: ignore[assignment]
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stderr = os.fdopen(2, "w")
        program.main(arguments)

    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        return forked(work)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def nobody_left(group: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return False
    return True


@functools.cache
def uninterrupted(base: Path, workers: int) -> tuple[dict[str, bytes], float]:
    """Return the files of a run that nobody disturbs, and how long it takes."""
    config, out = base / "config.toml", base / str(workers) / "run"
    config.write_text(to_toml(tiny(**KEYS, engine__workers=workers)))
    before = time.monotonic()
    assert ended(started(command(config, out), base / "errors")) == 0
    return lasting_files(out), time.monotonic() - before


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whole")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("sent", SENT)
def test_a_run_interrupted_at_random_moments_ends_with_the_same_files(
    base: Path, tmp_path: Path, sent: str, workers: int
) -> None:
    whole, seconds = uninterrupted(base, workers)
    config, errors = tmp_path / "config.toml", tmp_path / "errors"
    config.write_text(to_toml(tiny(**KEYS, engine__workers=workers)))
    chance, met, number = random.Random(f"{sent} {workers}"), 0, 0
    while met < MOMENTS:
        number += 1
        out = tmp_path / str(number) / "run"
        while True:
            whole_run, before = not out.exists(), time.monotonic()
            status = interrupted(command(config, out), errors, sent, chance.uniform(0, seconds))
            if status == 0:
                break
            met += 1
            assert status == said(sent), errors.read_text()
            assert_one_line(errors.read_text(), sent)
        if whole_run:
            seconds = min(seconds, time.monotonic() - before)  # the machine is less busy now
        assert lasting_files(out) == whole


def interrupted(arguments: list[str], errors: Path, sent: str, seconds: float) -> int:
    """Disturb a command after some seconds; returns its exit status once all of it is gone."""
    child, begun = started(arguments, errors), time.monotonic()
    until(lambda: time.monotonic() > begun + seconds or os.waitid(os.P_PID, child, OVER))
    chance = random.Random(seconds)
    reach = chance.choice((os.kill, os.killpg)) if sent != "kill" else os.kill  # a terminal: all
    for number in SENT[sent]:
        try:
            reach(child, number)
        except ProcessLookupError:  # it leads no group yet
            os.kill(child, number)
        time.sleep(chance.uniform(0, 0.05))
    status = ended(child)
    until(lambda: nobody_left(child))
    return status


def said(sent: str) -> int:
    number = SENT[sent][0]
    return -number if number == signal.SIGKILL else 128 + number


def assert_one_line(text: str, sent: str) -> None:
    assert "Traceback" not in text
    if sent != "kill":
        assert text.count("\n") == 1, text
        assert text.startswith("mpfl: interrupted")


def full_from(number: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Have the disk full in the middle of the n-th write; returns a count of writes."""
    count = 0

    def put(file: BinaryIO, *contents: Any) -> None:
        nonlocal count
        count += 1
        if count >= number:
            whole = b"".join(map(bytes, contents))
            file.write(whole[: len(whole) // 2])
            file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(file, *contents)

    original = files.put
    monkeypatch.setattr(files, "put", put)
    return lambda: count


def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = uninterrupted(base, 0)
    config, number, status = tmp_path / "config.toml", 0, 2
    config.write_text(to_toml(tiny(**KEYS, engine__workers=0)))
    while status:
        number += WRITES
        out = tmp_path / str(number) / "run"
        capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            count = full_from(number, patch)
            status = program.invoke(command(config, out))
        error = capsys.readouterr().err
        assert (status == 0) == (count() < number)
        if status:
            assert status == 2
            assert error.count("\n") == 1
            assert "cannot write" in error
            assert os.strerror(errno.ENOSPC) in error
            assert not list(out.rglob("*.tmp")), "room is what is needed"
            assert program.invoke(command(config, out)) == 0
        assert lasting_files(out) == whole
    assert number > 20


class _Finalised:
    """Meets a signal in its finaliser, which lets no exception out."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_that_comes_in_a_finaliser_is_not_lost() -> None:
    hook, handlers = sys.unraisablehook, {n: signal.getsignal(n) for n in HELD_BACK}

    def interrupted() -> None:
        with interruptible():
            _Finalised()
            time.sleep(5)
            pytest.fail("the signal was lost")

    try:
        with pytest.raises(Interrupted) as met:
            interrupted()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert met.value.status == 128 + signal.SIGTERM
    assert sys.unraisablehook is hook


_TWICE = """
import signal, threading, time
from benchmarks.running.interruption import interruptible

class Finalised:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

class Late(threading.Timer):
    def start(self):
        signal.raise_signal(signal.SIGTERM)
        super().start()

threading.Timer = Late
with interruptible():
    Finalised()
    time.sleep(5)
"""


def test_a_second_signal_ends_a_process_that_puts_off_the_first() -> None:
    child = subprocess.run(
        [sys.executable, "-c", _TWICE], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == 128 + signal.SIGTERM
    assert child.stderr == "mpfl: interrupted twice; continue with mpfl resume\n"


def test_a_folder_belongs_to_one_process(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny(**KEYS), tmp_path / "run", stop)
    with held(tmp_path / "run"):
        for arguments in (["resume"], ["retrain"]):
            assert program.invoke([*arguments, str(tmp_path / "run")]) == 2
        with pytest.raises(InputError, match=f"run is in use: process {os.getpid()} works on it"):
            resume(tmp_path / "run")
    assert resume(tmp_path / "run") is not None


def test_a_new_folder_belongs_to_the_first_that_comes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with held(tmp_path / "run"), pytest.raises(InputError, match="in use"):
        run(tiny(), tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_cell_is_left_to_its_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone, it would lose its label and swept values."""
    variants = {"ours": {"method": "mpfl"}}
    asked = {"methods": ["ours"], "seeds": [0], "variants": variants}
    table = {**to_mapping(tiny()), "compare": asked}
    (cell,) = plan_cells(*split_table(table))
    out = tmp_path / "c" / "cells" / cell.name
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "comparison.toml").write_text("")
    with pytest.raises(KeyboardInterrupt):
        run(cell.experiment, out, stop, tags=cell.tags)
    assert program.invoke(["resume", str(out)]) == 2
    assert f"use mpfl resume {tmp_path / 'c'}" in capsys.readouterr().err


def test_a_report_that_is_missing_is_made_by_resume(tmp_path: Path) -> None:
    run(tiny(), tmp_path / "run")
    assert program.invoke(["resume", str(tmp_path / "run"), "--quiet"]) == 0
    assert (tmp_path / "run" / "report.html").is_file()


def stop(record: dict[str, Any]) -> None:
    raise KeyboardInterrupt
