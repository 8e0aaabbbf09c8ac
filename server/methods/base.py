"""What the round loop needs of a method's server half."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Mask
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.sections import Metrics
from mpfl.world import World

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """A request for one client.

    Attributes
    ----------
    frame
        What is sent.
    formula_bytes
        What the method's paper would say this costs.
    bound_bytes
        Entropy of the content, given what the client holds.
    """

    frame: Frame
    formula_bytes: float = 0.0
    bound_bytes: float = 0.0


@dataclass(frozen=True)
class Receipt:
    """What the ledger books beside the length of an accepted reply; see `Request`.

    Attributes
    ----------
    ballot
        The reply's ballot, if it was one; kept only where the run asks for a record of ballots.
    """

    formula_bytes: float = 0.0
    bound_bytes: float = 0.0
    ballot: Mask | None = None


class ServerMethod(ABC):
    """The server half of a method.

    The loop calls ``begin_round``, then ``request`` for each sampled client, ``accept`` for
    each reply in order of arrival, ``finish_round`` once, and reads ``model`` and ``mask``.
    ``accept`` may run in any order with the same result.
    """

    state: Any
    """What a run keeps between rounds: a dataclass that `mpfl.state` can write."""
    uses_clients: bool = True
    has_ballots: bool = False
    """Whether clients vote on masks, so that malicious ones have something to forge."""
    personalises: bool = False
    """Whether `client_model` differs from client to client."""
    reads: tuple[str, ...] | None = None
    """Patterns of the keys that matter to it, of those of `server.methods.settings.DECLARED`. A run
    tells of others that are set. Each class says it for itself; None: nothing is told."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._round = 0

    @property
    def world(self) -> World:
        """What all parties of the run have in common."""
        return self._world

    @property
    def round(self) -> int:
        """Number of the round, from 1."""
        return self._round

    @property
    def options(self) -> Any:
        """The method's own options; see `mpfl.methods.Method`."""
        return self._world.options

    @property
    def phase(self) -> str:
        """Name of the current phase, for the records (``mask``, ``train``, ...)."""
        return "train"

    def choose(self, round_number: int, clients: Sequence[int]) -> list[int]:
        """Return whom of the sampled clients to ask; all of them, usually."""
        return list(clients)

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Prepare a round with these sampled clients."""
        self._round = round_number

    @abstractmethod
    def request(self, client: int) -> Request:
        """Return what to send to `client` this round."""

    @abstractmethod
    def accept(self, client: int, reply: Frame) -> Receipt:
        """Take in one reply and keep nothing of it.

        Raises
        ------
        WireError
            If the reply is unusable; then nothing has changed. Anything else ends the run.
        """

    @abstractmethod
    def finish_round(self, enough: bool) -> dict[str, Any]:
        """End the round and return further columns of its `RoundRecord`.

        Parameters
        ----------
        enough
            Whether enough replies were usable; if not, mask and model stay as they were.
        """

    @abstractmethod
    def model(self) -> Floats:
        """Return the federated model, float32[P + B]: what clients would be served."""

    def client_model(self, client: int) -> Floats:
        """Return the model that serves `client`: the common one, unless a method personalises."""
        return self.model()

    def mask(self) -> Mask:
        """Return the current global mask: the full one, unless a method prunes."""
        return Mask.full(self._world.layout)

    def forget(self, client: int) -> None:  # noqa: B027 - not every method keeps any
        """Learn that a client lost its state; the next request must not build on any."""

    def restore(self, state: Any) -> None:
        """Go on from a state, in a method newly made from the same experiment."""
        self.state = state


def claimed_samples(
    world: World,
    client: int,
    reply: Frame,
    kind: Kind,
    reads: Collection[Section] | None = None,
    also: Collection[Section] = (),
) -> int:
    """Return the number of samples that a reply of this kind claims.

    Parameters
    ----------
    reads, also
        The sections that the caller reads beside the metrics, and those that it reads where they
        are there; None: it takes whatever comes.

    Raises
    ------
    WireError
        If the reply is of another kind, has other sections, or the client has another number of
        samples.
    """
    if reply.kind is not kind:
        raise WireError("kind", f"expected {kind.name}, got {reply.kind.name}")
    if reads is not None:
        reply.check_sections({Section.METRICS, *reads}, also)
    claimed = Metrics.unpack(reply.sections.get(Section.METRICS, b"")).samples
    expected = len(world.parts[client])
    if claimed != expected:
        raise WireError("metrics", f"client claims {claimed} samples, has {expected}")
    return claimed
