"""The examples in the pages of docs give what the pages say."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from mpfl.recipes import recipes

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(page for page in (ROOT / "docs").glob("*.md") if ">>>" in page.read_text("utf-8"))


def test_the_wire_format_has_examples() -> None:
    assert ROOT / "docs" / "wire-format.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_example_on_a_page_gives_what_stands_below_it(page: Path) -> None:
    text = re.sub(r"^```.*$", "", page.read_text("utf-8"), flags=re.MULTILINE)
    example = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    shown: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=shown.append)
    assert not shown, "".join(shown)


@pytest.mark.parametrize("name", recipes())
def test_the_page_of_methods_says_what_a_recipe_is(name: str) -> None:
    recipe = recipes()[name]
    sets = [f"{key}={str(value).lower() if value is False or value is True else value}"
            for key, value in recipe.set.items()]  # fmt: skip
    cells = [f"`{name}`", recipe.text, ", ".join(map("`{}`".format, sets)), recipe.source]
    row = f"| {' | '.join([*cells, recipe.differs])} |"
    assert row in (ROOT / "docs" / "methods.md").read_text("utf-8").splitlines()
