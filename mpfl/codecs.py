"""How a method writes weights, and what its paper would say that costs."""

from __future__ import annotations

from dataclasses import dataclass

from mpfl.config import Experiment
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
        """Return what the configuration asks for or, where the method fixes it, its own.

        ``fedavg_q8`` sends eight bits per difference both ways, rounded stochastically, which is
        unbiased and needs no feedback; ``topk`` the largest entries up, with feedback, and all
        that changed down; ``signsgd_mv`` signs down; the others 32 bits per value both ways.
        """
        wire, method = experiment.wire, experiment.method
        if method == "mpfl":
            return cls(wire.uplink_values, wire.downlink_values, wire.error_feedback)
        if method == "fedavg_q8":
            return cls("int8", "int8")
        if method == "signsgd_mv":
            return cls(downlink="sign")
        if method == "topk":
            return cls(f"sparse({experiment.comparator.topk_fraction})", "sparse", feedback=True)
        return cls()


def formula_bytes(codec: str, count: int) -> float:
    """Return what a paper would say that `count` values cost: nominal bits, nothing coded."""
    return value_codec(codec).bits_each * count / 8
