"""What the server asks and does with the replies: one file per method, as in ``clients``."""

from __future__ import annotations

from collections.abc import Callable

from mpfl.registry import Registry
from mpfl.world import World
from server.methods import (
    centralized,
    fedavg,
    fedavg_prune,
    fedpm,
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
        "ssfl": ssfl.Ssfl,
        "prunefl": prunefl.PruneFl,
        "lotteryfl": lotteryfl.LotteryFl,
        "centralized": centralized.Centralized,
    },
)

__all__ = ["METHODS", "Receipt", "Request", "ServerMethod"]
