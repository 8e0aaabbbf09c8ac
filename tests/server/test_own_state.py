"""What a method of one's own keeps with its clients is there in the next round."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.running.experiment import resume, run
from mpfl.config import Experiment
from mpfl.errors import RunError
from tests.runs import digests, run_small, small

PLUGIN = """
import numpy as np
from clients import train_weights
from mpfl import METHODS, Method
from server import WEIGHTS, WeightMethod

def counting(request, client):
    calls = client.state.own.get("calls", np.zeros(1)) + 1
    assert calls == request.round, f"{calls} calls in round {request.round}"
    client.state.own |= {"calls": calls, "round": np.array(request.round)}
    return train_weights(request, client, client.world.experiment.federation.rounds)

def forgetful(request, client):
    client.state.calls = 1
    return counting(request, client)

class Counting(WeightMethod):
    reads = ("train.*", *WEIGHTS)

METHODS.register("counting", Method(client=counting, server=Counting))
METHODS.register("forgetful", Method(client=forgetful, server=Counting))
"""


@pytest.fixture
def counting(tmp_path: Path) -> Experiment:
    (tmp_path / "own.py").write_text(PLUGIN)
    return small(plugins=[str(tmp_path / "own.py")], method="counting")


@pytest.mark.parametrize("workers", [0, 2])
def test_arrays_by_name_come_back_and_survive_a_restart(
    counting: Experiment, tmp_path: Path, workers: int
) -> None:
    wanted = run(counting, tmp_path / "whole")
    keys = {"plugins": counting.plugins, "method": "counting", "engine__workers": workers}

    def stop(record: dict[str, object]) -> None:
        if record["round"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small(**keys), tmp_path / "cut", on_round=stop)
    assert digests(resume(tmp_path / "cut")) == digests(wanted)


def test_what_would_be_lost_cannot_be_set(counting: Experiment, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no attribute 'calls'"):
        run_small(tmp_path / "run", plugins=counting.plugins, method="forgetful")


def test_what_it_does_not_read_is_told(counting: Experiment, tmp_path: Path) -> None:
    summary = run_small(
        tmp_path / "run", plugins=counting.plugins, method="counting", prune__density=0.3
    )
    assert "prune.density" in summary["health"]["ignored"]
    assert np.isfinite(summary["test_loss"])
