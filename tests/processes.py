"""Other processes in tests: waiting for what they do, and killing them at a chosen point."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 600.0
"""How long a test waits for what must happen: only a hang takes so long, on any machine."""


def until(ready: Callable[[], object]) -> None:
    """Wait for a condition; AssertionError if it does not come true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def forked(work: Callable[[], object]) -> int:
    """Do `work` in a child process, which leads a group of its own; returns its id.

    A fork has everything imported already, which a new interpreter takes seconds for.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setpgid(0, 0)
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - pytest must not go on in the child
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def ended(child: int) -> int:
    """Wait for a child; returns its exit status, or minus the signal that killed it."""
    status = 0

    def over() -> int:
        nonlocal status
        process, status = os.waitpid(child, os.WNOHANG)
        return process

    until(over)
    return os.waitstatus_to_exitcode(status)


def killed_before(event: int, work: Callable[[], object], folder: Path) -> bool:
    """Do `work` in a child process; kill the child's whole group before a change to `folder`.

    A change is a file opened for writing, a folder made, a file renamed or truncated, counted
    in each process of the group. Returns whether the kill was in time.
    """

    def watched() -> None:
        counted = iter(range(1, event))

        def watch(name: str, arguments: tuple[Any, ...]) -> None:
            if name in ("open", "os.mkdir", "os.rename", "os.truncate"):
                writes = name != "open" or (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
                inside = str(arguments[0]).startswith(str(folder))
                if writes and inside and next(counted, None) is None:
                    os.killpg(0, signal.SIGKILL)

        sys.addaudithook(watch)
        work()

    status = ended(forked(watched))
    assert status in (0, -signal.SIGKILL)
    return status != 0
