"""Every key of a configuration: its type, default, what it takes and what it means.

``python -m benchmarks.keys`` writes them into docs/configuration.md.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.running.compare_config import CompareConfig
from benchmarks.running.tune_config import TuneConfig
from mpfl.config import RULES, Experiment

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
_KINDS = {
    "int": "whole number",
    "float": "number",
    "str": "text",
    "bool": "true or false",
    "list[str]": "list of texts",
    "tuple[Plugin, ...]": "list of texts",
    "list[int]": "list of whole numbers",
    "dict[str, list[Any]]": "table of lists",
    "dict[str, dict[str, Any]]": "table of tables",
    "list[dict[str, dict[str, Any]]]": "list of tables",
    "list[Published]": "list of tables",
}


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes
    ----------
    name
        Dotted, as after ``--set``.
    kind
        Its type in words.
    default
        As it is written in TOML.
    allowed
        What it takes besides its type; empty where that is all.
    meaning
        What it does.
    """

    name: str
    kind: str
    default: str
    allowed: str
    meaning: str

    @property
    def line(self) -> str:
        """Everything but the name, in a line."""
        allowed = f", {self.allowed}" if self.allowed else ""
        return f"{self.meaning} ({self.kind}{allowed}; default {self.default})".replace("`", "")


def all_keys() -> tuple[Key, ...]:
    """Return every key, table by table, those of ``[compare]`` and ``[tune]`` last."""
    return (
        *_keys(Experiment, ""),
        *_keys(CompareConfig, "compare."),
        *_keys(TuneConfig, "tune."),
    )


def field_texts(cls: type[Any]) -> dict[str, str]:
    """Return what stands below each field of a dataclass in its source, on one line."""
    (found,) = ast.parse(inspect.getsource(cls)).body
    body = found.body if isinstance(found, ast.ClassDef) else []
    return {
        ast.unparse(field.target): " ".join(ast.literal_eval(text.value).split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def _keys(cls: type[Any], table: str) -> Iterator[Key]:
    texts, whole = field_texts(cls), cls()
    for item in dataclasses.fields(cls):
        name, value = table + item.name, getattr(whole, item.name)
        if dataclasses.is_dataclass(value):
            yield from _keys(type(value), f"{name}.")
            continue
        rule = RULES.get(name)
        kind = _KINDS.get(str(item.type), str(item.type))
        meaning = texts[item.name].replace("``", "`")
        yield Key(name, kind, _toml(value), rule.text if rule else "", meaning)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"x": value}).partition("=")[2].strip() if value != {} else "{}"


def with_tables(page: str) -> str:
    """Return the page with the tables of all keys made anew between their marks."""
    lines = "\n".join(_tables())
    made = f"<!-- keys -->\n{lines}\n<!-- end -->"
    return re.sub(r"<!-- keys -->\n.*?<!-- end -->", lambda _: made, page, flags=re.DOTALL)


def _tables() -> Iterator[str]:
    for table, found in groupby(all_keys(), lambda key: key.name.rpartition(".")[0]):
        yield f"\n### `[{table}]`\n" if table else "\n### At the top\n"
        yield "| key | type | default | takes | meaning |"
        yield "|---|---|---|---|---|"
        for key in found:
            name = key.name.rpartition(".")[2]
            cells = (f"`{name}`", key.kind, f"`{key.default}`", key.allowed, key.meaning)
            yield "| " + " | ".join(" ".join(c.replace("|", r"\|").split()) for c in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
