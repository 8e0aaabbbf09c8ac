"""The command line ``mpfl``."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from typing import Any

import click
import typer

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from benchmarks.cli import bench, masks
from benchmarks.cli.compare import compare
from benchmarks.cli.console import BAD_INPUT, FAILED, INTERRUPTED
from benchmarks.cli.listing import list_
from benchmarks.cli.pivot import pivot
from benchmarks.cli.report import report
from benchmarks.cli.retrain import retrain
from benchmarks.cli.run import resume, run
from benchmarks.cli.votes import votes
from benchmarks.running.interruption import Interrupted, ignore_signals, interruptible
from benchmarks.units import printable
from mpfl.errors import InputError, RunError

_OUTPUT_LOST = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
"""Why standard output fails; all other files are written where an InputError names them."""

app = typer.Typer(
    help="Federated pruning, with the bytes really transmitted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (run, resume, compare, report, pivot, votes, retrain):
    app.command()(command)
app.command("list")(list_)
app.add_typer(masks.app, name="mask")
app.add_typer(bench.app, name="bench")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Status 0: done, 2: bad input, 128 + a signal: interrupted, 1: anything else.
    """
    _open_standard_files()
    status = invoke(arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        status = _lost_output(error)
    sys.exit(status)


def invoke(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
        with interruptible():
            result: Any = app(args=arguments, standalone_mode=False)
        if result == INTERRUPTED:  # click has caught the interrupt itself
            return _interrupted()
        return result if isinstance(result, int) else 0
    except click.ClickException as error:
        _complain(error.format_message())
        return BAD_INPUT
    except click.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except Interrupted as interrupted:
        ignore_signals()
        _complain(str(interrupted))
        return interrupted.status
    except InputError as error:
        if os.environ.get("MPFL_TRACEBACK"):
            traceback.print_exc()
        _complain(str(error))
        return BAD_INPUT
    except RunError as error:
        _complain(str(error))
        return FAILED
    except OSError as error:
        if error.errno not in _OUTPUT_LOST:
            traceback.print_exc()
            return FAILED
        return _lost_output(error)
    except Exception:  # noqa: BLE001 - the last resort of a command line
        traceback.print_exc()
        return FAILED


def _complain(text: str) -> None:
    with suppress(OSError):  # whoever closed standard error does not want to know
        print("mpfl: " + printable(" ".join(text.split())), file=sys.stderr)


def _interrupted() -> int:
    _complain("interrupted")
    return INTERRUPTED


def _lost_output(error: OSError) -> int:
    """Say why standard output is lost; what is still buffered for it goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _complain(f"standard output: {error.strerror}")
    return FAILED


def _open_standard_files() -> None:
    """Have closed standard files lead nowhere: the next file opened would take their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


if __name__ == "__main__":
    main()
