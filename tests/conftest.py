"""What holds for every test: one torch thread, no clock, slow ones first; the real data sets."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script, where Ctrl-C is ignored; child processes would
    # inherit that, and some tests are about what Ctrl-C does to them.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's business.
settings.register_profile("mpfl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mpfl")

_DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def _folder() -> Path:
    return Path(os.environ.get("MPFL_TEST_DATA", _DEFAULT))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: "slow" not in item.keywords)  # two processes end at about one time
    folder = _folder()
    if folder.is_dir():
        return
    skip = pytest.mark.skip(reason=f"no folder {folder}; set MPFL_TEST_DATA to one with data sets")
    for item in items:
        if "data" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of the real data sets; for tests marked ``data``."""
    return _folder()
