"""One round's traffic: requests made, replies judged, both booked."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from mpfl.errors import RunError
from mpfl.faults.replies import CLIENT_FAILURES
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, decode_frame, encode_frame
from server.health import Standing
from server.ledger import Ledger
from server.methods.base import Receipt, Request, ServerMethod
from server.records import DOWNLINK, UPLINK, RoundRecord
from server.runfolder import RunFolder
from server.transport.courier import Delivery

_MOST_ERRORS = 3  # told in a round's record; all are counted
_LOG = logging.getLogger(__name__)


@dataclass
class RunState:
    """What a run carries from round to round.

    Attributes
    ----------
    round
        Rounds completed.
    seconds
        Wall time spent, over all sessions of a resumed run.
    last
        Record of the last round.
    standing
        How the rounds so far have fared.
    inputs
        Digests of what the run began with.
    logged
        What went wrong at clients and stands in the log already, traceback and all.
    """

    method: ServerMethod
    ledger: Ledger
    round: int = 0
    seconds: float = 0.0
    last: RoundRecord | None = None
    standing: Standing = field(default_factory=Standing)
    inputs: dict[str, str] = field(default_factory=dict)
    logged: set[str] = field(default_factory=set)


class Exchange:
    """One round's traffic: makes the requests, judges the replies, books both.

    Parameters
    ----------
    ballots
        Where ballots are kept; None: nowhere.
    goes_on
        Whether the run goes on after a loss with this reason.
    """

    def __init__(
        self,
        state: RunState,
        phase: str,
        ballots: RunFolder | None = None,
        goes_on: Callable[[str], bool] = lambda reason: True,
    ) -> None:
        self._state, self._phase, self._ballots = state, phase, ballots
        self._goes_on = goes_on
        self._requests: dict[int, tuple[Request, bytes]] = {}
        self.accepted = 0
        self.rejected: Counter[str] = Counter()
        self._errors: list[tuple[bool, int, str]] = []

    @property
    def errors(self) -> list[str]:
        """What went wrong, in whatever order replies came: failures at clients, then by client."""
        return [
            f"client {client}: {line}" for _, client, line in sorted(self._errors)[:_MOST_ERRORS]
        ]

    def requests(self, clients: list[int]) -> Iterator[tuple[int, bytes]]:
        """Yield client and frame of every request of the round."""
        for client in clients:
            request = self._state.method.request(client)
            blob = encode_frame(request.frame)
            self._requests[client] = request, blob
            yield client, blob

    def receive(self, delivery: Delivery) -> None:
        """Book what came of a request, and let the method accept the reply or reject it.

        Raises
        ------
        RunError
            If there is no reply and the run does not go on after such a loss.
        """
        request, blob = self._requests.pop(delivery.client)
        book = partial(
            self._state.ledger.book,
            round_number=self._state.round,
            phase=self._phase,
            client=delivery.client,
        )
        if delivery.request_bytes:
            book(
                direction=DOWNLINK,
                frame=request.frame,
                blob=blob,
                message_bytes=delivery.request_bytes,
                formula_bytes=request.formula_bytes,
                bound_bytes=request.bound_bytes,
            )
        if delivery.reply is None:
            self._reject(delivery.client, delivery.reason, delivery.error)
            return
        frame, receipt = None, Receipt()
        try:
            frame = decode_frame(delivery.reply)
            receipt = self._accept(delivery.client, frame)
            self.accepted += 1
        except WireError as error:
            self._reject(delivery.client, f"bad {error.field}", str(error))
        book(
            direction=UPLINK,
            frame=frame,
            blob=delivery.reply,
            message_bytes=delivery.reply_bytes,
            formula_bytes=receipt.formula_bytes,
            bound_bytes=receipt.bound_bytes,
        )

    def _accept(self, client: int, frame: Frame) -> Receipt:
        if frame.round != self._state.round:
            raise WireError("round", f"expected {self._state.round}, got {frame.round}")
        if frame.kind is Kind.REFUSAL:
            frame.check_sections(())
            self._state.method.forget(client)
            raise WireError("state", "the client does not hold what the request builds on")
        receipt = self._state.method.accept(client, frame)
        if self._ballots and receipt.ballot is not None:
            self._ballots.write_ballot(self._state.round, client, receipt.ballot.to_bytes())
        return receipt

    def _reject(self, client: int, reason: str, error: str) -> None:
        """Count a reply that is not there or no use."""
        line, *_ = error.splitlines()
        failed = reason in CLIENT_FAILURES
        self.rejected[reason] += 1
        self._errors.append((not failed, client, line))
        if failed and line not in self._state.logged:
            self._state.logged.add(line)
            _LOG.error("client %d: %s", client, error)
        if not self._goes_on(reason):
            raise RunError(
                f"round {self._state.round}, client {client}: {line} ({reason}; faults.tolerate "
                "says after which failures a run goes on)"
            )
