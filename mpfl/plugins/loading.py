"""Plugins at work: run once for each content, their parts there while an experiment needs them."""

from __future__ import annotations

import hashlib
import importlib
import linecache
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from mpfl.errors import InputError
from mpfl.plugins.source import Plugin, module_sha256
from mpfl.registry import Registration, recorded

if TYPE_CHECKING:
    from mpfl.config import Experiment


def digest(experiment: Experiment) -> str:
    """Return the SHA-256 of names and contents of an experiment's plugins; empty without any.

    Two parties with the same digest run the same code of their own.
    """
    if not experiment.plugins:
        return ""
    lines = [f"{plugin.name} {plugin.sha256}\n" for plugin in experiment.plugins]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load(experiment: Experiment) -> None:
    """Have the parts of an experiment's plugins in the registries, and those of no others.

    Raises
    ------
    InputError
        In one line: the plugin, where possible its line, and the cause.
    """
    _SHELF.show(experiment.plugins)


def blamed(error: BaseException) -> str:
    """Return which plugin's line led to an error, and the error, in one line; empty for none's."""
    files = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    for plugin in _SHELF.shown:
        module = None if plugin.source else sys.modules.get(plugin.name)
        file = plugin.name if module is None else module.__file__
        if file in files:
            return f"{_place(file, error, plugin.name)}: {_cause(error)}"
    return ""


class _Shelf:
    """Which plugins' parts are in the registries."""

    def __init__(self) -> None:
        self._shown: tuple[Plugin, ...] = ()
        self._lent: dict[tuple[int, str], tuple[Registration, str]] = {}

    @property
    def shown(self) -> tuple[Plugin, ...]:
        """The plugins whose parts are there."""
        return self._shown

    def show(self, plugins: tuple[Plugin, ...]) -> None:
        if plugins == self._shown:
            return
        for (registry, name, _), _ in self._lent.values():
            registry.take_back(name)
        self._shown, self._lent = (), {}
        for plugin in plugins:
            for registration in _registrations(plugin):
                self._lend(plugin.name, registration)
        self._shown = plugins

    def _lend(self, plugin: str, registration: Registration) -> None:
        registry, name, part = registration
        _, other = self._lent.get((id(registry), name), (None, plugin))
        if other != plugin:
            raise InputError(
                f"plugins: {other!r} and {plugin!r} both register the {registry.what} {name!r}"
            )
        self._lent[id(registry), name] = registration, plugin
        registry.lend(name, part)


_SHELF = _Shelf()


@cache
def _registrations(plugin: Plugin) -> tuple[Registration, ...]:
    """Run a plugin, the first time, and return what it registers."""
    with recorded() as found, _named(plugin.name):
        if plugin.source:
            _run(plugin)
        else:
            _import(plugin)
    return tuple(found)


def _run(plugin: Plugin) -> None:
    """Execute the text of a file as a module of its own."""
    lines = plugin.source.splitlines(keepends=True)
    linecache.cache[plugin.name] = len(plugin.source), None, lines, plugin.name
    code = compile(plugin.source, plugin.name, "exec", dont_inherit=True)
    module = ModuleType(f"mpfl_plugin_{plugin.name.removesuffix('.py')}")
    module.__file__ = plugin.name
    sys.modules[module.__name__] = module  # where dataclasses and annotations look things up
    exec(code, module.__dict__)


def _import(plugin: Plugin) -> None:
    """Import a module, again if it is there already: what it registers must be seen."""
    if module_sha256(plugin.name) != plugin.sha256:
        raise InputError("this module holds other files than where the run was configured")
    there = sys.modules.get(plugin.name)
    if there is None:
        importlib.import_module(plugin.name)
    else:
        importlib.reload(there)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn what a plugin raises while it is loaded into one line that says where and why.

    MPFL_TRACEBACK=1 shows the whole traceback on the command line.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        raise InputError(f"plugins: {_place(name, error, name)}: {_cause(error)}") from error


def _place(file: str, error: BaseException, name: str) -> str:
    """Return the plugin, and the last of the lines in its file that led to the error."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    if isinstance(error, SyntaxError):
        lines = [error.lineno]
    return f"{name}, line {lines[-1]}" if lines and lines[-1] else name


def _cause(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first, *_ = text.splitlines() or [""]
    return first if isinstance(error, InputError) else f"{type(error).__name__}: {first}"
