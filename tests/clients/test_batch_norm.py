"""What happens to running statistics under each policy, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpfl.training.local import class_accuracy
from mpfl.wire.frame import Section
from mpfl.world import build_world
from server.methods import server_method
from server.summary import client_accuracy, partition_counts
from tests.federation import Federation, tiny

POLICIES = ("aggregate", "local", "freeze")


def play(policy: str, rounds: int = 3) -> Federation:
    federation = Federation(
        tiny(
            data__train_samples=48,
            data__clients=2,
            data__partition="iid",
            model__name="resnet20",
            model__batch_norm=policy,
            train__lr=0.02,
            prune__density=0.5,
            prune__rounds=1,
            prune__vote="budget",
            engine__workers=0,
        )
    )
    federation.play(rounds)
    return federation


@pytest.mark.parametrize("policy", POLICIES)
def test_only_aggregate_pays_for_running_statistics(policy: str) -> None:
    federation = play(policy, rounds=3)
    world = federation.world
    mask = federation.method.mask()
    parameters = int(world.structure.parameter_mask(mask).sum())
    statistics = int(world.structure.buffer_mask(mask).sum())
    assert statistics > 0
    expected = parameters + (statistics if policy == "aggregate" else 0)
    for frames in (federation.replies, federation.requests):
        for frame in frames.values():
            assert abs(len(frame.sections[Section.VALUES]) - 4 * expected) <= 8


def test_aggregate_averages_running_statistics() -> None:
    federation = play("aggregate", rounds=2)
    expected = np.where(federation.survivors(), federation.mean(), 0)
    count = federation.world.structure.parameters.total
    np.testing.assert_allclose(federation.method.model()[count:], expected[count:], atol=2e-6)
    assert not np.allclose(expected[count:], federation.world.b0)


def test_local_statistics_stay_with_each_client() -> None:
    federation = play("local", rounds=2)
    count = federation.world.structure.parameters.total
    kept = [federation.states[n].buffers.copy() for n in range(2)]
    assert not np.allclose(kept[0], kept[1])
    for n in range(2):
        np.testing.assert_array_equal(kept[n], federation.trained[n][count:])
    np.testing.assert_array_equal(federation.method.model()[count:], federation.world.b0)
    federation.play()
    for n in range(2):  # the next round went on from them: one epoch moves them only so far
        moved = np.abs(federation.states[n].buffers - kept[n]).max()
        reset = np.abs(federation.states[n].buffers - federation.world.b0).max()
        assert 0 < moved < reset


def test_frozen_statistics_never_change() -> None:
    federation = play("freeze", rounds=2)
    world, count = federation.world, federation.world.structure.parameters.total
    for n in range(2):
        np.testing.assert_array_equal(federation.trained[n][count:], world.b0)
        assert np.isfinite(federation.trained[n]).all()
        assert federation.states[n].buffers is None
    np.testing.assert_array_equal(federation.method.model()[count:], world.b0)


def test_clients_are_told_the_accuracy_of_the_model_as_it_is_tested() -> None:
    federation = play("local", rounds=3)
    world, method = federation.world, federation.method
    told = client_accuracy(world, method)
    world.model.load_model(method.model())
    inputs, targets = world.data.test.batch(torch.arange(len(world.data.test)))
    world.model.module.train()  # by the batch's own statistics: one batch of all classes
    with torch.no_grad():
        right = (world.model.module(inputs).argmax(-1) == targets).double()
    shares = np.array([right[targets == n].mean().nan_to_num() for n in range(10)])
    counts = np.array(partition_counts(world))
    np.testing.assert_allclose(told, counts @ shares / counts.sum(axis=1))
    world.model.load_model(method.model())  # with the first statistics it says something else
    first = class_accuracy(world.model, world.data.test, 10)
    assert not np.allclose(shares, first)


@pytest.mark.parametrize("policy", POLICIES)
def test_central_training_moves_statistics_unless_they_are_frozen(policy: str) -> None:
    world = build_world(
        tiny(
            method="centralized",
            data__train_samples=48,
            model__name="resnet20",
            model__batch_norm=policy,
        )
    )
    method = server_method(world)
    method.begin_round(1, [])
    method.finish_round(True)
    moved = not np.array_equal(method.model()[world.structure.parameters.total :], world.b0)
    assert moved == (policy != "freeze")
