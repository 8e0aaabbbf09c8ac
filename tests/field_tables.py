"""The tables of ``docs/run-folder.md``, made of the dataclasses and the text below each field.

``python -m tests.field_tables`` writes them into the page.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.keys import field_texts

PAGE = Path(__file__).parents[1] / "docs" / "run-folder.md"


def _default(item: dataclasses.Field[Any]) -> Any:
    """Return a field's default; MISSING where it has none, and for None: that is absence."""
    made = item.default_factory
    default = item.default if made is dataclasses.MISSING else made()
    return dataclasses.MISSING if default is None else default


def table(cls: type[Any]) -> Iterator[str]:
    """Yield the lines of the table of a dataclass, and of the tables in it."""
    texts = field_texts(cls)
    defaults = {item.name: _default(item) for item in dataclasses.fields(cls)}
    inner = {name: value for name, value in defaults.items() if dataclasses.is_dataclass(value)}
    shown = any(value is not dataclasses.MISSING for value in defaults.values())
    yield "| key | type | default | meaning |" if shown else "| key | type | meaning |"
    yield "|---" * (3 + shown) + "|"
    for item in dataclasses.fields(cls):
        if item.name not in inner:
            default = [f"`{defaults[item.name]!r}`"] if shown else []
            text = texts[item.name].replace("``", "`")
            cells = [f"`{item.name}`", f"`{item.type}`", *default, text]
            yield "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
    for name, value in inner.items():
        yield from ("", f"`[{name}]`", "", *table(type(value)))


def with_tables(page: str) -> str:
    """Return the page with every table made anew between its two marks."""

    def made(found: re.Match[str]) -> str:
        module, _, name = found[1].rpartition(".")
        lines = table(getattr(importlib.import_module(module), name))
        return f"<!-- {found[1]} -->\n" + "\n".join(lines) + "\n<!-- end -->"

    return re.sub(r"<!-- (\w\S+\.\w+) -->\n.*?<!-- end -->", made, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
