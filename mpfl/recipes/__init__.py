"""Named comparators as data: a method and the settings that make it another one."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """A comparator.

    Attributes
    ----------
    text
        One line for ``mpfl list recipes``.
    source
        Where it is described.
    differs
        What is done in another way here.
    set
        Dotted keys, ``method`` among them.
    """

    text: str
    source: str
    differs: str
    set: Mapping[str, Any]


@cache
def recipes() -> Mapping[str, Recipe]:
    """Return every recipe by its name."""
    text = (resources.files(__name__) / "recipes.toml").read_text()
    return {name: Recipe(**table) for name, table in tomllib.loads(text).items()}


def expanded(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys with a recipe named by ``method`` replaced by what it sets.

    Examples
    --------
    >>> expanded({"method": "fedavg_q8", "wire.down": "float32"})
    {'method': 'fedavg', 'wire.up': 'int8', 'wire.down': 'float32'}
    """
    recipe = recipes().get(str(changes.get("method")))
    if recipe is None:
        return dict(changes)
    return {**recipe.set, **{key: value for key, value in changes.items() if key != "method"}}
