"""The ledger: one row a message, what it weighed and what it was made of."""

from __future__ import annotations

import hashlib

from mpfl.wire.frame import Frame, Section
from server.records import DOWNLINK, UPLINK, Row


class Ledger:
    """Books messages, round by round, and keeps the totals.

    Attributes
    ----------
    totals, messages
        Bytes and messages so far by direction.
    digest
        Hexadecimal SHA-256 chain over all frames, whatever the order of arrival.
    """

    def __init__(self) -> None:
        self.totals = {UPLINK: 0, DOWNLINK: 0}
        self.messages = {UPLINK: 0, DOWNLINK: 0}
        self.digest = ""
        self._rows: list[Row] = []
        self._frames: list[tuple[int, str, bytes]] = []

    def book(
        self,
        *,
        round_number: int,
        phase: str,
        client: int,
        direction: str,
        frame: Frame | None,
        blob: bytes,
        message_bytes: int,
        formula_bytes: float,
        bound_bytes: float,
    ) -> None:
        """Book one message.

        Parameters
        ----------
        frame
            The decoded blob; None if it could not be decoded (all of it is framing then).
        message_bytes
            Length of the serialized message that carried the blob.
        """
        sections = frame.sections if frame else {}
        sizes = {
            f"{section.name.lower()}_bytes": len(sections.get(section, b"")) for section in Section
        }
        self._rows.append(
            Row(
                round=round_number,
                client=client,
                direction=direction,
                phase=phase,
                **sizes,
                framing_bytes=message_bytes - sum(sizes.values()),
                message_bytes=message_bytes,
                formula_bytes=float(formula_bytes),
                bound_bytes=float(bound_bytes),
            )
        )
        self._frames.append((client, direction, hashlib.sha256(blob).digest()))
        self.totals[direction] += message_bytes
        self.messages[direction] += 1

    def bits_per_parameter(self, direction: str, parameters: int) -> float | None:
        """Return a message's mean bits for each of the model's parameters; None without any."""
        if not self.messages[direction]:
            return None
        return 8 * self.totals[direction] / (self.messages[direction] * parameters)

    def close_round(self) -> list[Row]:
        """Return the round's rows, by client and direction, and start the next."""
        rows = sorted(self._rows)
        chain = hashlib.sha256(self.digest.encode())
        for _, _, digest in sorted(self._frames):
            chain.update(digest)
        self.digest = chain.hexdigest()
        self._rows, self._frames = [], []
        return rows
