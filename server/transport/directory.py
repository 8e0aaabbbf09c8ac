"""Which node holds which partition, on engines that number their nodes at random."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from mpfl.errors import InputError
from mpfl.wire.discovery import PARTITION, Fingerprint, Introduction
from mpfl.wire.errors import WireError
from mpfl.wire.frame import RECORD
from server.transport.flower import is_simulation

_POLL_SECONDS = 0.1
_ASK_AGAIN_SECONDS = 30.0  # a refused node may be mended
_UNANSWERED_SECONDS = 300.0  # a node that reads much data takes long, and a query may get lost
_SAY_SECONDS = 15.0  # between lines that say what a run is waiting for
_LOG = logging.getLogger(__name__)


class Directory:
    """The nodes of a grid by partition, kept as nodes come and go.

    Every node that comes is asked who it is, one that comes back as well. It is refused by name
    if it holds no partition that a run of `clients` has, or one that another node holds, or if
    it starts from anything else than the server does. Refused nodes do no harm, and are asked
    again from time to time while a partition is missing. Queries are in no ledger.

    In a simulation nothing gets lost, and nobody is asked again before the answer: Flower's engine
    would put a client's state back to what it was when a late query began, whatever the client
    has done meanwhile.

    Parameters
    ----------
    fingerprint
        What nodes must have derived, too.
    """

    def __init__(self, grid: Grid, clients: int, fingerprint: Fingerprint) -> None:
        self._grid, self._clients, self._fingerprint = grid, clients, fingerprint
        self._present: set[int] = set()
        self._holders: dict[int, int] = {}
        self._asked: dict[str, int] = {}
        self._ask_at: dict[int, float] = {}
        self._refused: dict[int, str] = {}

    def node(self, partition: int) -> int | None:
        """Return the node that holds a partition; None if none is there."""
        return self._holders.get(partition)

    def is_present(self, node: int) -> bool:
        """Whether a node was there when the directory last looked."""
        return node in self._present

    @property
    def missing(self) -> list[int]:
        """The partitions that no node holds."""
        return [number for number in range(self._clients) if number not in self._holders]

    def look(self) -> None:
        """See who is there, hear who answered, and ask whoever holds no partition."""
        self._present = set(self._grid.get_node_ids())
        self._forget_absent()
        self._hear()
        self._ask()

    def wait_for_all(self, timeout: float) -> None:
        """Return when every partition has a node.

        Raises
        ------
        InputError
            If that takes more than `timeout` seconds, or no node can come that is not there yet.
        """
        waited = self._wait(lambda: not self.missing, timeout)
        if self.missing:
            raise InputError(
                f"data.clients: got {self._clients}, but after {waited:.0f} s {self._lack()}"
            )

    def wait_for_one(self, timeout: float) -> None:
        """Return when any partition has a node, or after `timeout` seconds."""
        self._wait(lambda: bool(self._holders) or not self._clients, timeout)

    def _wait(self, enough: Callable[[], bool], timeout: float) -> float:
        """Look until there is enough, saying what is missing; returns the seconds it took."""
        start = said = time.monotonic()
        self.look()
        while not enough() and time.monotonic() < start + timeout and not self._is_hopeless():
            if time.monotonic() >= said + _SAY_SECONDS:
                said = time.monotonic()
                _LOG.warning("waiting up to %g s: %s", timeout, self._lack())
            time.sleep(_POLL_SECONDS)
            self.look()
        return time.monotonic() - start

    def _is_hopeless(self) -> bool:
        """Whether no node can come any more that is not there yet."""
        settled = len(self._holders) + len(self._refused)
        return is_simulation(self._grid) and 0 < len(self._present) == settled

    def _lack(self) -> str:
        """Return which partitions are missing, and what is wrong with nodes that are there."""
        numbers = ", ".join(map(str, self.missing[:10])) + ", …" * (len(self.missing) > 10)
        waiting = len(self._present) - len(self._holders) - len(self._refused)
        lack = [f"no node holds partition {numbers}"]
        lack += [f"nodes that have not answered: {waiting}"] if waiting else []
        lack += [f"node {node} is refused: {why}" for node, why in self._refused.items()][:3]
        return "; ".join(lack)

    def _forget_absent(self) -> None:
        for partition, node in list(self._holders.items()):
            if node not in self._present:
                _LOG.warning("node %d, which holds partition %d, is gone", node, partition)
                del self._holders[partition]
        for facts in (self._ask_at, self._refused):
            for node in facts.keys() - self._present:
                del facts[node]
        self._asked = {i: node for i, node in self._asked.items() if node in self._present}

    def _ask(self) -> None:
        """Ask whoever is new, and while a partition is missing others again."""
        now, known = time.monotonic(), set(self._holders.values())
        patience = math.inf if is_simulation(self._grid) else _UNANSWERED_SECONDS
        for node in sorted(self._present - known):
            if node not in self._ask_at or (self.missing and self._ask_at[node] <= now):
                self._ask_at[node] = now + patience
                for message_id in self._grid.push_messages([Message(RecordDict(), node, "query")]):
                    if message_id:
                        self._asked[message_id] = node

    def _hear(self) -> None:
        if not self._asked:
            return
        for reply in self._grid.pull_messages(list(self._asked)):
            node = self._asked.pop(reply.metadata.reply_to_message_id)
            if node in self._holders.values():
                continue  # it was asked twice
            try:
                self._admit(node, introduction_of(reply))
            except WireError as error:
                self._refuse(node, str(error))

    def _admit(self, node: int, said: Introduction) -> None:
        said.check(self._clients, self._fingerprint)
        holder = self._holders.setdefault(said.partition, node)
        if holder != node:
            raise WireError(PARTITION, f"{said.partition} is what node {holder} holds")
        self._refused.pop(node, None)

    def _refuse(self, node: int, why: str) -> None:
        if self._refused.get(node) != why:
            _LOG.error("node %d is refused: %s", node, why)
        self._refused[node] = why
        self._ask_at[node] = time.monotonic() + _ASK_AGAIN_SECONDS


def introduction_of(reply: Message) -> Introduction:
    """Return what a reply says of its node; WireError if it says nothing that can be read."""
    if reply.has_error():
        first, *_ = (reply.error.reason or f"code {reply.error.code}").splitlines()
        raise WireError("reply", first)
    facts = reply.content.get(RECORD)
    if not isinstance(facts, ConfigRecord):
        raise WireError("reply", "it carries no facts")
    return Introduction.read(facts)
