"""Presets by name, files by path, and ``extends``: one configuration built on another."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from mpfl.errors import InputError, shown
from mpfl.nested import fail, merged, read_toml
from mpfl.plugins.source import resolved
from mpfl.registry import unknown_name

EXTENDS, PLUGINS = "extends", "plugins"
_PATHS = (".data.folder", ".model.weights")
"""Keys that name files, wherever they stand: sweeps and variants have them as well."""
_MOST_BYTES = 10_000_000


def preset_names() -> list[str]:
    """Return the names of the presets that come with the package."""
    files = resources.files("mpfl.presets").iterdir()
    return sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """Return a preset as it is written; InputError naming the nearest one if there is none."""
    if name not in preset_names():
        raise unknown_name("preset", name, preset_names())
    return (resources.files("mpfl.presets") / f"{name}.toml").read_text("utf-8")


def describe(name: str) -> str:
    """Return a preset's first comment line."""
    return preset_text(name).splitlines()[0].lstrip("# ")


def load_table(config: str) -> dict[str, Any]:
    """Return the tables of a preset (by name) or of a TOML file (by path), extended.

    Paths in a file are relative to its folder; here they are absolute.

    Raises
    ------
    InputError
        In one line, if there is no such preset or file, or it is not valid TOML.
    """
    return _loaded(config, Path(), ())


def extended(table: Mapping[str, Any], folder: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return tables put upon what their key ``extends`` names; as they are without that key.

    Tables are merged key by key, plugins are added, and everything else is replaced.

    Parameters
    ----------
    folder
        What the path of a file begins at.
    seen
        The configurations that lead here; none of them may come again.

    Raises
    ------
    InputError
        If there is no such preset or file, or a configuration extends itself in the end.
    """
    rest = {key: value for key, value in table.items() if key != EXTENDS}
    if EXTENDS not in table:
        return rest
    base = table[EXTENDS]
    if not isinstance(base, str) or not base:
        fail(EXTENDS, base, "a preset's name, or the path of a TOML file")
    below = _loaded(base, folder, seen)
    both = merged(below, rest)
    plugins = [below.get(PLUGINS, []), rest.get(PLUGINS, [])]
    if all(isinstance(given, list) for given in plugins) and any(plugins):
        both[PLUGINS] = [*plugins[0], *plugins[1]]
    return both


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


def _loaded(config: str, folder: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    file = folder / config
    if config in preset_names() or not _is_path(config, file):
        return extended(read_toml(preset_text(config)), folder, (*seen, config))
    name = str(file.resolve())
    if name in seen:
        raise InputError(f"{file}: extends itself: {' -> '.join([*seen, name])}")
    try:
        table = anchored(read_toml(_file_text(file)), file.parent)
        table = resolved(table, file.parent)
        return extended(table, file.parent, (*seen, name))
    except InputError as error:
        text = str(error)
        raise InputError(text if str(file) in text else f"{file}: {text}") from None


def _is_path(config: str, file: Path) -> bool:
    return config.endswith(".toml") or "/" in config or file.is_file()


def _file_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error  # whose own text has the path, too
        raise InputError(f"cannot read {shown(str(file))}: {why}") from None
    if not content:
        raise InputError(f"{file}: is empty; a preset's name gives a whole experiment")
    if len(content) > _MOST_BYTES:
        raise InputError(f"{file}: more than {_MOST_BYTES:,} bytes are no configuration")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text in UTF-8, as TOML is: {error}") from None
