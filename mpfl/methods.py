"""What both sides of a run know of a method: its halves, its options, how it writes weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpfl.config import Experiment
from mpfl.registry import Registry
from mpfl.wire.frame import Frame
from mpfl.wire.values import value_codec


@dataclass(frozen=True)
class Codecs:
    """How both halves of a method write weights.

    Attributes
    ----------
    uplink, downlink
        Value codecs, as in `mpfl.wire.values`.
    feedback
        Whether a client adds what a lossy uplink lost to its next update.
    """

    uplink: str = "float32"
    downlink: str = "float32"
    feedback: bool = False

    @classmethod
    def of(cls, experiment: Experiment) -> Codecs:
        """Return what the experiment's method says; 32 bits per value both ways unless it does."""
        method = METHODS.bind(experiment.method)
        return method.codecs(experiment, method.options()) if method.codecs else cls()


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
        (experiment, options) -> how weights are written; None: as 32 bits each.
    """

    client: Callable[[Frame, Any], Frame] | None = None
    server: Callable[[Any], Any] | None = None
    options: Callable[..., Any] = no_options
    codecs: Callable[[Experiment, Any], Codecs] | None = None

    @property
    def description(self) -> str:
        """One line for listings."""
        return (getattr(self.server, "__doc__", "") or "").strip().partition("\n")[0]


def _as_configured(experiment: Experiment, _: None) -> Codecs:
    """What ``[wire]`` says."""
    wire = experiment.wire
    return Codecs(wire.uplink_values, wire.downlink_values, wire.error_feedback)


def _eight_bits(experiment: Experiment, _: None) -> Codecs:
    """Differences, rounded stochastically, which is unbiased and needs no feedback."""
    return Codecs("int8", "int8")


def _largest(experiment: Experiment, _: None) -> Codecs:
    """The largest entries up, with feedback, and all that changed down."""
    fraction = experiment.comparator.topk_fraction
    return Codecs(f"sparse({fraction})", "sparse", feedback=True)


def _signs_down(experiment: Experiment, _: None) -> Codecs:
    """The signs of a vote; what goes up is a mask."""
    return Codecs(downlink="sign")


METHODS: Registry[Method] = Registry(
    "method",
    {
        "mpfl": Method(codecs=_as_configured),
        "fedavg": Method(),
        "fedavg_q8": Method(codecs=_eight_bits),
        "fedavg_prune": Method(),
        "topk": Method(codecs=_largest),
        "signsgd_mv": Method(codecs=_signs_down),
        "fedpm": Method(),
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


def formula_bytes(codec: str, count: int) -> float:
    """Return what a paper would say that `count` values cost: nominal bits, nothing coded."""
    return value_codec(codec).bits_each * count / 8
