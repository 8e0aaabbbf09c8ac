"""A command in a process of its own: the JSON that it prints, and the memory that it takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_SAMPLE_SECONDS = 0.25
_LIMIT_SECONDS = 900.0


def run_command(
    command: Sequence[str], environ: Mapping[str, str]
) -> tuple[dict[str, Any], int | None]:
    """Run a command; returns its last line of output, read as JSON, and `tree_memory` at its peak.

    Whatever it has started ends with it.

    Raises
    ------
    RuntimeError
        If the process fails, with the end of what it printed.
    """
    peak: int | None = None
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environ,
            start_new_session=True,
        )
        deadline = time.monotonic() + _LIMIT_SECONDS
        try:
            while process.poll() is None and time.monotonic() < deadline:
                memory = tree_memory(process.pid)
                peak = max(peak or 0, memory) if memory else peak
                time.sleep(_SAMPLE_SECONDS)
        finally:
            _end(process)
        output.seek(0)
        errors.seek(0)
        lines = output.read().strip().splitlines()
        if process.returncode or not lines:
            raise RuntimeError(f"an engine failed: {errors.read().strip()[-2000:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result, peak


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop whatever is left of a job, the processes it has started with it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def tree_memory(root: int) -> int | None:
    """Return the proportional set size of a process and its descendants, in bytes.

    Memory that processes share counts once. None where ``/proc`` has no ``smaps_rollup``.
    """
    total, seen = 0, False
    for pid in _tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended, or this is no Linux
            continue
        for line in lines:
            if line.startswith("Pss:"):
                total, seen = total + 1024 * int(line.split()[1]), True
    return total if seen else None


def _tree(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [root]
    for pid in found:
        found += parents.get(pid, [])
    return found
