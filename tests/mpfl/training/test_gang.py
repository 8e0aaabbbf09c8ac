"""Jobs that meet: strictly one at a time, served together, errors where they belong."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

from mpfl.seeding import global_picture, lent
from mpfl.training.gang import GangEnded, in_gang, meet, run_together


def doubled(requests):
    return [2 * request for request in requests]


def test_requests_of_all_jobs_are_served_in_one_call() -> None:
    calls = []

    def serve(requests):
        calls.append(list(requests))
        return doubled(requests)

    def job(number):
        first = meet(serve, number)
        return first, meet(serve, first + 1)

    results = run_together([partial(job, n) for n in range(5)])
    assert results == [(2 * n, 4 * n + 2) for n in range(5)]
    assert calls == [[0, 1, 2, 3, 4], [1, 3, 5, 7, 9]]


def test_one_job_runs_at_a_time_and_keeps_control_between_meetings() -> None:
    scratch: list[object] = [None]
    inside: list[int] = []

    def job(number):
        for turn in range(3):
            inside.append(number)
            scratch[0] = (number, turn)
            assert inside == [number]
            assert scratch[0] == (number, turn)
            inside.remove(number)
            meet(doubled, 0)
        return number

    assert run_together([partial(job, n) for n in range(8)]) == list(range(8))


def test_a_meeting_does_not_mix_what_jobs_draw_from_global_generators() -> None:
    def job(number: int) -> list[float]:
        with lent(0, "job", number):
            before = float(torch.rand(()))
            meet(doubled, number)
            return [before, float(torch.rand(()))]

    before = global_picture()
    together = run_together([partial(job, number) for number in range(3)])
    assert global_picture() == before
    alone = []
    for number in range(3):
        with lent(0, "job", number):
            alone.append(torch.rand(2).tolist())
    assert together == [pytest.approx(pair) for pair in alone]


def test_jobs_may_meet_a_different_number_of_times() -> None:
    sizes = []

    def serve(requests):
        sizes.append(len(requests))
        return requests

    def job(number):
        for _ in range(number):
            meet(serve, number)
        return number

    assert run_together([partial(job, n) for n in (0, 3, 1, 2)]) == [0, 3, 1, 2]
    assert sizes == [3, 2, 1]


def test_those_who_wait_for_something_else_are_served_apart() -> None:
    def negated(requests):
        return [-request for request in requests]

    jobs = [lambda n=n: meet(negated if n % 2 else doubled, n) for n in range(4)]
    assert run_together(jobs) == [0, -1, 4, -3]


def test_an_exception_among_the_answers_is_raised_in_its_job_alone() -> None:
    def serve(requests):
        return [ValueError(f"no {r}") if r == 2 else r for r in requests]

    def job(number):
        try:
            return meet(serve, number)
        except ValueError as error:
            return str(error)

    assert run_together([partial(job, n) for n in range(4)]) == [0, 1, "no 2", 3]


def test_a_failure_of_the_service_reaches_every_job_that_asked() -> None:
    def serve(requests):
        raise RuntimeError("out of order")

    def job(number):
        if number == 1:
            return "did not ask"
        with pytest.raises(RuntimeError, match="out of order"):
            meet(serve, number)
        return "told"

    results = run_together([partial(job, n) for n in range(3)])
    assert results == ["told", "did not ask", "told"]


def test_what_a_job_raises_comes_out_after_the_others_have_ended() -> None:
    ended = []

    def job(number):
        meet(doubled, number)
        if number == 1:
            raise KeyError("mine")
        ended.append(number)

    with pytest.raises(KeyError, match="mine"):
        run_together([partial(job, n) for n in range(3)])
    assert ended == [0, 2]


def test_an_interrupt_while_serving_ends_every_job() -> None:
    told = []

    def serve(requests):
        raise KeyboardInterrupt

    def job(number):
        try:
            meet(serve, number)
        except GangEnded:
            told.append(number)
            with pytest.raises(GangEnded):
                meet(doubled, number)  # waiting once more must not block
            raise

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_together([partial(job, n) for n in range(3)])
    assert sorted(told) == [0, 1, 2]
    assert threading.active_count() == before


def test_a_single_job_needs_no_thread_and_no_job_nothing() -> None:
    assert run_together([threading.current_thread]) == [threading.main_thread()]
    assert run_together([]) == []
    assert run_together([in_gang, in_gang]) == [True, True]
    assert not in_gang()
    with pytest.raises(RuntimeError, match="gang"):
        meet(doubled, 1)
