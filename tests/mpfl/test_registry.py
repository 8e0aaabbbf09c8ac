"""The registry and the name(argument, ...) notation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.errors import InputError, keyed
from mpfl.registry import Registry, parse_spec, recorded, unknown_name


def test_unknown_name_gives_the_nearest_and_all_known_ones():
    registry = Registry("fruit", {"pear": 1, "apple": 2})
    with pytest.raises(ValueError, match=r"unknown fruit 'appel'; did you mean 'apple'\?") as info:
        registry["appel"]
    assert "known: apple, pear" in str(info.value)


def test_a_far_off_name_gets_no_suggestion():
    assert "did you mean" not in str(unknown_name("fruit", "zzz", ["apple"]))


def test_a_part_of_ones_own_is_replaced_when_its_cell_runs_again():
    registry = Registry("fruit", {"pear": 1})
    registry.register("plum", 3)
    registry.register("plum", 4)
    assert registry.names() == ["pear", "plum"]
    assert registry.built_in() == ["pear"]
    assert registry["plum"] == 4


def test_a_part_that_comes_with_the_library_is_never_replaced():
    registry = Registry("fruit", {"pear": 1})
    registry.register("pear", registry["pear"])
    with pytest.raises(InputError, match="fruit 'pear' comes with the library; choose another"):
        registry.register("pear", 4)
    assert registry["pear"] == 1


@pytest.mark.parametrize("name", ["", "My-Score", "My", "a-b", "a b", "1a", "a(1)", "ä", "a\n", 3])
def test_a_name_that_no_configuration_can_spell_is_refused_at_once(name):
    with pytest.raises(InputError, match="could not be spelled in a configuration"):
        Registry("fruit", {"pear": 1}).register(name, 2)


def test_what_is_no_part_of_the_kind_is_refused_at_once():
    with pytest.raises(InputError, match="part 'mine': got 3, expected a function"):
        PARTS.register("mine", 3)  # type: ignore[arg-type]
    registry = Registry("pair", {"both": Pair(share, "a")}, 0, ("first", "second"))
    with pytest.raises(InputError, match="pair 'mine': got share, expected a Pair"):
        registry.register("mine", share)  # type: ignore[arg-type]


def test_what_is_registered_while_it_is_recorded_is_in_the_record_alone():
    registry = Registry("fruit", {"pear": 1})
    with recorded() as found:
        registry.register("plum", 3)
    assert found == [(registry, "plum", 3)]
    assert registry.names() == ["pear"]


def test_a_part_that_is_lent_goes_before_a_scripts_until_it_is_taken_back():
    registry = Registry("fruit", {"pear": 1})
    registry.register("plum", 3)
    registry.lend("plum", 4)
    assert registry["plum"] == 4
    registry.take_back("plum")
    assert registry["plum"] == 3


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


def plain(given):
    return given


def numbers(given, share: Fraction, count: int = 3, factor: float = 0.5):
    return given, share, count, factor


def texts(given, name: str, rounding: Literal["up", "down"] = "up"):
    return given, name, rounding


PARTS = Registry[Callable]("part", {"plain": plain, "numbers": numbers, "texts": texts}, given=1)


@pytest.mark.parametrize(
    ("spec", "result"),
    [
        ("plain", 7),
        (" plain ( ) ", 7),
        ("numbers(0.1)", (7, Fraction(1, 10), 3, 0.5)),
        ("numbers(1e-3, 2.0)", (7, Fraction(1, 1000), 2, 0.5)),
        ("numbers( 1 , factor = -2 )", (7, Fraction(1), 3, -2.0)),
        ("texts(fc1)", (7, "fc1", "up")),
        ("texts(rounding=down, name=2)", (7, "2", "down")),
    ],
)
def test_a_spec_is_the_part_with_its_arguments_as_the_parameters_want_them(spec, result):
    assert PARTS.bind(spec)(7) == result


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("plane", "unknown part 'plane'; did you mean 'plain'?"),
        ("plan-e", "unknown part 'plan-e'; did you mean 'plain'?"),
        ("plain(1)", "'plain' takes no argument; got 'plain(1)'"),
        ("plain(", "cannot read 'plain('"),
        (
            "numbers",
            "'numbers' takes 1 to 3 arguments, as in numbers(share, count=3, factor=0.5); got",
        ),
        ("numbers(1, 2, 3, 4)", "'numbers' takes 1 to 3 arguments"),
        ("numbers(1, share=2)", "'numbers' takes 1 to 3 arguments"),
        ("numbers(1, factor=2, factor=2)", "'numbers' takes 1 to 3 arguments"),
        ("numbers(1, size=2)", "'numbers' takes 1 to 3 arguments"),
        ("numbers(x)", "'numbers(x)': 'x' is not a finite number"),
        ("numbers(nan)", "'nan' is not a finite number"),
        ("numbers(1, -inf)", "'-inf' is not a finite number"),
        ("numbers(1,)", "'' is not a finite number"),
        ("numbers(1, 1.5)", "'1.5' is not a whole number"),
        ("texts(fc1, dawn)", "unknown argument of part 'texts' 'dawn'; did you mean 'down'?"),
    ],
)
def test_a_spec_that_does_not_fit_says_what_was_got_and_what_is_allowed(spec, said):
    with pytest.raises(InputError) as caught:
        PARTS.bind(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_number_is_asked_for_as_one():
    registry = Registry("part", {"whole": whole, "share": share}, given=0)
    with pytest.raises(InputError, match=r"'whole' takes one whole number, as in whole\(k=2\)"):
        registry.bind("whole(1, 2)")
    with pytest.raises(
        InputError, match=r"'share' takes one number, as in share\(q\); got 'share'"
    ):
        registry.bind("share")


def whole(k: int = 2):
    return k


def share(q: float):
    return q


@dataclass(frozen=True)
class Pair:
    first: Callable
    text: str
    second: Callable | None = None


def test_of_a_dataclass_every_function_gets_the_arguments():
    both, one = Pair(share, "a", lambda q: -q), Pair(share, "b")
    registry = Registry("pair", {"both": both, "one": one}, 0, ("first", "second"))
    bound = registry.bind("both(2)")
    assert (bound.first(), bound.second(), bound.text) == (2.0, -2.0, "a")
    assert registry.bind("one(3)").first() == 3.0
    assert registry.bind("one(3)").second is None
    assert registry["both"] is both


def test_parts_are_written_as_their_signatures_say():
    numbered = {"five": partial(numbers, 0, Fraction(1, 2)), "whole": whole}
    assert list(map(PARTS.usage, PARTS.names())) == [
        "plain",
        "numbers(share, count=3, factor=0.5)",
        "texts(name, up|down)",
    ]
    registry = Registry("part", numbered, given=0)
    assert list(map(registry.usage, numbered)) == ["five(count=3, factor=0.5)", "whole(k=2)"]


def test_parts_of_a_registry_that_gives_none_take_no_arguments():
    registry = Registry("fruit", {"pear": whole})
    assert registry.bind("pear") is whole
    assert registry.usage("pear") == "pear"
    with pytest.raises(InputError, match="'pear' takes no argument"):
        registry.bind("pear(1)")


def test_a_name_can_be_checked_without_taking_the_part():
    PARTS.check("plain")
    with pytest.raises(InputError, match="did you mean 'plain'"):
        PARTS.check("plin")


def test_a_key_goes_in_front_of_the_users_mistake_and_of_nothing_else():
    with pytest.raises(InputError, match=r"^prune\.vote: unknown part"), keyed("prune.vote"):
        PARTS.bind("x")
    with pytest.raises(ValueError, match=r"^ours$"), keyed("prune.vote"):
        raise ValueError("ours")


def test_an_unknown_name_is_told_every_known_one_once() -> None:
    error = unknown_name("method", "fedavgx", ["mpfl", "fedavg", "fedavg"])
    assert str(error).endswith("(known: fedavg, mpfl)")
