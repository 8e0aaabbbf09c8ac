"""Names for interchangeable parts, and the small ``name(argument, ...)`` notation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from mpfl.errors import InputError

T = TypeVar("T")

_SPEC = re.compile(r"\s*([a-z_][a-z0-9_]*)\s*(?:\(([^()]*)\))?\s*")


def unknown_name(what: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for an unknown name; it names the nearest known one and all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {what} {name!r}{hint} (known: {', '.join(known)})")


class Registry(Generic[T]):
    """An ordered mapping from names to parts of one kind.

    Parameters
    ----------
    what
        What a part is called in error messages, e.g. ``"score"``.
    parts
        The parts that come with the library.
    """

    def __init__(self, what: str, parts: Mapping[str, T]) -> None:
        self.what = what
        self._parts = dict(parts)

    def __getitem__(self, name: str) -> T:
        """Return the part called `name`; InputError naming the nearest one if there is none."""
        if name not in self._parts:
            raise unknown_name(self.what, name, self._parts)
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def names(self) -> list[str]:
        """Return every known name, in order of registration."""
        return list(self._parts)

    def register(self, name: str, part: T) -> None:
        """Add a part of your own. InputError if the name is taken by another part."""
        if self._parts.get(name, part) is not part:
            raise InputError(f"{self.what} {name!r} is already registered")
        self._parts[name] = part


def parse_spec(spec: str) -> tuple[str, tuple[str, ...]]:
    """Split ``"dirichlet(0.3)"`` into ``("dirichlet", ("0.3",))``.

    Raises
    ------
    InputError
        If the text is not ``name`` or ``name(argument, ...)``.

    Examples
    --------
    >>> parse_spec("dirichlet(0.3)")
    ('dirichlet', ('0.3',))
    >>> parse_spec("iid")
    ('iid', ())
    """
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise InputError(f"cannot read {spec!r}; expected a name or name(argument, ...)")
    name, arguments = match.groups()
    parts = () if arguments is None else tuple(a.strip() for a in arguments.split(","))
    return name, () if parts == ("",) else parts


def number_argument(spec: str, arguments: tuple[str, ...], default: float | None = None) -> float:
    """Return the one numeric argument of a spec.

    Raises
    ------
    InputError
        If there is not exactly one argument (none is fine where there is a default), or it is
        not a finite number.
    """
    if not arguments and default is not None:
        return default
    if len(arguments) != 1:
        raise InputError(f"{spec!r} takes one number, as in {parse_spec(spec)[0]}(0.5)")
    try:
        value = float(arguments[0])
    except ValueError:
        value = float("nan")
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{spec!r}: {arguments[0]!r} is not a finite number")
    return value
