"""Nothing changes a recorded run but a reason: mask, model and payloads of every method."""

from __future__ import annotations

import json

import pytest

from tests.recorded_runs import CASES, RECORD, digests, machine

_RECORD = json.loads(RECORD.read_text())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        machine() != _RECORD["machine"],
        reason=f"recorded on {_RECORD['machine']}; digests are those of one machine",
    ),
]


def test_every_case_is_recorded() -> None:
    assert list(_RECORD["runs"]) == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_run_is_the_recorded_one(name: str) -> None:
    assert digests(CASES[name]) == _RECORD["runs"][name]
