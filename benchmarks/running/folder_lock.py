"""One process at a time in a comparison's folder."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpfl.errors import InputError

PATIENCE_SECONDS = 15.0
"""How long to wait for what a killed comparison has left running; it ends within a second."""


@contextmanager
def held(folder: Path, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Keep other comparisons out of a folder while the block runs.

    The lock is the system's own and on the folder itself: no file is left behind, and it falls
    when the last process that came from this one is gone, however it ended. Where the file system
    knows no locks, nothing is kept out.

    Raises
    ------
    InputError
        If another process still holds the folder after `patience` seconds.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + patience
        while not _taken(handle):
            if time.monotonic() > deadline:
                raise InputError(f"--out: another comparison is running in {folder}")
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN)
    return True
