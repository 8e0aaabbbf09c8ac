"""What ``mpfl list`` shows: every name a configuration can use, with one line each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from benchmarks.presets import describe, preset_names
from mpfl.data import DATASETS
from mpfl.data.partition import PARTITIONS
from mpfl.models import MODELS
from mpfl.ranking import RANKINGS
from mpfl.registry import Registry, unknown_name
from mpfl.schedule import SCHEDULES
from mpfl.scores import SCORES
from mpfl.vote import RULES
from mpfl.wire.masks import MASK_CODECS
from mpfl.wire.values import VALUE_CODECS
from server.methods import METHODS


def list_parts(kind: str) -> dict[str, dict[str, str]]:
    """Return {kind: {name: first line of its documentation}} for one kind, or for all.

    Raises
    ------
    ValueError
        For an unknown kind.
    """
    registries: Mapping[str, Registry[Any]] = {
        "methods": METHODS,
        "models": MODELS,
        "datasets": DATASETS,
        "partitions": PARTITIONS,
        "scores": SCORES,
        "rankings": RANKINGS,
        "rules": RULES,
        "schedules": SCHEDULES,
        "mask-codecs": MASK_CODECS,
        "value-codecs": VALUE_CODECS,
    }
    known = [*registries, "presets"]
    if kind and kind not in known:
        raise unknown_name("kind", kind, known)
    wanted = [kind] if kind else known
    found = {}
    for name in wanted:
        if name == "presets":
            found[name] = {preset: describe(preset) for preset in preset_names()}
        else:
            parts = registries[name]
            found[name] = {key: _first_line(parts[key]) for key in parts.names()}
    return found


def _first_line(part: Any) -> str:
    for candidate in (getattr(part, "summary", None), getattr(part, "compute", None), part):
        if isinstance(candidate, str):
            return candidate
        module = inspect.getmodule(candidate)
        if candidate is not None and module and module.__name__.startswith("server.methods."):
            return (module.__doc__ or "").splitlines()[0]
        if candidate is not None and inspect.getdoc(candidate):
            return str(inspect.getdoc(candidate)).splitlines()[0]
    return ""
