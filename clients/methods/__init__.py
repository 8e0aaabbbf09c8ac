"""What a client does with a request: one file per method, mirrored in ``server/methods``."""

from __future__ import annotations

from collections.abc import Callable

from clients.client import Client
from clients.methods import (
    centralized,
    fedavg,
    fedpm,
    lotteryfl,
    mpfl,
    prunefl,
    signsgd_mv,
    ssfl,
)
from mpfl.registry import Registry
from mpfl.wire.frame import Frame

Handler = Callable[[Frame, Client], Frame]

METHODS: Registry[Handler] = Registry(
    "method",
    {
        "mpfl": mpfl.handle,
        "fedavg": fedavg.handle,
        "fedavg_prune": fedavg.handle,
        "signsgd_mv": signsgd_mv.handle,
        "fedpm": fedpm.handle,
        "ssfl": ssfl.handle,
        "prunefl": prunefl.handle,
        "lotteryfl": lotteryfl.handle,
        "centralized": centralized.handle,
    },
)
