"""Nested tables: read, overridden and looked up by dotted keys."""

from __future__ import annotations

import pytest

from mpfl.nested import read_toml, value_at, with_override


def test_malformed_toml_gives_the_place():
    with pytest.raises(ValueError, match=r"not valid TOML: .*line 2"):
        read_toml("seed = 1\nprune = ?\n")


def test_an_override_copies_and_reaches_any_depth():
    table = {"prune": {"density": 0.5, "tie": "keep"}}
    changed = with_override(table, "prune.density", 0.1)
    assert changed == {"prune": {"density": 0.1, "tie": "keep"}}
    assert table == {"prune": {"density": 0.5, "tie": "keep"}}
    assert with_override({}, "a.b.c", 1) == {"a": {"b": {"c": 1}}}
    with pytest.raises(ValueError, match="'seed' is not a table"):
        with_override({"seed": 1}, "seed.x", 2)


@pytest.mark.parametrize(("key", "value"), [("a", {"b": 1}), ("a.b", 1)])
def test_values_are_found_by_dotted_keys(key, value):
    assert value_at({"a": {"b": 1}}, key) == value


@pytest.mark.parametrize("key", ["a.c", "a.b.c", "x.y", ""])
def test_a_key_that_leads_nowhere_is_named(key):
    with pytest.raises(ValueError, match=f"unknown key '{key}'"):
        value_at({"a": {"b": 1}}, key)
