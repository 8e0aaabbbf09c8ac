"""``docs/api.md`` names every public name, in the words of the code."""

from __future__ import annotations

import importlib

import pytest

from tests.api_page import PAGE, line_of, with_tables

PACKAGES = ("benchmarks", "mpfl", "clients", "server")
PUBLIC = [(package, name) for package in PACKAGES
          for name in importlib.import_module(package).__all__]  # fmt: skip


@pytest.mark.parametrize(("package", "name"), PUBLIC)
def test_every_public_name_says_what_it_is(package: str, name: str) -> None:
    assert line_of(importlib.import_module(package), name)


def test_the_tables_of_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")
    assert with_tables(page) == page, "python -m tests.api_page writes them anew"
    assert all(f"<!-- {package} -->" in page for package in PACKAGES)
