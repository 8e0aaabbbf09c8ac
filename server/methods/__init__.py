"""What the server asks and does with the replies: one file per method, as in ``clients``."""

from __future__ import annotations

from collections.abc import Callable

from mpfl.errors import InputError
from mpfl.methods import METHODS as ALL
from mpfl.registry import Registry, parse_spec
from mpfl.world import World
from server.methods import (
    bicompfl,
    centralized,
    fedavg,
    fedavg_prune,
    fedpm,
    klms,
    lotteryfl,
    mpfl,
    prunefl,
    signsgd_mv,
    ssfl,
)
from server.methods.base import Receipt, Request, ServerMethod

METHODS: Registry[Callable[[World], ServerMethod]] = Registry(
    "method",
    {
        "mpfl": mpfl.Mpfl,
        "fedavg": fedavg.FedAvg,
        "fedavg_prune": fedavg_prune.FedAvgPrune,
        "signsgd_mv": signsgd_mv.SignSgd,
        "fedpm": fedpm.FedPm,
        "klms": klms.Klms,
        "bicompfl": bicompfl.BiCompFl,
        "ssfl": ssfl.Ssfl,
        "prunefl": prunefl.PruneFl,
        "lotteryfl": lotteryfl.LotteryFl,
        "centralized": centralized.Centralized,
    },
)
"""The halves of the methods that come with the library."""


def server_method(world: World) -> ServerMethod:
    """Return the server half of the world's method, made anew; InputError if unknown."""
    method = world.experiment.method
    make = ALL.bind(method).server or METHODS[parse_spec(method)[0]]
    made = make(world)
    if not isinstance(made, ServerMethod):
        raise InputError(f"method: the server half of {method!r} is no ServerMethod: {made!r}")
    return made


__all__ = ["METHODS", "Receipt", "Request", "ServerMethod", "server_method"]
