"""What ``mpfl list`` shows: every name a configuration can use, with one line each."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import Json, Plugins
from mpfl.config import from_mapping
from mpfl.plugins import load
from mpfl.presets import describe, preset_names
from mpfl.recipes import recipes
from mpfl.registry import unknown_name

REGISTRIES = {
    "methods": ("mpfl.methods", "METHODS"),
    "models": ("mpfl.models", "MODELS"),
    "datasets": ("mpfl.data", "DATASETS"),
    "partitions": ("mpfl.data.partition", "PARTITIONS"),
    "scores": ("mpfl.scores", "SCORES"),
    "rankings": ("mpfl.ranking.rankings", "RANKINGS"),
    "rules": ("mpfl.vote", "RULES"),
    "schedules": ("mpfl.ranking.schedule", "SCHEDULES"),
    "mask-codecs": ("mpfl.wire.masks", "MASK_CODECS"),
    "value-codecs": ("mpfl.wire.values", "VALUE_CODECS"),
    "decays": ("mpfl.training.decay", "DECAYS"),
    "losses": ("mpfl.training.losses", "LOSSES"),
    "gradients": ("mpfl.training.losses", "GRADIENTS"),
    "attacks": ("mpfl.faults.attacks", "ATTACKS"),
    "stress": ("mpfl.faults.stress", "SPOILERS"),
}
"""What is listed -> where the registry is; most import torch."""
WRITTEN = Path(__file__).with_name("parts.json")
"""The library's own parts: listing them imports nothing. ``python -m benchmarks.cli.listing``
writes it, and a test holds it to the registries."""


def list_(
    kind: Annotated[
        str, typer.Argument(help="What to list, such as keys; nothing lists every part.")
    ] = "",
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
    """Return {kind: {how it is written: first line of its documentation}}.

    Registries that are in memory are asked, for there may be parts of one's own in them; others
    are read from `WRITTEN`.

    Parameters
    ----------
    kind
        One kind; empty for all but ``keys``.

    Raises
    ------
    InputError
        For an unknown kind.
    """
    others: dict[str, Callable[[], dict[str, str]]] = {
        "recipes": _recipes,
        "presets": _presets,
        "keys": _keys,
    }
    known = [*REGISTRIES, *others]
    if kind and kind not in known:
        raise unknown_name("kind", kind, known)
    wanted = [kind] if kind else [name for name in known if name != "keys"]
    return {name: others[name]() if name in others else _parts(name) for name in wanted}


def _parts(kind: str) -> dict[str, str]:
    if REGISTRIES[kind][0] in sys.modules:
        return registered(kind)
    written: dict[str, dict[str, str]] = json.loads(WRITTEN.read_text("utf-8"))
    return written[kind]


def registered(kind: str) -> dict[str, str]:
    """Return what stands in a registry now, as `list_parts` does."""
    module, name = REGISTRIES[kind]
    parts = getattr(import_module(module), name)
    return {parts.usage(key): _about(kind, key, parts[key]) for key in parts.names()}


def _presets() -> dict[str, str]:
    return {preset: describe(preset) for preset in preset_names()}


def _recipes() -> dict[str, str]:
    return {name: recipe.text for name, recipe in recipes().items()}


def _keys() -> dict[str, str]:
    return {key.name: key.line for key in import_module("benchmarks.keys").all_keys()}


def _about(kind: str, name: str, part: Any) -> str:
    """Return what a part says about itself; of a codec, what the function that makes it says."""
    if kind == "methods" and part.server is None:
        from server.methods import METHODS as SERVER_HALVES

        part = SERVER_HALVES[name]
    if described := getattr(part, "description", None):
        return str(described)
    return (inspect.getdoc(getattr(part, "func", part)) or "").partition("\n")[0]


if __name__ == "__main__":
    found = {kind: registered(kind) for kind in REGISTRIES}
    WRITTEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
