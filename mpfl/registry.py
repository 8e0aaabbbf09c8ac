"""Names for interchangeable parts, and the small ``name(argument, ...)`` notation."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import partial
from inspect import Parameter, Signature, signature
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

from mpfl.errors import InputError, shown

T = TypeVar("T")

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_SPEC = re.compile(rf"\s*({_NAME.pattern})\s*(?:\(([^()]*)\))?\s*")

Registration = tuple["Registry[Any]", str, Any]
"""Where a part was registered, under what name, and the part."""

_record: ContextVar[list[Registration] | None] = ContextVar("registrations", default=None)


def unknown_name(
    what: str, name: str, known: Iterable[str], elsewhere: Iterable[str] = ()
) -> InputError:
    """Return the error for an unknown name; it names the nearest known one and all of them.

    Names from `elsewhere` are only offered, before the known ones, as what was meant.
    """
    known = sorted(set(known))
    near = [*elsewhere, *difflib.get_close_matches(name[:1000], known, n=1, cutoff=0.5)]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {what} {shown(name)}{hint} (known: {', '.join(known)})")


@contextmanager
def recorded() -> Iterator[list[Registration]]:
    """Keep what is registered inside the block out of the registries; yields the list of it."""
    found: list[Registration] = []
    token = _record.set(found)
    try:
        yield found
    finally:
        _record.reset(token)


class Registry(Generic[T]):
    """An ordered mapping from names to parts of one kind.

    Beside the parts that come with the library there are those that a script registers, and
    those that are lent for a while (`mpfl.plugins`), which go before a script's.

    What stands in the parentheses of ``name(argument, ...)`` are the part's own parameters, those
    after the ones that its caller gives. They are annotated ``int``, ``float``, ``Fraction`` (a
    number exactly as written), ``str``, or ``Literal`` of some texts.

    Parameters
    ----------
    what
        What a part is called in error messages, e.g. ``"score"``.
    parts
        The parts that come with the library.
    given
        How many parameters, the first ones, the caller gives. None: no part takes arguments.
    functions
        Where a part is a frozen dataclass: its fields that are functions of all arguments (or
        None); the first one is never None.
    """

    def __init__(
        self,
        what: str,
        parts: Mapping[str, T],
        given: int | None = None,
        functions: Sequence[str] = (),
    ) -> None:
        self.what = what
        self._built_in, self._own, self._lent = dict(parts), dict[str, T](), dict[str, T]()
        self._given = given
        self._functions = functions
        self._signatures: dict[str, tuple[Any, list[Parameter]]] = {}

    @property
    def _parts(self) -> dict[str, T]:
        return {**self._built_in, **self._own, **self._lent}

    def __getitem__(self, name: str) -> T:
        """Return the part called `name`; InputError naming the nearest one if there is none."""
        self.check(name)
        return self._parts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def check(self, name: str) -> None:
        """Raise InputError naming the nearest part if there is none called `name`."""
        if name not in self._parts:
            raise unknown_name(self.what, name, self._parts)

    def names(self) -> list[str]:
        """Return every known name, in order of registration."""
        return list(self._parts)

    def built_in(self) -> list[str]:
        """Return the names of the parts that come with the library."""
        return list(self._built_in)

    def register(self, name: str, part: T) -> None:
        """Add a part of your own; one of the same name is replaced, as when a cell runs again.

        Raises
        ------
        InputError
            If the name is that of a part that comes with the library, or one that no configuration
            can spell, or the part is none of this kind.
        """
        self._check_part(name, part)
        if (record := _record.get()) is not None:
            record.append((self, name, part))
        else:
            self._own[name] = part

    def lend(self, name: str, part: T) -> None:
        """Add a part until it is taken back."""
        self._lent[name] = part

    def take_back(self, name: str) -> None:
        """Remove a part that was lent."""
        del self._lent[name]

    def _check_part(self, name: str, part: T) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise InputError(
                f"{self.what} {name!r} could not be spelled in a configuration: a name is made of "
                "lower-case letters, digits and _, and begins with no digit"
            )
        if self._built_in.get(name, part) is not part:
            raise InputError(f"{self.what} {name!r} comes with the library; choose another name")
        wanted = type(next(iter(self._built_in.values()), part)).__name__
        if self._functions and not all(hasattr(part, field) for field in self._functions):
            got = getattr(part, "__name__", repr(part))
            raise InputError(f"{self.what} {name!r}: got {got}, expected a {wanted}")
        if self._given is not None and not self._functions and not callable(part):
            raise InputError(f"{self.what} {name!r}: got {part!r}, expected a function")

    def bind(self, spec: str) -> T:
        """Return the part that a spec names, its arguments bound.

        Raises
        ------
        InputError
            If there is no such part, or the arguments are not those that it takes.
        """
        name, texts = parse_spec(spec) if "(" in spec else (spec.strip(), ())
        part: Any = self[name]
        arguments = self._read(spec, name, texts)
        if not self._functions:
            return partial(part, **arguments) if arguments else part  # type: ignore[return-value]
        fields = {field: getattr(part, field) for field in self._functions}
        bound = {field: partial(f, **arguments) for field, f in fields.items() if f is not None}
        return dataclasses.replace(part, **bound)  # type: ignore[no-any-return]

    def usage(self, name: str) -> str:
        """Return how a part is written: ``quorum(q)``, ``shards(k=2)`` or just its name."""
        inside = ", ".join(map(_shown, self._parameters(name)))
        return f"{name}({inside})" if inside else name

    def _parameters(self, name: str) -> list[Parameter]:
        """Return the parameters that a spec fills in."""
        if self._given is None:
            return []
        part: Any = self[name]
        function = getattr(part, self._functions[0]) if self._functions else part
        known, parameters = self._signatures.get(name, (None, []))
        if known is not function:  # looked up a dozen times for every client of a round
            some = len(signature(function).parameters) > self._given
            parameters = [*signature(function, eval_str=some).parameters.values()][self._given :]
            self._signatures[name] = function, parameters
        return parameters

    def _read(self, spec: str, name: str, texts: Sequence[str]) -> dict[str, Any]:
        """Return the arguments of a spec, converted, by the name of their parameter."""
        parameters = self._parameters(name)
        found = _fitted(texts, Signature(parameters))
        if found is None:
            example = f", as in {self.usage(name)}" if parameters else ""
            raise InputError(f"{name!r} takes {_wanted(parameters)}{example}; got {spec!r}")
        kinds = {parameter.name: parameter.annotation for parameter in parameters}
        what = f"argument of {self.what} {name!r}"
        return {key: _converted(spec, text, kinds[key], what) for key, text in found.items()}


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
        raise InputError(f"cannot read {shown(spec)}; expected a name or name(argument, ...)")
    name, arguments = match.groups()
    parts = () if arguments is None else tuple(a.strip() for a in arguments.split(","))
    return name, () if parts == ("",) else parts


def _fitted(texts: Sequence[str], wanted: Signature) -> dict[str, str] | None:
    """Return which parameter each text is for, by place or as ``name=text``; None if one is not."""
    sides = [text.partition("=") for text in texts]
    bare = [text for text, equals, _ in sides if not equals]
    named = {key.strip(): text.strip() for key, equals, text in sides if equals}
    try:
        found = wanted.bind(*bare, **named).arguments
    except TypeError:
        return None
    return found if len(found) == len(texts) else None


def _wanted(parameters: Sequence[Parameter]) -> str:
    if not parameters:
        return "no argument"
    if len(parameters) > 1:
        least = sum(parameter.default is Parameter.empty for parameter in parameters)
        count = f"{least} to " * (least < len(parameters)) + str(len(parameters))
        return f"{count} arguments"
    nouns = {int: "one whole number", float: "one number", Fraction: "one number"}
    return nouns.get(parameters[0].annotation, "one argument")


def _converted(spec: str, text: str, kind: Any, argument: str) -> Any:
    """Return an argument as its parameter's annotation wants it."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise unknown_name(argument, text, get_args(kind))
        return text
    if kind is str:
        return text
    if kind not in (int, float, Fraction):
        allowed = "int, float, Fraction, str or a Literal of texts"
        raise InputError(f"{spec!r}: an {argument} is not annotated with {allowed}")
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{spec!r}: {text!r} is not a finite number")
    if kind is int and number != int(number):
        raise InputError(f"{spec!r}: {text!r} is not a whole number")
    return Fraction(str(number)) if kind is Fraction else kind(number)


def _shown(parameter: Parameter) -> str:
    """Return a parameter as a listing shows it: the texts allowed, or its name and default."""
    if choices := get_args(parameter.annotation):
        return "|".join(choices)
    default = parameter.default
    return parameter.name if default is Parameter.empty else f"{parameter.name}={default}"
