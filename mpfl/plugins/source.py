"""What a plugin is: the text of a file, or the name of a module, and what it must hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mpfl.errors import InputError


@dataclass(frozen=True)
class Plugin:
    """A file or a module of one's own."""

    name: str
    """A file's name, as ``study.py``, or a module's, as ``my_study.parts``."""
    sha256: str
    """Of the file's text; of all Python files of a module."""
    source: str = ""
    """A file's text, which is what runs from here on; of a module it is empty."""

    def __post_init__(self) -> None:
        if self.source and self.sha256 != _sha256(self.source.encode()):
            raise InputError(f"plugins: the text of {self.name!r} is not the one of its sha256")


def resolved(table: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Return a configuration's tables with what its ``plugins`` name put in their place.

    A name that ends with ``.py`` or holds a slash is a file, whose text becomes part of the
    configuration; any other is a module that can be imported, whose digest does. What stands
    there already stays.

    Parameters
    ----------
    folder
        What a file's path is relative to; None for where the program runs.

    Raises
    ------
    InputError
        For what cannot be read or found, and for two plugins of one name that differ.
    """
    found = table.get("plugins")
    if not isinstance(found, Sequence) or isinstance(found, str) or not found:
        return dict(table)
    plugins: list[Any] = []
    for one in (_resolved(given, folder or Path()) for given in found):
        plugins += [] if one in plugins else [one]
    names = [one.get("name") for one in plugins if isinstance(one, Mapping)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"plugins: two that differ are called {name!r}")
    return {**table, "plugins": plugins}


def _resolved(given: Any, folder: Path) -> Any:
    """Return one entry as a table; what is neither a name nor a table is refused later."""
    if isinstance(given, Plugin):
        return {"name": given.name, "sha256": given.sha256, "source": given.source}
    if not isinstance(given, str):
        return given
    if not given.endswith(".py") and "/" not in given:
        return {"name": given, "sha256": module_sha256(given), "source": ""}
    text = _read(folder / Path(given).expanduser(), given)
    return {"name": Path(given).name, "sha256": _sha256(text.encode()), "source": text}


def _read(path: Path, given: str) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InputError(f"plugins: cannot read {given!r}: {why}") from None
    if not text.strip():
        raise InputError(f"plugins: {given!r} is empty")
    return text


def module_sha256(name: str) -> str:
    """Return the digest of the Python files of a module, or of the package that it is.

    Raises
    ------
    InputError
        If no such module can be found here.
    """
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(
            f"plugins: no module {name!r} can be imported here; a file is named by its path, "
            f"as in '{name}.py'"
        )
    folders = [Path(place) for place in spec.submodule_search_locations or ()]
    files = {str(f.relative_to(top)): f for top in folders for f in sorted(top.rglob("*.py"))}
    files = files or {Path(spec.origin).name: Path(spec.origin)}
    lines = [f"{file} {_sha256(path.read_bytes())}\n" for file, path in sorted(files.items())]
    return _sha256("".join(lines).encode())


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
