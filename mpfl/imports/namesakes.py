"""Our packages beside files of the user's that have the same names, such as a ``server.py``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = ("clients", "server", "benchmarks")


def share_names() -> None:
    """Have the modules of our packages found, whatever lies beside the user's script.

    A file ``server.py`` (or a package ``server``) of the user's comes first on the path, and hides
    all modules below our ``server``. Where there is one, the name becomes a module that finds
    both: our modules below it, and what the user's file defines as its attributes. The file is
    executed when the first of them is asked for, unless it was imported before.

    Raises
    ------
    ImportError
        Naming both, where the user's package has a module of the same name as one of ours.
    """
    for name in PACKAGES:
        ours = Path(__file__).parents[2] / name
        held = sys.modules.get(name)
        if held is None:
            theirs = find_spec(name)
            if theirs is not None and not _is_ours(_folders(theirs), ours):
                sys.modules[name] = _Namesake(name, ours, theirs)
        elif not _is_ours(getattr(held, "__path__", ()), ours):
            held.__path__ = _both(ours, getattr(held, "__path__", ()))


class _Namesake(ModuleType):
    """Our modules of one name, and the user's own module as soon as it is asked for."""

    def __init__(self, name: str, ours: Path, theirs: ModuleSpec) -> None:
        super().__init__(name)
        self.__path__ = _both(ours, _folders(theirs))
        self.__spec__ = spec_from_file_location(
            name, ours / "__init__.py", submodule_search_locations=self.__path__
        )
        self.__file__ = theirs.origin
        self.__dict__["_pending"] = theirs

    def __getattr__(self, name: str) -> Any:
        theirs = None if name.startswith("__") else self.__dict__.pop("_pending", None)
        if theirs is None or theirs.loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        theirs.loader.exec_module(self)
        return getattr(self, name)


def _folders(spec: ModuleSpec) -> list[str]:
    return list(spec.submodule_search_locations or ())


def _is_ours(folders: Iterable[str], ours: Path) -> bool:
    return any(Path(folder).resolve() == ours.resolve() for folder in folders)


def _both(ours: Path, theirs: Iterable[str]) -> list[str]:
    """Return where the modules of either are; ImportError where two have the same name."""
    for folder in map(Path, theirs):
        same = sorted(_modules(folder) & _modules(ours))
        if same:
            raise ImportError(
                f"{folder} hides mpfl's own package {ours.name!r}, and both have a module "
                f"{same[0]!r}: rename yours"
            )
    return [str(ours), *theirs]


def _modules(folder: Path) -> set[str]:
    names = {path.stem for path in folder.glob("*.py")}
    return (names | {path.parent.name for path in folder.glob("*/__init__.py")}) - {"__init__"}
