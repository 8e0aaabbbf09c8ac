"""What a client does with a request: one file per method, mirrored in ``server/methods``."""

from __future__ import annotations

from collections.abc import Callable

from clients.client import Client
from clients.methods import (
    bicompfl,
    centralized,
    fedavg,
    fedpm,
    klms,
    lotteryfl,
    mpfl,
    prunefl,
    signsgd_mv,
    ssfl,
)
from mpfl.methods import METHODS as ALL
from mpfl.registry import Registry, parse_spec
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
        "klms": klms.handle,
        "bicompfl": bicompfl.handle,
        "ssfl": ssfl.handle,
        "prunefl": prunefl.handle,
        "lotteryfl": lotteryfl.handle,
        "centralized": centralized.handle,
    },
)
"""The halves of the methods that come with the library."""


def handler(method: str) -> Handler:
    """Return the client half of a method, as a configuration names it; InputError if unknown."""
    return ALL.bind(method).client or METHODS[parse_spec(method)[0]]
