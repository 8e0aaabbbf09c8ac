"""What holds for every test: one torch thread, no clock, groups, slow ones first; real data."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

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

collect_ignore = ["plugins"]
"""A user's own files: importing them, as looking for doctests does, registers their parts."""

_DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


GROUPS = {
    "figures": ["benchmarks/figures/test_figures.py"],  # drawn once, for many tests
    "report": ["benchmarks/report/test_write.py"],
    "flower": [  # engines with ports and processes of their own
        "benchmarks/engines/test_cluster.py",
        "benchmarks/engines/test_flower_engines.py",
        "benchmarks/cli/test_bench.py::test_ray_is_timed",
    ],
    "kill": [
        "benchmarks/running/test_comparison_killed.py",
        "benchmarks/running/test_interrupted.py",
        "benchmarks/tuning/test_tuning.py::test_killed",
        "benchmarks/tuning/test_tuning.py::test_the_command_killed",
        "server/test_same_result.py::test_a_run_killed",
        "server/test_same_result.py::test_ctrl_c",
        "server/test_soak.py::test_a_server_killed",
    ],
    "measure": [  # memory and time
        "benchmarks/cli/test_bench.py::test_training_is_timed",
        "benchmarks/speed/test_compact.py::test_compacted_networks",
        "mpfl/wire/test_memory.py::test_what_the_kernel_counts",
        "server/test_population.py::test_memory_of_a_crowd",
        "server/test_soak.py::test_every_fault",
    ],
}
"""Beginnings of tests that one process runs one after another (with ``pytest -n``)."""


def group_of(test: str) -> str:
    """Return the group of a test, by its id; tests without one are groups of their own."""
    inside = test.removeprefix("tests/")
    found = (name for name, starts in GROUPS.items() if inside.startswith(tuple(starts)))
    return next(found, test)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out groups; pytest-xdist 3.8 does not see its own marks under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Groups(config, log)


def _folder() -> Path:
    return Path(os.environ.get("MPFL_TEST_DATA", _DEFAULT))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Long ones first: so two processes end at about one time.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if not torch.cuda.is_available():
        _skip(items, "gpu", "no CUDA device here")
    folder = _folder()
    if not folder.is_dir():
        _skip(items, "data", f"no folder {folder}; set MPFL_TEST_DATA to one with data sets")


def _skip(items: list[pytest.Item], mark: str, reason: str) -> None:
    for item in items:
        if item.get_closest_marker(mark):  # a folder of that name is a keyword as well
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of the real data sets; for tests marked ``data``."""
    return _folder()
