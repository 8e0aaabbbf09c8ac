"""Nested tables of plain values: read from TOML, overridden by dotted keys, made dataclasses."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints

from mpfl.errors import InputError
from mpfl.registry import unknown_name

T = TypeVar("T")


def read_toml(text: str) -> dict[str, Any]:
    """Parse TOML; InputError with line and column where it is malformed."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}") from None


def with_override(table: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy of nested tables with the dotted `key` set to `value`.

    Examples
    --------
    >>> with_override({"prune": {"density": 0.5}}, "prune.density", 0.1)
    {'prune': {'density': 0.1}}
    """
    head, _, rest = key.partition(".")
    copy = dict(table)
    if not rest:
        copy[head] = value
        return copy
    inner = copy.get(head, {})
    if not isinstance(inner, Mapping):
        raise InputError(f"{key}: {head!r} is not a table")
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
            raise InputError(f"unknown key {key!r}")
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
    if not isinstance(table, Mapping):
        fail(prefix.rstrip(".") or "content", table, "a table")
    kinds, required = _keys(cls)  # type: ignore[arg-type]
    for key in table:
        if key not in kinds:
            raise unknown_name("key", prefix + key, [prefix + name for name in kinds])
    for key in required:
        if key not in table:
            raise InputError(f"no key {prefix + key!r}")
    return cls(**{key: _convert(kinds[key], value, prefix + key) for key, value in table.items()})


@cache
def _keys(cls: type[Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the type of every field, and the fields that have no default."""
    kinds, missing = get_type_hints(cls), dataclasses.MISSING
    fields = dataclasses.fields(cls)
    required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    return {item.name: kinds[item.name] for item in fields}, required


def _convert(kind: Any, value: Any, key: str) -> Any:
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return build(kind, value, key + ".")  # type: ignore[arg-type]
    if origin is UnionType:
        absent = value is None or (isinstance(value, float) and not math.isfinite(value))
        return None if absent else _convert(inner[0], value, key)
    if origin is dict and isinstance(value, Mapping):
        return {name: _convert(inner[1], found, f"{key}.{name}") for name, found in value.items()}
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(inner[0], found, f"{key}[{n}]") for n, found in enumerate(value))
    if origin is list and isinstance(value, list):
        return [_convert(inner[0], found, f"{key}[{place}]") for place, found in enumerate(value)]
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        fail(key, value, f"a value of type {_word(origin or kind)}")
    if kind is float and not math.isfinite(value):
        fail(key, value, "a finite number")
    return value


def _word(kind: type[Any]) -> str:
    return "list" if kind is tuple else kind.__name__


def fail(key: str, got: object, expected: str) -> NoReturn:
    """Raise the InputError that says which key is wrong, what it got and what it takes."""
    raise InputError(f"{key}: got {got!r}, expected {expected}")
