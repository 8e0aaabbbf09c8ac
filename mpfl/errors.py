"""Whose fault an error is."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """The user's mistake, in one line: which key or file, what was got, what is allowed.

    The command line turns it into exit status 2. What a peer sends is refused with
    `mpfl.wire.WireError`; whatever else is raised is a fault of the program and keeps its
    traceback.
    """


class RunError(RuntimeError):
    """A run that came to no result, in one line: what went wrong first.

    Clients that fail, a phase in which no round counted. What was recorded stays, and once the
    cause is mended the run can be resumed. The command line turns it into exit status 1.
    """


class NotFiniteError(RunError, ValueError):
    """Numbers that are to be sent and are not finite: training diverged."""


@contextmanager
def keyed(key: str) -> Iterator[None]:
    """Put the key of the configuration in front of an InputError that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def install_text(extra: str) -> str:
    """Return how an extra of the package is installed, in a checkout and without one.

    Examples
    --------
    >>> print(install_text("ray"))
    install the extra "ray": make setup EXTRAS=dev,ray, or pip install 'mpfl[ray]'
    """
    ways = f"make setup EXTRAS=dev,{extra}, or pip install 'mpfl[{extra}]'"
    return f'install the extra "{extra}": {ways}'


def shown(value: object, most: int = 120) -> str:
    """Return a value as a message shows it: on one line, without control characters, not long.

    Examples
    --------
    >>> shown("x" * 20, most=9)
    "'xx...xx'"
    """
    try:
        text = ascii(value) if isinstance(value, bytes) else repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of tables in tables
        return f"a {type(value).__name__} too large to show"
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def describe(error: BaseException) -> str:
    """Return an error in one line and, unless it says all that is to be known, its traceback."""
    if isinstance(error, InputError | RunError):
        return f"{type(error).__name__}: {error}"
    first, *_ = "".join(traceback.format_exception_only(error)).splitlines()
    return first + "\n" + "".join(traceback.format_exception(error))
