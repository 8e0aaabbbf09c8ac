"""The weight-averaging comparators against plain SGD, Flower's own FedAvg and brute force."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from mpfl.average import OverlapMean
from mpfl.models import build_model
from mpfl.seeding import torch_generator
from mpfl.wire.frame import Section
from mpfl.wire.values import decode_values
from server.transport.flower import identify
from tests.federation import Federation, tiny


def test_fedavg_with_one_client_is_plain_sgd():
    experiment = tiny(method="fedavg", data__clients=1, train__lr=0.05)
    game = Federation(experiment)
    world = game.world
    model = build_model(
        "lenet300", world.data.classes, world.data.input_shape, torch_generator(0, "w0")
    )
    inputs, targets = world.data.train.batch(torch.as_tensor(world.parts[0]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for round_number in (1, 2, 3):
        order = torch.randperm(
            len(targets), generator=torch_generator(0, "batches", round_number, 0)
        )
        for index in order.split(32):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[index]), targets[index]).backward()
            optimizer.step()
    game.play(3)
    wanted = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
    moved = np.abs(wanted - world.w0).max()
    assert moved > 0.01
    np.testing.assert_allclose(game.method.model(), wanted, atol=1e-5)


def test_fedavg_is_flowers_own_fedavg_on_the_same_replies():
    game = Federation(tiny(method="fedavg"))
    game.play(2)
    identify(1, 1)
    replies = []
    for number, reply in game.replies.items():
        request = Message(RecordDict(), number + 1, "train")
        values = np.frombuffer(reply.sections[Section.VALUES], np.float32)
        arrays = ArrayRecord({"all": Array(values.copy())})
        metrics = MetricRecord({"num-examples": len(game.world.parts[number])})
        content = RecordDict({"arrays": arrays, "metrics": metrics})
        replies.append(Message(content, reply_to=request))
    arrays, _ = FedAvg().aggregate_train(2, replies)
    assert arrays is not None
    np.testing.assert_allclose(game.method.model(), arrays["all"].numpy(), atol=1e-7)


def test_quantised_averaging_stays_close_to_the_exact_one():
    exact = Federation(tiny(method="fedavg"))
    coarse = Federation(tiny(method="fedavg", wire__up="int8", wire__down="int8"))
    exact.play(3)
    coarse.play(3)
    moved = np.linalg.norm(exact.method.model() - exact.world.w0)
    apart = np.linalg.norm(exact.method.model() - coarse.method.model())
    assert 0 < apart < 0.1 * moved


@pytest.mark.parametrize("schedule", ["one_shot", "geometric"])
def test_fedavg_prune_keeps_the_largest_weights_of_the_mean(schedule):
    game = Federation(
        tiny(
            method="fedavg_prune", prune__schedule=schedule, prune__ranking="flat", prune__rounds=3
        )
    )
    for round_number in (1, 2, 3):
        before = game.method.mask().bools()
        game.play()
        mask, mean = game.method.mask(), game.mean()
        weights = np.abs(mean[: game.world.w0.size][game.world.structure.prunable()])
        density = 0.2 ** (round_number / 3) if schedule == "geometric" or round_number == 3 else 1.0
        count = int(np.floor(density * weights.size + 0.5))
        wanted = np.zeros(weights.size, np.bool_)
        wanted[np.argsort(-np.where(before, weights, -1), kind="stable")[:count]] = True
        assert (mask.bools() == wanted).mean() > 0.9999  # float32 ties at the threshold
        keep = game.world.structure.parameter_mask(mask)
        np.testing.assert_allclose(game.method.model(), np.where(keep, mean, 0), atol=1e-6)


def test_topk_of_everything_is_fedavg():
    exact = Federation(tiny(method="fedavg"))
    sparse = Federation(tiny(method="fedavg", wire__up="sparse", wire__down="sparse"))
    exact.play(3)
    sparse.play(3)
    np.testing.assert_allclose(sparse.method.model(), exact.method.model(), atol=1e-5)


def test_topk_sends_k_entries_and_feedback_loses_nothing_over_time():
    codec = "sparse(0.02)"
    game = Federation(tiny(method="fedavg", wire__up=codec, wire__down="sparse"))
    size = game.world.w0.size
    segments = game.world.parameter_layout.units
    sent = np.zeros((4, size))
    wanted = np.zeros((4, size))
    for _ in range(4):
        public = game.method.model().copy()
        game.play()
        for number, reply in game.replies.items():
            payload = reply.sections[Section.VALUES]
            decoded = decode_values(payload, codec, segments)
            assert np.count_nonzero(decoded) == round(0.02 * size)
            sent[number] += decoded
            wanted[number] += game.trained[number] - public
    owed = np.stack([game.states[number].sent.residual for number in range(4)])
    np.testing.assert_allclose(sent + owed, wanted, atol=1e-5)
    assert np.abs(owed).max() > 1e-3


def test_an_overlap_mean_averages_each_entry_over_those_who_have_it():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 40)).astype(np.float32)
    has = rng.random((5, 40)) < 0.4
    weights = [3, 1, 7, 2, 5]
    means = []
    for order in (range(5), [4, 2, 0, 3, 1]):
        mean = OverlapMean(40, 18)
        for i in order:
            mean.add(values[i], has[i], weights[i])
        means.append(mean.mean(np.full(40, 9.0, np.float32)))
    assert means[0].tobytes() == means[1].tobytes()
    for j in range(40):
        mine = [i for i in range(5) if has[i, j]]
        total = sum(weights[i] for i in mine)
        wanted = sum(weights[i] * values[i, j] for i in mine) / total if mine else 9.0
        assert abs(means[0][j] - wanted) < 1e-6
