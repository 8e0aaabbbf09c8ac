"""What a deployment's sockets carry, beside what the ledger says."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.engines.byte_proxy import ByteProxy
from server.transport.overhead import DOWNLINK_OVERHEAD_BYTES, UPLINK_OVERHEAD_BYTES

Say = Callable[[str], None]


@dataclass(frozen=True)
class SocketBytes:
    """What the sockets between nodes and SuperLink carried, beside what the ledger says.

    Attributes
    ----------
    rounds
        Rounds that the numbers span: the first is left out, because the app's copies for the
        nodes share the wire with it.
    messages
        Client messages in those rounds, both directions.
    ledger_bytes, socket_bytes
        (uplink, downlink) of those rounds.
    overhead_bytes
        (uplink, downlink) beyond the ledger for each request and its reply; measured with `flwr`.
    run_socket_bytes
        (uplink, downlink) of the whole run, with app copies, node discovery and polling.
    seconds
        Wall time of those rounds; nodes poll every three seconds.
    """

    rounds: int
    messages: int
    ledger_bytes: tuple[int, int]
    socket_bytes: tuple[int, int]
    overhead_bytes: tuple[int, int]
    run_socket_bytes: tuple[int, int]
    seconds: float
    flwr: str = metadata.version("flwr")

    def text(self) -> str:
        """Return the comparison as a table."""
        title = f"rounds 2 to {self.rounds + 1}: {self.messages} messages, {self.seconds:g} s"
        lines = [f"{title:<34} {'uplink':>11} {'downlink':>11}"]
        rows = (
            ("ledger (serialized messages)", self.ledger_bytes),
            ("sockets (TLS and HTTP included)", self.socket_bytes),
            ("sockets, whole run and start", self.run_socket_bytes),
        )
        lines += [f"  {name:<32} {up:>9,} B {down:>9,} B" for name, (up, down) in rows]
        up, down = self.overhead_bytes
        lines.append(f"  {'more, per request and reply':<32} {up:>9,} B {down:>9,} B")
        up, down = UPLINK_OVERHEAD_BYTES, DOWNLINK_OVERHEAD_BYTES
        lines.append(f"  {'what simulations take it for':<32} {up:>9,} B {down:>9,} B")
        return "\n".join(lines)


class Meter:
    """Reads the proxy whenever a round ends."""

    def __init__(self, proxy: ByteProxy, say: Say) -> None:
        self._proxy, self._say = proxy, say
        self._marks: list[tuple[float, tuple[int, int]]] = []

    def on_round(self, record: dict[str, Any]) -> None:
        """Note where the proxy stands at the end of a round, and show the round."""
        self._marks.append((time.monotonic(), self._proxy.totals))
        self._say(
            f"round {record['round']:>3}  {record['phase']:<6} accuracy "
            f"{record['test_accuracy'] or 0:.4f}  density {record['density']:.3f}  "
            f"{record['clients_replied']} replies  {record['total_bytes']:,} B"
        )

    def result(self, before: tuple[int, int], ledger: Path) -> SocketBytes:
        """Return what the sockets carried since `before`, beside what a finished ledger says."""
        (start, first), (end, last) = self._marks[0], self._marks[-1]
        booked, messages = _booked_after_first_round(ledger)
        carried = _difference(last, first)
        more = _difference(carried, booked)
        return SocketBytes(
            rounds=len(self._marks) - 1,
            messages=messages,
            ledger_bytes=booked,
            socket_bytes=carried,
            overhead_bytes=(2 * more[0] // max(messages, 1), 2 * more[1] // max(messages, 1)),
            run_socket_bytes=_difference(last, before),
            seconds=round(end - start, 1),
        )


def _difference(later: tuple[int, int], earlier: tuple[int, int]) -> tuple[int, int]:
    return later[0] - earlier[0], later[1] - earlier[1]


def _booked_after_first_round(ledger: Path) -> tuple[tuple[int, int], int]:
    header, *lines = ledger.read_text().splitlines()
    rows = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    later = [row for row in rows if int(row["round"]) > 1]
    sums = {
        way: sum(int(row["message_bytes"]) for row in later if row["direction"] == way)
        for way in ("uplink", "downlink")
    }
    return (sums["uplink"], sums["downlink"]), len(later)
