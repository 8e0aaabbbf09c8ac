"""Steps that a GPU replays are the steps that it would take one by one."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from mpfl.network.flat import FlatModel, Manner
from mpfl.training import replay
from mpfl.training.replay import Replayed, side_stream
from mpfl.training.together import Together
from tests.mpfl.training.test_together import OPTIMIZERS, job_of, network, samples_of


@pytest.mark.gpu
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


@pytest.mark.gpu
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


@pytest.mark.gpu
def test_a_step_that_waits_for_the_gpu_is_called_as_it_is():
    def step(part):
        return part * (2 if float(part.sum()) > 3 else 1)

    replayed = Replayed(step)
    with side_stream(torch.device("cuda")):
        for value in range(8):
            part = torch.full((2,), float(value), device="cuda")
            assert torch.equal(replayed(part), step(part))


@pytest.mark.parametrize("waits", [False, True])
def test_only_a_step_that_does_not_wait_is_recorded(monkeypatch, waits):
    modes: list[object] = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    monkeypatch.setattr(Replayed, "_record", lambda self, inputs: pytest.fail("recorded"))

    def step(part):
        if modes[-1] == "warn":
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
            warnings.warn("of the network's own", stacklevel=1)
            if waits:
                warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        return part

    replayed, part = Replayed(step), torch.ones(2)
    assert replayed(part) is part
    with pytest.warns(UserWarning, match="own") as said:
        assert replayed(part) is part
    assert (len(said), modes) == (1, [0, "warn", 0])
    if waits:
        assert replayed(part) is part
    else:
        with pytest.raises(pytest.fail.Exception, match="recorded"):
            replayed(part)
