"""Steps that a GPU replays are the steps that it would take one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mpfl.network.flat import FlatModel, Manner
from mpfl.training import replay
from mpfl.training.replay import Replayed, side_stream
from mpfl.training.together import Together
from tests.mpfl.training.test_together import OPTIMIZERS, job_of, network, samples_of

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", ["lenet300", "lenet5", "resnet20", "vgg11_plain"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("together", [False, True])
def test_replayed_steps_give_the_same_bits(monkeypatch, name, precision, together):
    config = replace(
        OPTIMIZERS["momentum"], batch_size=4, lr=0.01, precision=precision, device="cuda"
    )
    trained = []
    for warm in (1, 10**6):
        monkeypatch.setattr(replay, "WARM", warm)
        model = FlatModel(network(name).module, Manner(draws="vgg" in name, replays=True))
        jobs = [job_of(model, name, c, samples=samples_of(name, c, "cuda")) for c in range(3)]
        groups = [jobs] if together and "lenet" in name else [[job] for job in jobs]
        trained.append(
            [one for group in groups for one in Together(model, config, config.lr)(group)]
        )
    for found, wanted in zip(*trained, strict=True):
        assert torch.equal(found.values, wanted.values)
        assert torch.equal(found.buffers, wanted.buffers)
        assert found.result == wanted.result


def test_another_shape_is_computed_and_what_was_recorded_stays():
    seen = []
    total = torch.zeros(1, device="cuda")

    def step(part):
        seen.append(len(part))
        total.add_(part.sum())
        return total * 2

    replayed = Replayed(step)
    sizes = [4] * 6 + [3] + [4] * 2 + [3] * 6
    with side_stream(total.device):
        for size in sizes:
            assert float(replayed(torch.ones(size, device="cuda"))) == 2 * float(total)
    assert float(total) == sum(sizes)
    assert seen == [4] * 3 + [3] + [3] * 3  # the third of each is recorded


def test_a_step_that_waits_for_the_gpu_is_called_as_it_is():
    def step(part):
        return part * (2 if float(part.sum()) > 3 else 1)

    replayed = Replayed(step)
    with side_stream(torch.device("cuda")):
        for value in range(8):
            part = torch.full((2,), float(value), device="cuda")
            assert torch.equal(replayed(part), step(part))
