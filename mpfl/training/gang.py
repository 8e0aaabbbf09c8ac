"""Jobs that meet: each runs as if alone, and where they ask for the same, they are served together.

A gang's jobs run in threads, but strictly one at a time: a job keeps control until it calls `meet`
or ends. What jobs share as scratch is therefore never used by two at once; between a call of `meet`
and its return, though, others have used it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from mpfl.seeding import kept

Answer = TypeVar("Answer")
Result = TypeVar("Result")
Serve = Callable[[Sequence[Any]], Sequence[Any]]

_here: ContextVar[_Member[Any] | None] = ContextVar("gang member", default=None)


class GangEnded(RuntimeError):  # noqa: N818  (reads as what it says)
    """The gang was given up while this job waited, or before it could."""


class _Member(threading.Thread, Generic[Result]):
    """One job's thread; `advance` belongs to the coordinator, `meet` and `run` to the thread.

    Attributes
    ----------
    wish
        What the job waits for: who serves it, and its request. None once it has ended.
    """

    def __init__(self, job: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self.wish: tuple[Serve, Any] | None = None
        self.answer: Any = None
        self.results: list[Result] = []
        self.error: BaseException | None = None
        self._job, self._abandoned = job, False
        self._turn, self._paused = threading.Semaphore(0), threading.Semaphore(0)

    def run(self) -> None:
        _here.set(self)
        self._turn.acquire()
        try:
            if not self._abandoned:
                self.results.append(self._job())
        except BaseException as error:  # noqa: BLE001 - raised again where the gang was started
            self.error = error
        finally:
            self.wish = None
            self._paused.release()

    def advance(self) -> None:
        """Let the job run until it waits or ends."""
        self._turn.release()
        self._paused.acquire()

    def abandon(self) -> None:
        """Have the job raise instead of waiting, and wait for its end."""
        self._abandoned = True
        self._turn.release()
        self.join()

    def meet(self, serve: Serve, request: Any) -> Any:
        if not self._abandoned:
            self.wish = serve, request
            self._paused.release()
            self._turn.acquire()
        if self._abandoned:
            raise GangEnded("the gang was given up")
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        return answer


def in_gang() -> bool:
    """Tell whether this is a job of a gang."""
    return _here.get() is not None


def meet(serve: Callable[[Sequence[Any]], Sequence[Answer | Exception]], request: Any) -> Answer:
    """Wait for the other jobs of the gang; return the answer to `request`.

    Parameters
    ----------
    serve
        Called once, by the coordinator, with the requests of all jobs that wait with an equal
        `serve`, in the order of the jobs. Returns an answer to each, or an exception, which is
        then raised in that job alone.

    Raises
    ------
    RuntimeError
        Outside a gang, and (`GangEnded`) if it is given up.
    """
    member = _here.get()
    if member is None:
        raise RuntimeError("only jobs of a gang can meet")
    with kept():  # others draw from the global generators meanwhile
        answer: Answer = member.meet(serve, request)
    return answer


def run_together(jobs: Sequence[Callable[[], Result]]) -> list[Result]:
    """Run jobs as a gang and return their results in order; one job alone runs in this thread.

    When every job waits in `meet` or has ended, what they wait for is computed, in this thread,
    and they go on one after another. What a job raises is raised here once all have ended.
    """
    if len(jobs) == 1:
        return [jobs[0]()]
    with kept():
        return _run_together([_Member(job) for job in jobs])


def _run_together(members: list[_Member[Result]]) -> list[Result]:
    for member in members:
        member.start()
    try:
        waiting = members
        while waiting:
            for member in waiting:
                member.advance()
            waiting = [member for member in waiting if member.wish is not None]
            _serve(waiting)
    finally:
        for member in members:
            if member.is_alive():
                member.abandon()
    for member in members:
        if member.error is not None:
            raise member.error
    return [member.results[0] for member in members]


def _serve(waiting: Sequence[_Member[Any]]) -> None:
    groups: dict[Serve, list[_Member[Any]]] = {}
    for member in waiting:
        if member.wish is not None:
            groups.setdefault(member.wish[0], []).append(member)
    for serve, members in groups.items():
        try:
            answers = serve([member.wish[1] for member in members if member.wish])
        except Exception as error:  # noqa: BLE001 - it belongs to the jobs that asked
            answers = [error] * len(members)
        for member, answer in zip(members, answers, strict=True):
            member.answer = answer
