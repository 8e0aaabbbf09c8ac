"""The command line ``mpfl``: its sub-commands, imported when they are called, and exit statuses."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, get_type_hints

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # theirs, on import; PYTHONWARNINGS=error is about our own
    import click
    import typer
    from typer.core import TyperCommand, TyperGroup
    from typer.models import ArgumentInfo

from benchmarks.running.interruption import Interrupted, ignore_signals, interruptible
from benchmarks.units import printable
from mpfl import __version__
from mpfl.errors import InputError, RunError

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
_LONGEST_LINE = 2000
_OUTPUT_LOST = (errno.ENOSPC, errno.EIO, errno.EBADF)
"""Why standard output fails; all other files are written where an InputError names them."""

COMMANDS = {
    "run": "Run one experiment into a run folder.",
    "resume": "Continue a killed run, comparison or tuning, to the result it would have had.",
    "compare": "Run many methods and seeds on the same work; finished cells are not run again.",
    "tune": "Give every method the same number of trials, on data held out for that.",
    "report": "(Re)build report.html and the figures from what the folders hold.",
    "pivot": "Show a number of a comparison's finished runs by any keys: mean ± 95 % interval.",
    "votes": "Apply every vote rule to a round's recorded ballots: table, CSV and figure.",
    "retrain": "Evaluate a run's mask otherwise: central_retrain, "
    "w0 trained under it on pooled data.",
    "list": "List what a configuration can name, from methods and models to attacks and presets.",
    "mask": "Show, compare and export mask files.",
    "bench": "Measure speed on this machine.",
}
"""Sub-command -> the line that ``mpfl --help`` shows: that much is said without importing torch."""

_HOMES = {
    "resume": ("run", "resume"),
    "list": ("listing", "list_"),
    "mask": ("masks", "app"),
    "bench": ("bench", "app"),
}
"""Module and name of the sub-commands that are not the function of their own name and module."""


class _Later(TyperCommand):
    """Stands for a sub-command until that is called, or asked for its own help."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> click.Context:
        return command(str(self.name)).make_context(info_name, args, parent=parent, **extra)


class _Commands(TyperGroup):
    """All sub-commands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, text in COMMANDS.items():
            self.add_command(_Later(name=name, help=text))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:  # click takes it for Ctrl-C
            raise RuntimeError("a file or a process ended early") from error


def command(name: str) -> click.Command:
    """Return the real sub-command; this imports what it needs."""
    module, attribute = _HOMES.get(name, (name, name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part: Any = getattr(import_module(f"benchmarks.cli.{module}"), attribute)
        if isinstance(part, typer.Typer):
            return _explained(typer.main.get_command(part), {})
        alone = typer.Typer(add_completion=False)
        alone.command(name)(part)
        return _explained(typer.main.get_command(alone), _helps(part))


def _helps(function: Callable[..., Any]) -> dict[str, str | None]:
    """Return what the function says about its arguments."""
    hints = get_type_hints(function, include_extras=True)
    return {
        name: info.help
        for name, hint in hints.items()
        for info in getattr(hint, "__metadata__", ())
        if isinstance(info, ArgumentInfo)
    }


def _explained(found: click.Command, helps: dict[str, str | None]) -> click.Command:
    """Give arguments their help back, which typer loses to click 8.5 and later."""
    for parameter in found.params:
        if isinstance(parameter, click.Argument) and not getattr(parameter, "help", None):
            parameter.help = helps.get(str(parameter.name))
    for inner in getattr(found, "commands", {}).values():
        _explained(inner, _helps(inner.callback.__wrapped__))
    return found


app = typer.Typer(
    help="Federated pruning, with the bytes really transmitted.",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"mpfl {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Status 0: done, 2: bad input, 128 + a signal: interrupted, 1: anything else.
    """
    _open_streams()
    status = invoke(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _hush()
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
        return result if isinstance(result, int) else DONE
    except click.ClickException as error:
        if message := error.format_message():  # none where the help was shown
            _complain(message)
        return BAD_INPUT
    except click.Abort:
        return _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except Interrupted as interrupted:
        ignore_signals()
        _complain(str(interrupted))
        return interrupted.status
    except BrokenPipeError:
        return _hush()  # whoever read our output has seen enough
    except (InputError, RunError) as error:
        if os.environ.get("MPFL_TRACEBACK"):
            traceback.print_exc()
        _complain(str(error))
        return BAD_INPUT if isinstance(error, InputError) else FAILED
    except OSError as error:
        return _lost_output(error) if error.errno in _OUTPUT_LOST else _failed(error)
    except Exception as error:  # noqa: BLE001 - the last resort of a command line
        return _failed(error)


def _failed(error: Exception) -> int:
    """Say in one line what a plugin did; whatever else is raised keeps its traceback."""
    from mpfl.plugins import blamed

    why = blamed(error)
    if not why or os.environ.get("MPFL_TRACEBACK"):
        traceback.print_exception(error)
    if why:
        _complain(f"plugins: {why}")
    return BAD_INPUT if why else FAILED


def _open_streams() -> None:
    """Let what is printed never fail: for letters the terminal lacks, or a stream that is closed.

    A closed standard stream would moreover be the number that the next opened file gets.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _hush() -> int:
    """Send what is still to be printed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED


def _complain(text: str) -> None:
    line = " ".join(printable(text).split())
    shown = line if len(line) <= _LONGEST_LINE else line[:_LONGEST_LINE] + " ..."
    with suppress(OSError):  # whoever closed standard error does not want to know
        print("mpfl: " + shown, file=sys.stderr)


def _interrupted() -> int:
    _complain("interrupted")
    return INTERRUPTED


def _lost_output(error: OSError) -> int:
    """Say why standard output is lost; what is still buffered for it goes nowhere."""
    _hush()
    _complain(f"standard output: {error.strerror}")
    return FAILED


if __name__ == "__main__":
    main()
