"""What both sides of a run know of a method: its halves, its options, how it writes weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpfl.config import Experiment
from mpfl.registry import Registry
from mpfl.wire.frame import Frame
from mpfl.wire.values.draws import DrawCodec


@dataclass(frozen=True)
class Codecs:
    """How weights are written.

    Attributes
    ----------
    up, down
        Value codecs, as in `mpfl.wire.values`, of what clients and what the server sends.
    """

    up: str = "float32"
    down: str = "float32"

    @classmethod
    def of(cls, experiment: Experiment) -> Codecs:
        """Return what ``[wire]`` says and, where it says nothing, the experiment's method."""
        method, wire = METHODS.bind(experiment.method), experiment.wire
        own = method.codecs(experiment, method.options()) if method.codecs else cls()
        return cls(wire.up or own.up, wire.down or own.down)


def no_options() -> None:
    """Take no options."""


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes
    ----------
    client, server
        Its halves: (request, `clients.client.Client`) -> reply, and from a `World` to a
        `server.methods.ServerMethod`. None where it comes with the library, which has them in
        files of its name in ``clients/methods`` and ``server/methods``.
    options
        Usually a frozen dataclass: its fields are what stands in the parentheses of
        ``method = "name(…)"``. Both halves find what it returns as ``options``.
    codecs
        (experiment, options) -> how weights are written where ``wire.up`` and ``wire.down`` say
        nothing; None: as 32 bits each.
    """

    client: Callable[[Frame, Any], Frame] | None = None
    server: Callable[[Any], Any] | None = None
    options: Callable[..., Any] = no_options
    codecs: Callable[[Experiment, Any], Codecs] | None = None

    @property
    def description(self) -> str:
        """One line for listings."""
        return (getattr(self.server, "__doc__", "") or "").strip().partition("\n")[0]


METHODS: Registry[Method] = Registry(
    "method",
    {
        "mpfl": Method(),
        "fedavg": Method(),
        "fedavg_prune": Method(),
        "signsgd_mv": Method(),
        "fedpm": Method(),
        "klms": Method(options=DrawCodec),
        "bicompfl": Method(options=DrawCodec),
        "ssfl": Method(),
        "prunefl": Method(),
        "lotteryfl": Method(),
        "centralized": Method(),
    },
    given=0,
    functions=("options",),
)
"""Every method by name."""


def options_of(experiment: Experiment) -> Any:
    """Return the options of the experiment's method: what its `Method.options` returns.

    Raises
    ------
    InputError
        If there is no such method, or its options do not fit.
    """
    return METHODS.bind(experiment.method).options()
