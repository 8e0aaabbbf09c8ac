"""What ``mpfl list`` shows: every name a configuration can use, with one line each."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json, Plugins
from benchmarks.presets import describe, preset_names
from mpfl.config import from_mapping
from mpfl.data import DATASETS
from mpfl.data.partition import PARTITIONS
from mpfl.faults.attacks import ATTACKS
from mpfl.faults.stress import SPOILERS
from mpfl.methods import METHODS, Method
from mpfl.models import MODELS
from mpfl.plugins import load
from mpfl.ranking.rankings import RANKINGS
from mpfl.ranking.schedule import SCHEDULES
from mpfl.registry import Registry, unknown_name
from mpfl.scores import SCORES
from mpfl.training.decay import DECAYS
from mpfl.training.losses import GRADIENTS, LOSSES
from mpfl.vote import RULES
from mpfl.wire.masks import MASK_CODECS
from mpfl.wire.values import VALUE_CODECS
from server.methods import METHODS as SERVER_HALVES


def list_(
    kind: Annotated[str, typer.Argument(help="What to list; nothing lists everything.")] = "",
    plugins: Plugins = [],  # noqa: B006 - typer copies it
    as_json: Json = False,
) -> None:
    """List what a configuration can name, from methods and models to attacks and presets."""
    load(from_mapping({"plugins": plugins}))
    parts = list_parts(kind)
    reporter = Reporter(quiet=False, as_json=as_json)
    reporter.result(parts)
    for group, entries in parts.items():
        width = max((len(name) for name in entries), default=0)
        reporter.say(f"{group}:")
        for name, text in entries.items():
            reporter.say(f"  {name:<{width}}  {text}".rstrip())


def list_parts(kind: str) -> dict[str, dict[str, str]]:
    """Return {kind: {how it is written: first line of its documentation}} for one kind, or all.

    Raises
    ------
    InputError
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
        "decays": DECAYS,
        "losses": LOSSES,
        "gradients": GRADIENTS,
        "attacks": ATTACKS,
        "stress": SPOILERS,
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
            found[name] = {parts.usage(key): _about(key, parts[key]) for key in parts.names()}
    return found


def _about(name: str, part: Any) -> str:
    """Return what a part says about itself; of a codec, what the function that makes it says."""
    if isinstance(part, Method) and part.server is None and name in SERVER_HALVES:
        part = SERVER_HALVES[name]
    if described := getattr(part, "description", None):
        return str(described)
    return (inspect.getdoc(getattr(part, "func", part)) or "").partition("\n")[0]
