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


@contextmanager
def keyed(key: str) -> Iterator[None]:
    """Put the key of the configuration in front of an InputError that is raised inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from None


def describe(error: BaseException) -> str:
    """Return an error in one line, and after that its traceback."""
    first, *_ = "".join(traceback.format_exception_only(error)).splitlines()
    return first + "\n" + "".join(traceback.format_exception(error))
