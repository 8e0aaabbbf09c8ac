"""The registry and the name(argument, ...) notation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.registry import Registry, number_argument, parse_spec, unknown_name


def test_unknown_name_gives_the_nearest_and_all_known_ones():
    registry = Registry("fruit", {"pear": 1, "apple": 2})
    with pytest.raises(ValueError, match=r"unknown fruit 'appel'; did you mean 'apple'\?") as info:
        registry["appel"]
    assert "known: apple, pear" in str(info.value)


def test_a_far_off_name_gets_no_suggestion():
    assert "did you mean" not in str(unknown_name("fruit", "zzz", ["apple"]))


def test_registering_adds_but_never_replaces():
    registry = Registry("fruit", {"pear": 1})
    registry.register("plum", 3)
    registry.register("plum", 3)
    assert registry.names() == ["pear", "plum"]
    assert "plum" in registry
    with pytest.raises(ValueError, match="fruit 'pear' is already registered"):
        registry.register("pear", 4)
    assert registry["pear"] == 1


def test_a_registry_does_not_share_the_mapping_it_was_made_from():
    parts = {"pear": 1}
    registry = Registry("fruit", parts)
    parts["plum"] = 2
    assert registry.names() == ["pear"]


@given(
    st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True),
    st.lists(st.from_regex(r"[A-Za-z0-9.+-]{1,6}", fullmatch=True), max_size=3),
    st.text(alphabet=" ", max_size=2),
)
def test_parse_spec_reads_what_was_written(name, arguments, space):
    inner = (space + "," + space).join(arguments)
    spec = f"{space}{name}{space}({inner}){space}" if arguments else f"{space}{name}{space}"
    assert parse_spec(spec) == (name, tuple(arguments))


def test_empty_parentheses_are_no_argument():
    assert parse_spec("iid()") == ("iid", ())


@pytest.mark.parametrize("spec", ["", "Name", "a b", "a(1", "a)1(", "a(1)(2)", "a((1))", "1a"])
def test_malformed_specs_are_refused(spec):
    with pytest.raises(ValueError, match="cannot read"):
        parse_spec(spec)


def test_number_argument_reads_the_one_number_or_the_default():
    assert number_argument("f(0.5)", ("0.5",)) == 0.5
    assert number_argument("f", (), default=3.0) == 3.0
    assert number_argument("f(2)", ("2",), default=3.0) == 2.0


@pytest.mark.parametrize("arguments", [(), ("1", "2"), ("x",), ("nan",), ("inf",), ("-inf",)])
def test_number_argument_refuses_anything_else(arguments):
    with pytest.raises(ValueError, match=r"f\("):
        number_argument(f"f({','.join(arguments)})", arguments)
