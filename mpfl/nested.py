"""Nested tables of plain values: read from TOML, overridden by dotted keys, made dataclasses."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from typing import Any, NoReturn

from mpfl.errors import InputError
from mpfl.registry import unknown_name


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


def build(cls: type[Any], table: Mapping[str, Any], prefix: str = "") -> Any:
    """Build a dataclass of plain values, and of such dataclasses, from nested tables.

    Raises
    ------
    InputError
        For an unknown key (naming the nearest known one), a wrong type or a number that is not
        finite; `prefix` begins the key's name in the message.
    """
    fields = {item.name: item for item in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            raise unknown_name("key", prefix + key, [prefix + name for name in fields])
        values[key] = _convert(fields[key], value, prefix + key)
    return cls(**values)


def _convert(item: dataclasses.Field[Any], value: Any, key: str) -> Any:
    if item.default_factory is not dataclasses.MISSING:
        if not isinstance(value, Mapping):
            fail(key, value, "a table")
        return build(item.default_factory, value, key + ".")  # type: ignore[arg-type]
    wanted: type[Any] = type(item.default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        fail(key, value, f"a value of type {wanted.__name__}")
    if wanted is float and not math.isfinite(value):
        fail(key, value, "a finite number")
    return value


def fail(key: str, got: object, expected: str) -> NoReturn:
    """Raise the InputError that says which key is wrong, what it got and what it takes."""
    raise InputError(f"{key}: got {got!r}, expected {expected}")
