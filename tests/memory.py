"""How much memory processes hold, as the kernel counts it (Linux)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType

_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Return the resident set of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def proportional_bytes(process: int) -> int:
    """Return the proportional set of a process and its descendants; shared pages count once."""
    total = 0
    for line in _read(f"/proc/{process}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    for thread in _read(f"/proc/{process}/task/{process}/children").split():
        total += proportional_bytes(int(thread))
    return total


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # gone meanwhile
        return ""


class Peak:
    """While active, samples what this process and its children hold together.

    Attributes
    ----------
    together, alone
        Highest proportional set of all processes, and of this one without its children.
    """

    def __init__(self, seconds: float = 0.2) -> None:
        self.together = self.alone = 0
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            self.together = max(self.together, proportional_bytes(os.getpid()))
            self.alone = max(self.alone, resident_bytes())
