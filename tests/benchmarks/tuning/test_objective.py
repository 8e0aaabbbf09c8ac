"""One number for a trial: whoever reaches the target is better than whoever does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.results.loading import load_run
from benchmarks.results.rundata import RunData
from benchmarks.running import experiment as running
from benchmarks.tuning.objective import (
    FAILED,
    MISSED,
    baseline_score,
    client_epochs,
    score,
)
from tests.federation import tiny

TARGET = 0.8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    folder = tmp_path_factory.mktemp("objective") / "run"
    running.run(tiny(method="fedavg", federation__rounds=1), folder)
    return load_run(folder)


def with_points(run: RunData, points: list[tuple[int, float]]) -> RunData:
    """Return a run with these total bytes and validation accuracies; its tests are all perfect."""
    rounds = [
        replace(
            run.rounds[0],
            round=number,
            total_bytes=total,
            test_accuracy=1.0,
            validation_accuracy=accuracy,
        )
        for number, (total, accuracy) in enumerate(points, start=1)
    ]
    return replace(run, rounds=tuple(rounds))


def test_bytes_until_the_target(run: RunData) -> None:
    reached = with_points(run, [(1000, 0.5), (10_000, 0.8), (100_000, 0.9)])
    assert score(reached, TARGET) == 4.0


def test_what_missed_goes_by_how_near_it_ends(run: RunData) -> None:
    missed = with_points(run, [(100, 0.0), (1000, 0.79), (10_000, 0.6), (100_000, 0.7)])
    assert score(missed, TARGET) == pytest.approx(MISSED + 1 - 0.7)


POINTS = st.lists(st.tuples(st.integers(1, 10**9), st.floats(0, 1)), min_size=1, max_size=5).map(
    lambda found: sorted(found, key=lambda point: point[0])
)


@given(POINTS, POINTS)
def test_the_order_of_trials(run: RunData, one: list, other: list) -> None:
    first, second = (with_points(run, points) for points in (one, other))
    reached = [next((b for b, a in points if a >= 0.8), None) for points in (one, other)]
    scores = score(first, TARGET), score(second, TARGET)
    if reached[0] is not None and reached[1] is None:
        assert scores[0] < scores[1] < FAILED
    if None not in reached:
        assert (scores[0] < scores[1]) == (reached[0] < reached[1])


def test_no_result_is_the_worst(run: RunData) -> None:
    useless = with_points(run, [(10**9, 0.0)])
    assert score(None, TARGET) == baseline_score(None) == FAILED > score(useless, TARGET)


def test_a_baseline_goes_by_the_accuracy_it_holds(run: RunData) -> None:
    found = with_points(run, [(1, 0.99), (2, 0.7), (3, 0.9), (4, 0.8)])
    assert baseline_score(found) == pytest.approx(1 - 0.8)


def test_client_epochs_are_counted_round_by_round(run: RunData) -> None:
    config = {
        "method": "mpfl",
        "train": {"epochs": 3},
        "prune": {"epochs": 2, "schedule": "geometric", "density": 0.1, "rounds": 4},
    }
    phases = [("mask", 4), ("score", 4), ("train", 5), ("train", 1)]
    rounds = [replace(run.rounds[0], phase=p, clients_sampled=n) for p, n in phases]
    unread = {"prune.epochs": "it does not read it"}
    for method, ignored, of_masks in (
        *(("mpfl", {}, 2), ("prunefl", {}, 4 * 2)),
        *(("fedpm", unread, 3), ("klms(8)", unread, 3)),
    ):
        summary = replace(run.summary, health=replace(run.summary.health, ignored=ignored))
        found = replace(
            run, rounds=tuple(rounds), config={**config, "method": method}, summary=summary
        )
        assert client_epochs(found) == 4 * of_masks + 5 * 3 + 3
