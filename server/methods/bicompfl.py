"""FedPM whose masks travel as numbers of draws both ways, server half.

Source: Egger et al. 2025, "BICompFL: stochastic federated learning with bi-directional
compression", arXiv 2502.00206, its variant of global randomness. Faithful: all ends draw from the
same streams, so the server passes on what clients sent, and everybody comes to the same θ without
a loss. Differs: as in `server.methods.klms`; everybody is sent all replies, its own too; who was
away gets the replies of all rounds that it missed or, where that is shorter, θ itself (exactly, at
its entropy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mpfl.errors import InputError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.sections import SNAPSHOT, Sync, join_links
from mpfl.wire.values.draws import write_round
from mpfl.world import World
from server.methods.base import Receipt, Request
from server.methods.fedpm import FedPmState
from server.methods.klms import Klms


@dataclass
class BiCompFlState(FedPmState):
    """What a run keeps of θ, and what leads clients to it.

    Attributes
    ----------
    links, formulas, bounds
        What led to the last versions of θ: payloads, and bytes by the paper and by entropy.
    held
        The version that each client holds, where that is not 0.
    """

    links: list[bytes] = field(default_factory=list)
    formulas: list[float] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    held: dict[int, int] = field(default_factory=dict)


class BiCompFl(Klms):
    """KLMS whose server passes on all replies, so that clients work θ out themselves."""

    reads = Klms.reads

    state: BiCompFlState
    keeps = BiCompFlState

    def __init__(self, world: World) -> None:
        experiment = world.experiment
        asked = experiment.federation.clients_per_round or experiment.data.clients
        behind = asked * experiment.comparator.fedpm_reset
        if behind > 255:
            raise InputError(
                f"comparator.fedpm_reset: {behind} ballots stand behind θ in the end (clients a "
                f"round times rounds between resets), {experiment.method} takes at most 255"
            )
        super().__init__(world)

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty tally, and keep no reply yet."""
        super().begin_round(round_number, clients)
        self._replies: dict[int, tuple[bytes, Receipt]] = {}

    def request(self, client: int) -> Request:
        """Return what brings `client` to the newest θ."""
        state, version = self.state, self.state.posterior.updates
        base, flags, values = state.held.get(client, 0), 0, b""
        missing, formula, bound = version - base, 0.0, 0.0
        if missing and missing <= len(state.links):
            links = state.links[-missing:]
            values = join_links(links)
            formula, bound = sum(state.formulas[-missing:]), sum(state.bounds[-missing:])
        if missing and not 0 < len(values) <= len(self._payload):
            flags, values = SNAPSHOT, self._payload
            formula, bound = 4.0 * self._world.layout.total, self._bound
        sync = Sync(flags, values_base=base, values_version=version, step=state.step)
        sections = {Section.CONFIG: sync.pack()}
        if version and (values or self._buffers.count):
            sections[Section.VALUES] = self._buffers.prefix(state.buffers) + values
            formula, bound = (b + 4.0 * self._buffers.count for b in (formula, bound))
        return Request(Frame(Kind.MASK_REQUEST, self._round, sections), formula, bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Count one client's mask, and keep what it sent for the others."""
        receipt = super().accept(client, reply)
        self._replies[client] = reply.sections[Section.MASK], receipt
        self.state.held[client] = self.state.posterior.updates
        return receipt

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Update the posterior; what clients sent leads to it."""
        columns = super().finish_round(enough)
        if enough:
            state, replies = self.state, sorted(self._replies.items())
            payloads = {client: payload for client, (payload, _) in replies}
            state.links.append(write_round(self._round, payloads))
            extra = 4.0 * self._buffers.count
            receipts = [receipt for _, (_, receipt) in replies]
            state.formulas.append(sum(r.formula_bytes - extra for r in receipts))
            state.bounds.append(sum(r.bound_bytes - extra for r in receipts))
            while sum(map(len, state.links)) > len(self._payload):
                for kept in (state.links, state.formulas, state.bounds):
                    kept.pop(0)  # θ itself is shorter, for whoever would need it
        return columns

    def forget(self, client: int) -> None:
        """Serve this client from no θ again."""
        self.state.held.pop(client, None)
