"""The command line ``mpfl``."""

from __future__ import annotations

import os
import sys
import traceback
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
from mpfl.errors import InputError, RunError

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
    """Run the command line and exit: 0 done, 2 bad input, 130 interrupted, 1 anything else."""
    sys.exit(invoke(arguments))


def invoke(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    try:
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
    except InputError as error:
        if os.environ.get("MPFL_TRACEBACK"):
            traceback.print_exc()
        _complain(str(error))
        return BAD_INPUT
    except RunError as error:
        _complain(str(error))
        return FAILED
    except Exception:  # noqa: BLE001 - the last resort of a command line
        traceback.print_exc()
        return FAILED


def _complain(text: str) -> None:
    print("mpfl: " + " ".join(text.split()), file=sys.stderr)


def _interrupted() -> int:
    print("mpfl: interrupted; continue with mpfl resume", file=sys.stderr)
    return INTERRUPTED


if __name__ == "__main__":
    main()
