"""One process at a time works on a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpfl.errors import InputError

PATIENCE_SECONDS = 15.0
"""How long to wait for what a killed process has left running; it ends within a second."""
_LOCKS, _ENDED = Path("/proc/locks"), ("Z", "X")


def take(folder: Path, patience: float = PATIENCE_SECONDS, queue: bool = False) -> int:
    """Keep everybody else out of a folder; returns a handle for `release`.

    The lock is the system's own and on the folder itself: no file is left behind, and it falls
    when the last process that came from this one is gone, however it ended. Where the file system
    knows no locks, nothing is kept out.

    Raises
    ------
    InputError
        At once if a living process holds the folder and we do not `queue`; else after `patience`
        seconds: what a process that is gone has left behind is waited for.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{folder}: cannot be opened ({error.strerror})") from None
    deadline = time.monotonic() + patience
    while not _taken(handle):
        owner = _owner(handle)
        if (_lives(owner) and not queue) or time.monotonic() > deadline:
            os.close(handle)
            who = f"process {owner}" if owner else "another process"
            raise InputError(f"{folder} is in use: {who} works on it")
        time.sleep(0.05)
    return handle


def release(handle: int) -> None:
    """Let others into the folder, even if child processes are left."""
    fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


@contextmanager
def held(folder: Path, patience: float = PATIENCE_SECONDS, queue: bool = False) -> Iterator[None]:
    """Keep everybody else out of a folder while the block runs; see `take`."""
    handle = take(folder, patience, queue)
    try:
        yield
    finally:
        release(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)
    return True


def _owner(handle: int) -> int | None:
    """Return the process that took the lock, where the system tells (Linux)."""
    status = os.fstat(handle)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    line = rf"^\d+: FLOCK .* (\d+) {device}:{status.st_ino} "
    try:
        found = re.search(line, _LOCKS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _lives(process: int | None) -> bool:
    """Return whether a process is at work; a killed one may wait for its parent's notice."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in _ENDED
