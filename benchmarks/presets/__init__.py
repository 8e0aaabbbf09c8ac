"""Named configurations, and how a configuration is found, completed and overridden."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mpfl.errors import InputError
from mpfl.nested import read_toml, with_override
from mpfl.plugins import resolved
from mpfl.registry import unknown_name

_PATHS = (".data.folder", ".model.weights")
"""Keys that name files, wherever they stand: sweeps and variants have them as well."""
_ITEM = re.compile(r"""((?:[^,()\[\]"']|\([^()]*\)|\[[^\[\]]*\]|"[^"]*"|'[^']*'|[()\[\]"'])*),""")


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    files = resources.files(__name__).iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def describe(name: str) -> str:
    """Return a preset's first comment line."""
    text = (resources.files(__name__) / f"{name}.toml").read_text()
    return text.splitlines()[0].lstrip("# ")


def load_table(config: str) -> dict[str, Any]:
    """Return the tables of a preset (by name) or of a TOML file (by path).

    Paths in a file are relative to its folder; here they are absolute.

    Raises
    ------
    InputError
        If there is no such preset or file, or it is not valid TOML.
    """
    if config.endswith(".toml") or "/" in config:
        path = Path(config)
        try:
            return resolved(anchored(read_toml(path.read_text()), path.parent), path.parent)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    if config not in preset_names():
        raise unknown_name("preset", config, preset_names())
    return read_toml((resources.files(__name__) / f"{config}.toml").read_text())


def parse_assignment(text: str, option: str = "--set") -> tuple[str, Any]:
    """Read ``key=value``; the value is TOML, or a bare word taken as a string.

    Examples
    --------
    >>> parse_assignment("prune.density=0.1")
    ('prune.density', 0.1)
    >>> parse_assignment("data.partition=dirichlet(0.3)")
    ('data.partition', 'dirichlet(0.3)')
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise InputError(f"{option}: got {text!r}, expected key=value")
    return key.strip(), parse_value(value.strip())


def parse_value(text: str) -> Any:
    """Read a TOML value, or return the text itself where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def split_list(text: str) -> list[str]:
    """Split a text at its commas, except at those inside brackets and quotes.

    Examples
    --------
    >>> split_list("mpfl,randk(0.1, 2)")
    ['mpfl', 'randk(0.1, 2)']
    """
    return [part.strip() for part in _ITEM.findall(text + ",")]


def resolve(
    config: str, assignments: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the tables of a configuration with ``--set`` assignments and overrides applied."""
    table = load_table(config)
    pairs = [parse_assignment(text) for text in assignments]
    for key, value in [*pairs, *(overrides or {}).items()]:
        table = with_override(table, key, value)
    return resolved(anchored(table, Path()))


def anchored(value: Any, folder: Path, key: str = "") -> Any:
    """Return nested tables with every relative path in them made absolute, from `folder` on.

    So a run that is resumed elsewhere, or by another user's shell, finds what it began with.
    """
    if isinstance(value, Mapping):
        return {name: anchored(inner, folder, f"{key}.{name}") for name, inner in value.items()}
    if isinstance(value, list):
        return [anchored(inner, folder, key) for inner in value]
    relative = key.endswith(_PATHS) and isinstance(value, str) and value[:1] not in ("", "~")
    return str(folder.absolute() / value) if relative else value
