"""Whose fault an error is."""

from __future__ import annotations

import traceback


class InputError(ValueError):
    """The user's mistake, in one line: which key or file, what was got, what is allowed.

    The command line turns it into exit status 2. What a peer sends is refused with
    `mpfl.wire.WireError`; whatever else is raised is a fault of the program and keeps its
    traceback.
    """


def describe(error: Exception) -> str:
    """Return an error in one line, and after that its traceback."""
    first, *_ = "".join(traceback.format_exception_only(error)).splitlines()
    return first + "\n" + "".join(traceback.format_exception(error))
