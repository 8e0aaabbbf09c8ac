"""A worker process of the local grid: runs ClientApps, streams the replies back."""

from __future__ import annotations

import ctypes
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

from flwr.app import Context, Error, Message, RecordDict

from mpfl.errors import describe
from mpfl.faults.replies import RAISED
from mpfl.training.gang import run_together
from server.transport.flower import (
    address,
    deserialize,
    deserialize_state,
    serialize,
    serialize_state,
)

App = Callable[[Message, Context], Message]

_FLUSH_SECONDS = 0.05
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


@dataclass(frozen=True)
class Task:
    """One message for one node, and the state that node had."""

    message_id: str
    node: int
    message: bytes
    state: bytes


@dataclass(frozen=True)
class Outcome:
    """The reply to a task, and the state the node has now."""

    message_id: str
    node: int
    reply: bytes
    state: bytes


@dataclass(frozen=True)
class Site:
    """What is the same for every node: the app, and how nodes are numbered.

    Attributes
    ----------
    first_node
        Node id of partition 0; the others follow.
    """

    app: App
    run_id: int
    first_node: int
    nodes: int
    run_config: dict[str, bool | float | int | str]

    def execute_together(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Run the app on tasks of different nodes as one gang, which trains together."""
        return run_together([partial(self.execute, task) for task in tasks])

    def execute(self, task: Task) -> Outcome:
        """Run the app on one task. Never raises: what the app raises becomes an error reply."""
        message = deserialize(task.message)
        context = Context(
            run_id=self.run_id,
            node_id=task.node,
            node_config={
                "partition-id": task.node - self.first_node,
                "num-partitions": self.nodes,
            },
            state=deserialize_state(task.state) if task.state else RecordDict(),
            run_config=dict(self.run_config),
        )
        try:
            reply = self.app(message, context)
            if not isinstance(reply, Message):
                raise TypeError(f"the client app returned {type(reply).__name__}, not a Message")
            state = serialize_state(context.state) if context.state else b""
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a client's own failure costs only its reply
            reply = Message(Error(RAISED, describe(error)), reply_to=message)
            state = task.state
        address(reply, task.message_id[::-1], self.run_id, task.node)
        return Outcome(task.message_id, task.node, serialize(reply), state)


def work(connection: Connection, others: Sequence[Connection], site: Site) -> None:
    """Serve tasks from `connection` until it closes; the main function of a worker process.

    Parameters
    ----------
    others
        Inherited ends of other workers' pipes: closed, so that those see their own end.
    """
    for number in (signal.SIGINT, signal.SIGHUP):  # the parent decides what Ctrl-C means
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        other.close()
    inbox: queue.SimpleQueue[list[Task]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
    while True:
        done: list[Outcome] = []
        sent = time.monotonic()
        for task in inbox.get():
            done.append(site.execute(task))
            if time.monotonic() - sent > _FLUSH_SECONDS:
                _send(connection, done)
                done, sent = [], time.monotonic()
        if done:
            _send(connection, done)


def keep_freed_memory() -> None:
    """Have the C library reuse freed memory instead of returning it to the system at once.

    Every client frees the same few megabytes that the next one asks for; getting them from the
    system anew costs a page fault for each 4 KiB, a fifth of a small client's time. For the whole
    process: blocks up to 32 MiB come from the heap, whose free end is kept up to 64 MiB. Does
    nothing where the C library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 64 << 20)


def _send(connection: Connection, outcomes: list[Outcome]) -> None:
    try:
        connection.send_bytes(pickle.dumps(outcomes, pickle.HIGHEST_PROTOCOL))
    except OSError:
        os._exit(0)


def _read(connection: Connection, inbox: queue.SimpleQueue[list[Task]]) -> None:
    """Keep the pipe empty, so that neither side ever waits for the other to read."""
    while True:
        try:
            inbox.put(pickle.loads(connection.recv_bytes()))
        except (EOFError, OSError):
            os._exit(0)  # the parent is gone, or done
