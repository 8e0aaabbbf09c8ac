"""What is tuned: axes of values to try, and the settings that a point of them stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from mpfl.errors import InputError, keyed, shown
from mpfl.nested import fail
from mpfl.registry import Registry

Point = Mapping[str, Any]
"""Axis → value."""

SAME_FOR_ALL = (
    *("seed", "method", "plugins", "data.*", "federation.*", "stop.*", "engine.*", "faults.*"),
    *("train.epochs", "prune.epochs", "prune.voters"),
)
"""Patterns of keys that nobody may tune: data and local work are the same for every method."""
_HOLE = re.compile(r"\{(\w+)\}")
_DIGITS = 3
"""Significant digits of a tuned number: what a person reads and copies."""


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def nearest(self, value: Any) -> Any:
        """Return `value` if it is among them, else the first."""
        return next((own for own in self.values if own == value), self.values[0])

    def written(self, value: Any) -> Any:
        """Return a value as it stands in a configuration."""
        return value


@dataclass(frozen=True)
class Range:
    """A number between two others, which count as well.

    Attributes
    ----------
    log
        Whether equal ratios are equally far apart.
    whole
        Whether it is a whole number.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            above = "0 < low < high" if self.log else "low < high"
            raise InputError(f"got {self.low:g} and {self.high:g}, expected {above}")

    @property
    def middle(self) -> float:
        """The number in the middle."""
        return math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2

    def nearest(self, value: Any) -> Any:
        """Return the number of the range that is nearest to `value`; the middle if it is none."""
        known = isinstance(value, int | float) and not isinstance(value, bool)
        number = min(max(value, self.low), self.high) if known else self.middle
        return round(number) if self.whole else float(number)

    def written(self, value: Any) -> Any:
        """Return a number as it stands in a configuration: rounded, within the range."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


Axis = Choice | Range


def log(low: float, high: float) -> Range:
    """Take a number by its logarithm."""
    return Range(low, high, log=True)


def uniform(low: float, high: float) -> Range:
    """Take a number."""
    return Range(low, high)


def whole(low: int, high: int) -> Range:
    """Take a whole number."""
    return Range(low, high, whole=True)


RANGES: Registry[Callable[..., Range]] = Registry(
    "range", {"log": log, "uniform": uniform, "whole": whole}, given=0
)
"""(low, high) -> `Range`."""


@dataclass(frozen=True)
class Space:
    """What is tried.

    Attributes
    ----------
    axes
        Dotted key, or name in a template, → its values.
    templates
        Dotted key → a text in which ``{name}`` stands for the value of that axis.
    """

    axes: Mapping[str, Axis]
    templates: Mapping[str, str]

    def nearest(self, values: Point) -> dict[str, Any]:
        """Return the point nearest to these values, as far as they are known."""
        return {name: axis.nearest(values.get(name)) for name, axis in self.axes.items()}

    def point_of(self, values: Point) -> dict[str, Any]:
        """Return the point nearest to a configuration's dotted keys, as far as they say one."""
        named: dict[str, Any] = {}
        for key, text in self.templates.items():
            parts = _HOLE.split(_close(text))
            stands = _close(str(values.get(key)))
            if found := re.fullmatch("(.+)".join(map(re.escape, parts[::2])), stands):
                said = map(_number, found.groups())
                named = dict(zip(parts[1::2], said, strict=True)) | named
        return self.nearest({**values, **named})

    def settings(self, point: Point) -> dict[str, Any]:
        """Return the dotted keys that a point sets."""
        written = {name: axis.written(point[name]) for name, axis in self.axes.items()}
        holes = {hole for text in self.templates.values() for hole in _HOLE.findall(text)}
        own = {name: value for name, value in written.items() if name not in holes}
        filled = {key: _filled(text, written) for key, text in self.templates.items()}
        return {**own, **filled}


def _close(text: str) -> str:
    return "".join(text.split())


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _filled(text: str, written: Mapping[str, Any]) -> str:
    return _HOLE.sub(lambda hole: f"{written[hole[1]]}", text)


def read_space(table: Mapping[str, Any], where: str, left_out: Collection[str]) -> Space:
    """Return what a table says is to be tried.

    Parameters
    ----------
    table
        Dotted keys and names → a list of values, a range, or a text with names in braces.
    where
        What stands before a key in errors.
    left_out
        Patterns of keys that are not tuned here; names that stand in the braces of none are left
        out as well.

    Raises
    ------
    InputError
        One line naming the key, what was got and what is allowed.
    """
    kept = {key: value for key, value in table.items() if not fits(key, left_out)}
    for key in kept:
        if fits(key, SAME_FOR_ALL):
            text = "every method gets the same data, rounds and local work; this is not tuned"
            raise InputError(f"{where}.{key}: {text}")
    templates = {key: text for key, text in kept.items() if _is_template(text)}
    holes = {hole for text in templates.values() for hole in _HOLE.findall(text)}
    axes: dict[str, Axis] = {}
    for key, value in kept.items():
        if key in templates:
            continue
        if "." in key or key in holes:
            axes[key] = _axis(value, f"{where}.{key}")
    for hole in sorted(holes - axes.keys()):
        raise InputError(f"{where}: {{{hole}}} stands for nothing; expected a line {hole} = …")
    return Space(axes, templates)


def fits(key: str, patterns: Collection[str]) -> bool:
    """Tell whether a key is one of some patterns."""
    return any(fnmatch(key, pattern) for pattern in patterns)


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and bool(_HOLE.search(value))


def _axis(value: Any, key: str) -> Axis:
    if isinstance(value, list):
        if not value or not all(isinstance(v, bool | int | float | str) for v in value):
            fail(key, value, "a list of at least one text, number or truth value")
        for place, one in enumerate(value):
            if one in value[:place]:
                raise InputError(f"{key}: {shown(one)} stands there twice")
        return Choice(tuple(value))
    if not isinstance(value, str):
        fail(key, value, "a list, or log(low, high), uniform(low, high), whole(low, high)")
    with keyed(key):
        return RANGES.bind(value)()
