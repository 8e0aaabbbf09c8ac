"""The tables of ``docs/api.md``: public names, and members, and the first line about each.

``python -m tests.api_page`` writes it into the page.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


def texts_below(module: ModuleType) -> dict[str, str]:
    """Return what stands below each name that a module assigns."""
    body = ast.parse(inspect.getsource(module)).body
    found = {}
    for node, text in pairwise(body):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(text, ast.Expr):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(text.value, ast.Constant):
                found[ast.unparse(target)] = inspect.cleandoc(str(text.value.value))
    return found


def home_of(package: ModuleType, name: str) -> ModuleType:
    """Return the module that a public name is defined in."""
    tree = ast.parse(inspect.getsource(package))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    named = {node.module for node in imports if name in {alias.name for alias in node.names}}
    (module,) = named or {vars(package)["_HOME"][name]}  # mpfl never imports what stands above it
    home = importlib.import_module(str(module))
    return home_of(home, name) if hasattr(home, "__path__") and name not in own(home) else home


def own(module: ModuleType) -> set[str]:
    """Return the names that a module defines itself."""
    return set(re.findall(r"^(?:def |class )?(\w+)", inspect.getsource(module), re.MULTILINE))


def line_of(package: ModuleType, name: str) -> str:
    """Return one line about a public name; empty if there is none."""
    value: Any = getattr(package, name)
    text = texts_below(home_of(package, name)).get(name, "")
    if not text and (inspect.isclass(value) or inspect.isfunction(value)):
        text = inspect.getdoc(value) or ""
    return " ".join(text.partition("\n\n")[0].split()).replace("|", r"\|").replace("``", "`")


def table(package: str) -> Iterator[str]:
    """Yield the lines of the table of a package."""
    module = importlib.import_module(package)
    yield "| name | what it is | defined in |"
    yield "|---|---|---|"
    for name in module.__all__:
        home = home_of(module, name).__name__
        yield f"| `{name}` | {line_of(module, name)} | `{home}` |"


def members(path: str) -> Iterator[str]:
    """Yield the lines of the table of a class: what it has, inherited or not, by name."""
    package, _, name = path.partition(".")
    kind = getattr(importlib.import_module(package), name)
    yield "| member | what it is |"
    yield "|---|---|"
    for member in sorted(name for name in dir(kind) if not name.startswith("_")):
        value = inspect.getattr_static(kind, member)
        value = getattr(value, "__func__", value)
        text = inspect.getdoc(value) if callable(value) or isinstance(value, property) else None
        if text:
            called = f"({_parameters(value)})" if callable(value) else ""
            line = " ".join(text.partition("\n\n")[0].split()).replace("``", "`")
            yield f"| `{member}{called}` | {line} |"


def _parameters(function: Any) -> str:
    return ", ".join(name for name in inspect.signature(function).parameters if name != "self")


def with_tables(page: str) -> str:
    """Return the page with every table made anew between its two marks."""

    def made(found: re.Match[str]) -> str:
        lines = (members if "." in found[1] else table)(found[1])
        return f"<!-- {found[1]} -->\n" + "\n".join(lines) + "\n<!-- end -->"

    return re.sub(r"<!-- ([\w.]+) -->\n.*?<!-- end -->", made, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
