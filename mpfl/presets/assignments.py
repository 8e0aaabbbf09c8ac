"""``key=value`` and lists of values as the command line takes them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpfl.errors import InputError, shown
from mpfl.nested import dotted, with_override
from mpfl.plugins.source import resolved
from mpfl.presets.files import anchored, load_table
from mpfl.presets.renames import renamed
from mpfl.recipes import expanded

_CLOSING = {"(": ")", "[": "]", "{": "}"}


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
        raise InputError(f"{option}: got {shown(text)}, expected key=value")
    return key.strip(), parse_value(value.strip())


def parse_value(text: str) -> Any:
    """Read a TOML value, or return the text itself where it is none."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if set(table) == {"value"} else text


def parse_list(text: str, option: str) -> list[Any]:
    """Read values separated by commas, of which none in quotes or parentheses counts.

    Examples
    --------
    >>> parse_list("step(0.1, 0.6), 'a,b', 3", "--sweep")
    ['step(0.1, 0.6)', 'a,b', 3]
    """
    return [parse_value(part) for part in _parts(text, option)]


def parse_names(text: str, option: str) -> list[str]:
    """Read names separated by commas, as they are or in quotes.

    Examples
    --------
    >>> parse_names("mpfl, 'trimmed(0.1)', 7", "--methods")
    ['mpfl', 'trimmed(0.1)', '7']
    """
    values = ((part, parse_value(part)) for part in _parts(text, option))
    return [value if isinstance(value, str) else part for part, value in values]


def _parts(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in _split(text)]
    if not all(parts):
        raise InputError(f"{option}: got {shown(text)}, expected values separated by commas")
    return parts


def _split(text: str) -> Iterator[str]:
    start, open_, quote = 0, [], ""
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _CLOSING:
            open_.append(_CLOSING[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
        elif letter == "," and not open_:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def resolve(
    config: str, assignments: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the tables of a configuration with ``--set`` assignments and overrides applied."""
    changes = {**dict(map(parse_assignment, assignments)), **(overrides or {})}
    return resolved(anchored(changed(load_table(config), changes), Path()))


def _of_tables(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes with the keys of a table, as ``[prune]`` is one, each on its own."""
    flat: dict[str, Any] = {}
    for key, value in changes.items():
        if isinstance(value, Mapping) and "." not in key and key not in ("compare", "tune"):
            flat |= {f"{key}.{inner}": found for inner, found in value.items()}
        else:
            flat[key] = value
    return flat


def changed(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables with dotted keys set anew; a recipe stands below what stands beside its name.

    So a file that names a recipe may set any key of it, and so may whoever names one in `changes`;
    where only those name it, it sets aside what the file says. A table sets its own keys alone.
    """
    table, changes = renamed(table)[0], renamed(_of_tables(changes))[0]
    named = expanded({"method": table["method"]} if "method" in table else {})
    given = dotted(table).keys() - {"method"}
    below = {key: value for key, value in named.items() if key not in given}
    for key, value in [*below.items(), *expanded(changes).items()]:
        table = with_override(table, key, value)
    return table
