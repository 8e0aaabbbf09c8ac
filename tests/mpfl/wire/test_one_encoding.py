"""One value has one encoding: whatever else is changed in a message, it is refused."""

import os

from tests.mpfl.wire.fuzzer import fuzz

COUNT = int(os.environ.get("MPFL_FUZZ", "2500"))
"""Inputs; 100,000 take some minutes."""


def test_a_changed_message_is_refused_or_says_something_else_in_its_only_form():
    results = fuzz(COUNT)
    assert sum(tally.total() for tally in results.values()) > COUNT
    for codec, tally in results.items():
        assert tally["refused"], codec
        assert not tally["MEMORY"], codec
        assert not tally["SECOND FORM"], codec
