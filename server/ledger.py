"""The ledger: one row a message, what it weighed and what it was made of."""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass, fields

from mpfl.wire.frame import Frame, Section

UPLINK, DOWNLINK = "uplink", "downlink"


@dataclass(frozen=True, order=True)
class Row:
    """One message. All sizes in bytes; the six kinds add up to ``message_bytes``.

    Attributes
    ----------
    formula_bytes
        What the method's paper would say.
    bound_bytes
        Entropy of the content, given what the receiver holds.
    """

    round: int
    client: int
    direction: str
    phase: str
    mask_bytes: int
    values_bytes: int
    scores_bytes: int
    metrics_bytes: int
    config_bytes: int
    framing_bytes: int
    message_bytes: int
    formula_bytes: float
    bound_bytes: float

    def csv(self) -> str:
        """Return the row as a line of ``ledger.csv``."""
        return ",".join(
            f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(self)
        )


HEADER = ",".join(item.name for item in fields(Row))


class Ledger:
    """Books messages, round by round, and keeps the totals.

    Attributes
    ----------
    totals
        Bytes so far by direction.
    digest
        Hexadecimal SHA-256 chain over all frames, whatever the order of arrival.
    """

    def __init__(self) -> None:
        self.totals = {UPLINK: 0, DOWNLINK: 0}
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
        sizes = [len(sections.get(section, b"")) for section in Section]
        by_section = dict(zip(Section, sizes, strict=True))
        self._rows.append(
            Row(
                round=round_number,
                client=client,
                direction=direction,
                phase=phase,
                mask_bytes=by_section[Section.MASK],
                values_bytes=by_section[Section.VALUES],
                scores_bytes=by_section[Section.SCORES],
                metrics_bytes=by_section[Section.METRICS],
                config_bytes=by_section[Section.CONFIG],
                framing_bytes=message_bytes - sum(sizes),
                message_bytes=message_bytes,
                formula_bytes=float(formula_bytes),
                bound_bytes=float(bound_bytes),
            )
        )
        self._frames.append((client, direction, hashlib.sha256(blob).digest()))
        self.totals[direction] += message_bytes

    def close_round(self) -> list[Row]:
        """Return the round's rows, by client and direction, and start the next."""
        rows = sorted(self._rows)
        chain = hashlib.sha256(self.digest.encode())
        for _, _, digest in sorted(self._frames):
            chain.update(digest)
        self.digest = chain.hexdigest()
        self._rows, self._frames = [], []
        return rows
