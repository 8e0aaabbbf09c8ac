"""What is kept, what is forgotten, and what is made again."""

from __future__ import annotations

import pytest

from mpfl.recent import Recent


def test_the_key_asked_for_longest_ago_is_forgotten() -> None:
    made: list[str] = []
    recent: Recent[str, str] = Recent(2)

    def ask(key: str) -> str:
        def make() -> str:
            made.append(key)
            return key.upper()

        return recent.get(key, make)

    assert [ask(key) for key in "abacab"] == list("ABACAB")
    assert made == ["a", "b", "c", "b"]  # c came when b was the older one


def test_sizes_count_and_what_is_too_large_is_returned_all_the_same() -> None:
    made: list[int] = []
    recent: Recent[int, bytes] = Recent(10, len)

    def ask(size: int) -> bytes:
        def make() -> bytes:
            made.append(size)
            return bytes(size)

        return recent.get(size, make)

    for size in (4, 6, 4, 6, 11, 11, 4):
        assert len(ask(size)) == size
    assert made == [4, 6, 11, 11, 4]


def test_a_failure_leaves_nothing_behind() -> None:
    recent: Recent[str, int] = Recent(2)
    with pytest.raises(ZeroDivisionError):
        recent.get("a", lambda: 1 // 0)
    assert recent.get("a", lambda: 3) == 3
