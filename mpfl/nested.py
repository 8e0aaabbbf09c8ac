"""Nested tables of plain values: read from TOML, overridden by dotted keys, made dataclasses."""

from __future__ import annotations

import dataclasses
import math
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from mpfl.errors import InputError, shown
from mpfl.registry import unknown_name

T = TypeVar("T")

_LARGEST_FLOAT = int(sys.float_info.max)
_DEEPEST = 20  # tables in tables
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    list: "a list",
    tuple: "a list",
    dict: "a table",
}


def read_toml(text: str) -> dict[str, Any]:
    """Parse TOML, with or without a byte order mark.

    Raises
    ------
    InputError
        With line and column where it is malformed.
    """
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise InputError("not valid TOML: tables or lists are nested too deeply") from None
    except ValueError as error:  # numbers of thousands of digits as well
        raise InputError(f"not valid TOML: {error}") from None


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return tables in which what stands in `above` replaces what stands in `below`.

    Examples
    --------
    >>> merged({"seed": 1, "data": {"name": "digits", "clients": 3}}, {"data": {"clients": 5}})
    {'seed': 1, 'data': {'name': 'digits', 'clients': 5}}
    """
    both = dict(below)
    for key, value in above.items():
        under = below.get(key)
        tables = isinstance(value, Mapping) and isinstance(under, Mapping)
        both[key] = merged(under, value) if tables else value  # type: ignore[arg-type]
    return both


def with_override(table: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy of nested tables with the dotted `key` set to `value`.

    Examples
    --------
    >>> with_override({"prune": {"density": 0.5}}, "prune.density", 0.1)
    {'prune': {'density': 0.1}}
    """
    head, _, rest = key.partition(".")
    if rest.count(".") > _DEEPEST:
        raise InputError(f"unknown key {shown(key)}: no table is nested that deeply")
    copy = dict(table)
    if not rest:
        copy[head] = value
        return copy
    inner = copy.get(head, {})
    if not isinstance(inner, Mapping):
        raise InputError(f"{shown(key)}: {shown(head)} is not a table")
    copy[head] = with_override(inner, rest, value)
    return copy


def value_at(table: Mapping[str, Any], key: str) -> Any:
    """Return what nested tables hold at the dotted `key`; InputError where they hold nothing.

    Examples
    --------
    >>> value_at({"prune": {"density": 0.5}}, "prune.density")
    0.5
    """
    value: Any = table
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(f"unknown key {shown(key)}")
        value = value[part]
    return value


def dotted(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested tables as one table of dotted keys.

    Examples
    --------
    >>> dotted({"seed": 0, "prune": {"density": 0.5}})
    {'seed': 0, 'prune.density': 0.5}
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": found for inner, found in dotted(value).items()}
        else:
            flat[key] = value
    return flat


def build(cls: type[T], table: object, prefix: str = "") -> T:
    """Build a dataclass of plain values, and of such dataclasses, from nested tables.

    Its annotations say what is allowed: plain types, ``X | None``, ``list[X]``,
    ``tuple[X, ...]``, ``dict[str, X]`` and ``Any``. Where None is allowed, a number that is not
    finite is read as None.

    Raises
    ------
    InputError
        For an unknown key (naming the nearest known one), a missing one that has no default, a
        wrong type or a number that is not finite; `prefix` begins the key's name in the message.
    """
    return _build(cls, table, prefix, cls)


def _build(cls: type[T], table: object, prefix: str, root: type[Any]) -> T:
    """Build a part of `root`, whose keys are offered in place of unknown ones."""
    if not isinstance(table, Mapping):
        fail(prefix.rstrip(".") or "content", table, "a table")
    kinds, required = _keys(cls)  # type: ignore[arg-type]
    for key in table:
        if key not in kinds:
            raise _unknown_key(prefix, str(key), kinds, root)
    for key in required:
        if key not in table:
            raise InputError(f"no key {prefix + key!r}")
    values = {key: _convert(kinds[key], value, prefix + key, root) for key, value in table.items()}
    return cls(**values)


def _unknown_key(prefix: str, key: str, known: Iterable[str], root: type[Any]) -> InputError:
    """Return the error for a key; one of that very name in another table is what was meant."""
    leaf = key.rpartition(".")[2]
    paths = leaves(root)  # type: ignore[arg-type]
    elsewhere = [path for path in paths if path.rpartition(".")[2] == leaf]
    return unknown_name("key", prefix + key, [prefix + name for name in known], elsewhere)


@cache
def leaves(cls: type[Any]) -> tuple[str, ...]:
    """Return the dotted keys of a dataclass and of the dataclasses in it.

    Examples
    --------
    >>> from mpfl.config import Experiment
    >>> leaves(Experiment)[:3]
    ('seed', 'method', 'plugins')
    """
    kinds, _ = _keys(cls)  # type: ignore[arg-type]
    found: list[str] = []
    for name, kind in kinds.items():
        inner = leaves(kind) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else ()
        found += [f"{name}.{key}" for key in inner] or [name]
    return tuple(found)


@cache
def _keys(cls: type[Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the type of every field, and the fields that have no default."""
    kinds, missing = get_type_hints(cls), dataclasses.MISSING
    fields = dataclasses.fields(cls)
    required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    return {item.name: kinds[item.name] for item in fields}, required


def _convert(kind: Any, value: Any, key: str, root: type[Any]) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, key + ".", root)  # type: ignore[arg-type]
    if origin is UnionType:
        absent = value is None or (isinstance(value, float) and not math.isfinite(value))
        return None if absent else _convert(inner[0], value, key, root)
    if origin is dict and isinstance(value, Mapping):
        named = ((name, f"{key}.{name}", found) for name, found in value.items())
        return {name: _convert(inner[1], found, path, root) for name, path, found in named}
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(inner[0], v, f"{key}[{n}]", root) for n, v in enumerate(value))
    if origin is list and isinstance(value, list):
        return [_convert(inner[0], v, f"{key}[{place}]", root) for place, v in enumerate(value)]
    if kind is float and type(value) is int and abs(value) <= _LARGEST_FLOAT:
        value = float(value)
    if kind is float and type(value) is int:
        fail(key, value, "a finite number")
    if type(value) is not kind:
        fail(key, value, _WORDS[origin or kind])
    if kind is float and not math.isfinite(value):
        fail(key, value, "a finite number")
    return value


def fail(key: str, got: object, expected: str) -> NoReturn:
    """Raise the InputError that says which key is wrong, what it got and what it takes."""
    raise InputError(f"{key}: got {shown(got)}, expected {expected}")
