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


def family(process: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [process]
    for child in _read(f"/proc/{process}/task/{process}/children").split():
        found += family(int(child))
    return found


def total_bytes(processes: list[int], key: str) -> int:
    """Return the sum of ``Rss`` or ``Pss`` over processes.

    Every process counts shared pages in full in the former, and its share of them in the latter.
    """
    lines = [line for p in processes for line in _read(f"/proc/{p}/smaps_rollup").splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # gone meanwhile
        return ""


class Peak:
    """While active, samples what this process and its children hold together.

    Attributes
    ----------
    together
        Highest sum of the resident sets: what is shared counts once for each, so never too low.
    proportional
        Highest sum of the proportional sets: what other programs share counts in part.
    alone
        Highest resident set of this process without its children.
    """

    def __init__(self, seconds: float = 0.2) -> None:
        self.together = self.proportional = self.alone = 0
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
            processes = family(os.getpid())
            self.together = max(self.together, total_bytes(processes, "Rss"))
            self.proportional = max(self.proportional, total_bytes(processes, "Pss"))
            self.alone = max(self.alone, resident_bytes())
