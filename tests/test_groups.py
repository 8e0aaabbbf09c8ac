"""Groups of tests that must not run beside one another: they exist, and so do their members."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GROUPS, group_of

TESTS = Path(__file__).parent


@pytest.mark.parametrize("start", [start for starts in GROUPS.values() for start in starts])
def test_a_group_has_the_tests_it_names(start: str) -> None:
    file, _, name = start.partition("::")
    assert f"\ndef {name}" in (TESTS / file).read_text()


def test_a_test_is_in_the_group_of_its_beginning_or_alone() -> None:
    killed = "tests/server/test_same_result.py::test_a_run_killed_before[1]"
    assert group_of(killed) == "kill"
    assert group_of("tests/benchmarks/figures/test_figures.py::test_a[x]") == "figures"
    assert group_of("tests/mpfl/test_mask.py::test_a") == "tests/mpfl/test_mask.py::test_a"
