"""What two folders of the same work have in common: everything but what a clock said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from server.checkpoint import load_checkpoint

TIMES = "Time and memory of the simulation"
"""Heading of the only table of the page with figures that the configuration does not determine."""
CLOCK = {"seconds", "peak_memory_bytes", "machine"}
"""Keys of ``summary.json`` and ``rounds.jsonl`` that two equal runs need not have in common."""
_TIMED = re.compile(
    rf"<h3[^>]*>{TIMES}</h3>.*?</table>|<dt>(wall time|peak memory)</dt><dd>[^<]*</dd>", re.DOTALL
)
UNLIKE = {"rounds.jsonl", "summary.json"}
"""Files that hold such keys, so that their digests differ as well."""


def lasting_files(folder: Path) -> dict[str, bytes]:
    """Return every file of a run or comparison folder, without what a clock or the memory said."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): lasting(path) for path in files}


def lasting(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == "rounds.jsonl":
        return b"\n".join(_without(json.loads(line), CLOCK) for line in content.splitlines())
    if path.name == "summary.json":
        return _without(json.loads(content), CLOCK)
    if path.name == "manifest.json":
        listed = json.loads(content)["files"]
        return json.dumps(sorted(listed)).encode() + _without(listed, UNLIKE)
    if path.name == "report.html":
        return _TIMED.sub("", content.decode()).encode()
    if path.parent.name == "checkpoint":
        facts, arrays = load_checkpoint(path)
        facts["last"] = _without(facts["last"], CLOCK).decode()
        facts["files"].pop("rounds.jsonl")
        kept = {name: (a.dtype.str, a.tobytes().hex()) for name, a in sorted(arrays.items())}
        return _without(facts, CLOCK) + json.dumps(kept).encode()
    return content


def _without(record: dict[str, Any], keys: set[str]) -> bytes:
    return json.dumps({key: record[key] for key in record if key not in keys}).encode()
