"""LocalGrid: a Flower grid that runs the ClientApp on this machine's cores.

Messages are really serialized, one copy for each node, and their lengths are what the ledger
books. Node states live here as bytes, beside the queue: any worker can serve any node, a
crashed worker costs nothing but time, and a checkpoint is a dictionary.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import NoReturn

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from server.transport.flower import (
    DIED,
    MESSAGE_ID_LENGTH,
    RequestWriter,
    address,
    deserialize,
    identify,
    serialize,
)
from server.transport.states import StateStore
from server.transport.worker import App, Outcome, Site, Task, keep_freed_memory, work

RUN_ID = 2**62 + 1
FIRST_NODE = 2**62 + 2**40  # ids as long on the wire as those of a deployment
_SERVER_NODE = 1
_MAX_ATTEMPTS = 3
WORKER_DIED = "its worker process died"
"""Begins what is said of a client whose process the machine ended again and again."""
_LAST_WORDS_SECONDS = 5.0
_PREFETCH = 2  # chunks a worker holds: one at work, one waiting


class _Worker:
    """A worker process, its pipe, and the tasks it holds."""

    def __init__(self, site: Site, others: list[Connection]) -> None:
        context = multiprocessing.get_context("fork")
        self.connection, theirs = context.Pipe()
        inherited = [*others, self.connection]
        self.process: ForkProcess = context.Process(
            target=work, args=(theirs, inherited, site), daemon=True
        )
        self.process.start()
        theirs.close()
        self.tasks: dict[str, Task] = {}
        self.chunks = 0

    def send(self, tasks: list[Task]) -> None:
        self.tasks.update({task.message_id: task for task in tasks})
        self.connection.send_bytes(pickle.dumps(tasks, pickle.HIGHEST_PROTOCOL))

    def stop(self, patience: float = 0.0) -> str:
        """Stop the process unless it ends by itself in so many seconds; returns how it did."""
        self.process.join(patience)
        status = self.process.exitcode
        self.process.kill()
        self.process.join()
        self.connection.close()
        return ended_text(status)


class LocalGrid(Grid):
    """Runs `app` for `nodes` virtual nodes in worker processes of this machine.

    Parameters
    ----------
    app
        The ClientApp. Workers are forked: what the parent has loaded, they share.
    nodes
        Number of nodes; node ``node_id(i)`` has partition id i.
    run_config
        What clients find in ``context.run_config``.
    workers
        Processes (-1 = one per core, 0 = run clients in this process).
    together
        Clients that are trained together; if not 0, they are run in this process.
    """

    def __init__(
        self,
        app: App,
        nodes: int,
        run_config: Mapping[str, bool | float | int | str],
        workers: int = -1,
        together: int = 0,
    ) -> None:
        self._run = RUN_ID + int.from_bytes(os.urandom(5), "little")  # no two are one run
        identify(self._run, _SERVER_NODE)
        keep_freed_memory()
        self._writer = RequestWriter(self._run, _SERVER_NODE)
        self._site = Site(app, self._run, FIRST_NODE, nodes, dict(run_config))
        self._count = 0 if together else worker_count(workers, nodes)
        self.together = max(together, 1)
        self._workers: list[_Worker] = []
        self._queue: deque[Task] = deque()
        self._attempts: Counter[str] = Counter()
        self._replies: dict[str, bytes] = {}
        self._sequence = 0
        self.states = StateStore()

    # ------------------------------------------------------------------ Flower's interface

    def set_run(self, run: object) -> None:
        """Accept and ignore: a local grid serves one run."""

    @property
    def run(self) -> NoReturn:
        """Not available: there is no Flower run record behind a local grid."""
        raise RuntimeError("a LocalGrid has no Flower run record")

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Return ``Message(content, dst_node_id, message_type, ...)``."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the id of every node, in partition order."""
        return [FIRST_NODE + i for i in range(self._site.nodes)]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Serialize messages and queue them; returns their ids."""
        ids = []
        for message in messages:
            message_id = self._next_id()
            address(message, message_id, self._run, _SERVER_NODE)
            self._enqueue(message_id, message.metadata.dst_node_id, serialize(message))
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that have arrived; waits briefly if there is none yet."""
        wanted = list(message_ids)
        if wanted and self._replies.keys().isdisjoint(wanted):
            self._advance()
        return [deserialize(self._replies.pop(i)) for i in wanted if i in self._replies]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """Push, then pull until every reply is there or `timeout` seconds have passed."""
        missing = set(self.push_messages(messages))
        deadline = None if timeout is None else time.monotonic() + timeout
        replies: list[Message] = []
        while missing and (deadline is None or time.monotonic() < deadline):
            arrived = self.pull_messages(missing)
            missing -= {reply.metadata.reply_to_message_id for reply in arrived}
            replies += arrived
        return replies

    # ------------------------------------------------------------------------ beyond Flower

    def post(self, node: int, blob: bytes, group: str) -> tuple[str, int]:
        """Queue a request with one blob; returns its message id and the bytes it takes.

        The same bytes as `push_messages` of a message with that blob, without making one.
        """
        message_id = self._next_id()
        raw = self._writer.write(message_id, node, group, blob)
        self._enqueue(message_id, node, raw)
        return message_id, len(raw)

    def collect(self) -> list[bytes]:
        """Return all replies that have arrived, serialized; waits briefly if there is none."""
        if not self._replies:
            self._advance()
        replies, self._replies = self._replies, {}
        return [replies[message_id] for message_id in sorted(replies)]

    @property
    def workers(self) -> int:
        """Worker processes (0: clients run in this process)."""
        return self._count

    @staticmethod
    def node_id(partition: int) -> int:
        """Return the id of the node that holds `partition`."""
        return FIRST_NODE + partition

    def abandon(self, message_ids: Iterable[str]) -> None:
        """Give up on messages; a worker that is busy with one is replaced."""
        ids = set(message_ids)
        self._queue = deque(task for task in self._queue if task.message_id not in ids)
        for worker in list(self._workers):
            if ids & worker.tasks.keys():
                for message_id in ids:
                    worker.tasks.pop(message_id, None)
                self._replace(worker, blame=False)

    def close(self) -> None:
        """Stop every worker."""
        for worker in self._workers:
            worker.stop()
        self._workers = []

    def __enter__(self) -> LocalGrid:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------ inside

    def _next_id(self) -> str:
        self._sequence += 1
        return f"{self._sequence:0{MESSAGE_ID_LENGTH}x}"

    def _enqueue(self, message_id: str, node: int, raw: bytes) -> None:
        if not FIRST_NODE <= node < FIRST_NODE + self._site.nodes:
            raise ValueError(f"no node {node}")
        self._queue.append(Task(message_id, node, raw, b""))

    def _advance(self) -> None:
        if self._count == 0:
            for outcome in self._site.execute_together(self._next_gang()):
                self._accept(outcome)
            return
        self._feed()
        ready = set(wait([worker.connection for worker in self._workers], timeout=1.0))
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            self._receive(worker)
        self._feed()

    def _next_gang(self) -> list[Task]:
        """Take tasks from the queue, at most one of each node: the next needs its new state."""
        gang: dict[int, Task] = {}
        while self._queue and len(gang) < self.together and self._queue[0].node not in gang:
            task = self._with_state(self._queue.popleft())
            gang[task.node] = task
        return list(gang.values())

    def _feed(self) -> None:
        """Hand out chunks, smaller as the queue empties, so that all workers end together."""
        while self._queue:
            while len(self._workers) < self._count:
                self._workers.append(_Worker(self._site, [w.connection for w in self._workers]))
            worker = min(self._workers, key=lambda w: w.chunks)
            if worker.chunks >= _PREFETCH:
                return
            retried = self._attempts[self._queue[0].message_id] > 0
            size = 1 if retried else max(1, min(64, len(self._queue) // (4 * self._count)))
            tasks = [self._with_state(self._queue.popleft()) for _ in range(size)]
            worker.chunks += 1
            try:
                worker.send(tasks)
            except OSError:
                self._replace(worker)

    def _with_state(self, task: Task) -> Task:
        return replace(task, state=self.states.get(task.node, b""))

    def _receive(self, worker: _Worker) -> None:
        try:
            outcomes: list[Outcome] = pickle.loads(worker.connection.recv_bytes())
        except (EOFError, OSError):
            self._replace(worker)
            return
        for outcome in outcomes:
            worker.tasks.pop(outcome.message_id, None)
            self._accept(outcome)
        worker.chunks = min(worker.chunks, len(worker.tasks))

    def _accept(self, outcome: Outcome) -> None:
        self._attempts.pop(outcome.message_id, None)
        self._replies[outcome.message_id] = outcome.reply
        if outcome.state:
            self.states[outcome.node] = outcome.state

    def _replace(self, worker: _Worker, blame: bool = True) -> None:
        """Replace a dead worker and queue its tasks again; the first was the one at work."""
        how = worker.stop(_LAST_WORDS_SECONDS if blame else 0.0)
        self._workers.remove(worker)
        for task in reversed(worker.tasks.values()):
            self._queue.appendleft(task)
        if worker.tasks and blame:
            first = next(iter(worker.tasks.values()))
            self._attempts[first.message_id] += 1
            if self._attempts[first.message_id] >= _MAX_ATTEMPTS:
                self._queue.remove(first)
                self._fail(first, how)

    def _fail(self, task: Task, how: str) -> None:
        message = deserialize(task.message)
        reason = f"{WORKER_DIED} {_MAX_ATTEMPTS} times, the last time with {how}"
        reply = Message(Error(DIED, reason), reply_to=message)
        address(reply, task.message_id[::-1], self._run, task.node)
        self._accept(Outcome(task.message_id, task.node, serialize(reply), b""))


def ended_text(status: int | None) -> str:
    """Return how a process ended, of its exit status as multiprocessing has it.

    Examples
    --------
    >>> ended_text(-9), ended_text(1)
    ('signal SIGKILL', 'exit status 1')
    """
    if status is None or status >= 0:
        return f"exit status {'unknown' if status is None else status}"
    known = {number.value: number.name for number in signal.Signals}
    return f"signal {known.get(-status, -status)}"


def worker_count(workers: int, nodes: int) -> int:
    """Return how many processes to use; never more than nodes.

    0 where fork is missing, and in daemonic processes such as those of a `multiprocessing.Pool`,
    which may have no children.
    """
    forks = "fork" in multiprocessing.get_all_start_methods()
    if not forks or multiprocessing.current_process().daemon:
        return 0
    if workers < 0:
        affinity = getattr(os, "sched_getaffinity", None)
        workers = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(workers, nodes)
