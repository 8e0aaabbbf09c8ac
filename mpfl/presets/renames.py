"""Keys that had another name in 0.1.0."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RENAMED = {
    "wire.uplink_values": "wire.up",
    "wire.downlink_values": "wire.down",
    "comparator.topk_fraction": "",  # wire.up = "sparse(0.05)" says it now
}


def renamed(table: Mapping[str, Any], place: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return tables with keys of 0.1.0 under their names of today, and a note for each.

    So are dotted keys in them, as variants and sweeps have.

    Examples
    --------
    >>> renamed({"wire": {"uplink_values": "int8"}})
    ({'wire': {'up': 'int8'}}, ['wire.uplink_values is wire.up now'])
    """
    result: dict[str, Any] = {}
    notes = []
    for key, value in table.items():
        here = f"{place}.{key}"
        old = next((name for name in _RENAMED if here.endswith("." + name)), "")
        new = _RENAMED.get(old, "")
        if old:
            notes.append(f"{old} is {new} now" if new else f"{old} is gone; wire.up says it now")
        if isinstance(value, Mapping):
            value, more = renamed(value, here)
            notes += more
        if new:
            key = key.removesuffix(old.rpartition(".")[2]) + new.rpartition(".")[2]
        if new or not old:
            result[key] = value
    return result, notes
