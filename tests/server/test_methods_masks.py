"""The comparators that send signs, masks and scores, against brute force and closed forms."""

import numpy as np
import pytest
import torch

from clients.methods import handler, prunefl
from mpfl.mask import Layout, Mask
from mpfl.models import build_model
from mpfl.regrow import reconfigure
from mpfl.seeding import torch_generator
from mpfl.training.posterior import BetaPosterior
from mpfl.training.stochastic_mask import frozen_weights, logits, train_scores
from mpfl.wire.entropy.levels import decode_levels
from mpfl.wire.frame import Section
from mpfl.wire.masks import decode_mask
from mpfl.wire.masks.codecs import MASK_CODECS
from mpfl.wire.sections import share_classes
from mpfl.world import build_world
from server.methods.signsgd_mv import majority_signs
from tests.federation import Federation, tiny


def test_a_sign_vote_moves_every_weight_by_the_sign_of_the_sum():
    game = Federation(tiny(method="signsgd_mv", comparator__sign_step=0.01))
    layout = game.world.parameter_layout
    for _ in range(2):
        before = game.method.model().copy()
        game.play()
        masks = [decode_mask(r.sections[Section.MASK], layout) for r in game.replies.values()]
        total = np.sum([np.where(mask.bools(), 1, -1) for mask in masks], axis=0)
        moved = game.method.model() - before
        np.testing.assert_allclose(np.abs(moved), 0.01, atol=1e-6)
        clear = total != 0
        assert 0 < clear.mean() < 1
        assert np.array_equal(np.sign(moved[clear]), np.sign(total[clear]))
        assert 0.4 < (moved[~clear] > 0).mean() < 0.6


def test_clients_say_the_sign_of_what_changed():
    game = Federation(tiny(method="signsgd_mv"))
    game.play()
    layout = game.world.parameter_layout
    for number, reply in game.replies.items():
        change = game.trained[number] - game.world.w0
        signs = decode_mask(reply.sections[Section.MASK], layout).bools()
        assert np.array_equal(signs[change != 0], change[change != 0] > 0)


def test_majority_signs_equal_brute_force_for_odd_numbers_of_voters():
    rng = np.random.default_rng(1)
    votes = rng.random((7, 500)) < 0.5
    got = majority_signs(votes.sum(axis=0).astype(np.uint32), 7, rng)
    assert np.array_equal(got, np.sign(np.where(votes, 1, -1).sum(axis=0)) > 0)


@pytest.mark.parametrize("reset", [1, 2])
def test_fedpm_aggregates_as_the_closed_form_says(reset):
    game = Federation(tiny(method="fedpm", comparator__fedpm_reset=reset))
    layout = game.world.layout
    levels, top = np.ones(layout.total, np.uint8), 2
    alpha = beta = np.ones(layout.total)
    for number in range(1, 4):
        game.play()
        if (number - 1) % reset == 0:
            alpha = beta = np.ones(layout.total)  # the prior
        classes = share_classes(levels, top)
        for reply in game.replies.values():
            mask = decode_mask(reply.sections[Section.MASK], layout, classes=classes).bools()
            alpha, beta = alpha + mask, beta + ~mask
        game.method.begin_round(number + 1, [0])
        payload = game.method.request(0).frame.sections[Section.VALUES]
        levels, top = decode_levels(payload, layout.units)
        np.testing.assert_allclose(levels / top, (alpha - 1) / (alpha + beta - 2), rtol=1e-12)


def test_fedpm_sends_theta_rounded_once_more_ballots_than_levels_stand_behind_it():
    posterior = BetaPosterior.flat(3).after(np.array([0, 150, 300], np.uint32), 300, 1)
    levels, top = posterior.levels()
    assert top == 255
    assert levels.tolist() == [0, 128, 255]


def test_fedpm_takes_every_mask_codec():
    drawn = {}
    for codec in MASK_CODECS.names():
        game = Federation(tiny(method="fedpm", wire__mask_codec=codec))
        game.play(2)
        drawn[codec] = game.method.model()
    assert all(np.array_equal(model, drawn["raw"]) for model in drawn.values())


def test_fedpm_serves_frozen_constants_under_one_drawn_mask():
    game = Federation(tiny(method="fedpm"))
    game.play(2)
    world, model = game.world, game.method.model()
    for name in world.structure.parameters.names:
        where, shape = world.structure.parameters.place(name)
        values = model[where]
        if name.endswith("bias"):
            assert not values.any()
            continue
        constant = np.sqrt(2 / shape[1])
        assert set(np.round(np.abs(values) / constant, 5).tolist()) == {0.0, 1.0}
        assert np.array_equal(np.sign(values[values != 0]), np.sign(world.w0[where][values != 0]))
    keep = world.structure.parameter_mask(game.method.mask())
    prunable = world.structure.prunable()
    assert np.array_equal(model[prunable] != 0, keep[prunable])


def test_scores_learn_as_autograd_says_with_the_same_draws():
    game = Federation(tiny(method="fedpm", train__epochs=3, train__batch_size=512))
    world, config = game.world, game.world.experiment.train
    samples = world.data.train.subset(torch.as_tensor(world.parts[0])).prepared()
    frozen, maskable = frozen_weights(world.structure, world.w0), world.structure.prunable()
    theta = np.random.default_rng(0).random(int(maskable.sum()), dtype=np.float32)
    got, _ = train_scores(
        world.model,
        samples,
        config,
        frozen,
        maskable,
        theta,
        lr=0.1,
        draws=torch.Generator().manual_seed(1),
        order=torch.Generator().manual_seed(2),
    )
    module = build_model(
        "lenet300", world.data.classes, world.data.input_shape, torch_generator(0, "w0")
    )
    scores = torch.from_numpy(logits(theta)).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.1)
    draws, order = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    places = torch.from_numpy(np.flatnonzero(maskable))
    for _ in range(3):
        for index in torch.randperm(len(samples), generator=order).split(config.batch_size):
            inputs, targets = samples.batch(index)
            probability = torch.sigmoid(scores)
            drawn = (torch.rand(scores.shape, generator=draws) < probability).float()
            through = drawn + probability - probability.detach()
            weights = torch.from_numpy(frozen).index_put(
                (places,), torch.from_numpy(frozen)[places] * through
            )
            named = {
                name: weights[world.structure.parameters.place(name)[0]].view(shape)
                for name, shape in zip(
                    world.structure.parameters.names,
                    world.structure.parameters.shapes,
                    strict=True,
                )
            }
            optimizer.zero_grad()
            out = torch.func.functional_call(module, named, (inputs,))
            torch.nn.functional.cross_entropy(out, targets).backward()
            optimizer.step()
    assert np.abs(got - theta).max() > 0.05
    apart = np.abs(got - torch.sigmoid(scores).detach().numpy())
    assert (apart < 1e-3).mean() > 0.97  # Adam makes much of gradients that are all but zero


def test_ssfl_keeps_the_units_of_the_highest_mean_saliency():
    game = Federation(tiny(method="ssfl", train__batch_size=512))
    game.play()
    world, rows = game.world, []
    for number, reply in game.replies.items():
        module = build_model(
            "lenet300", world.data.classes, world.data.input_shape, torch_generator(0, "w0")
        )
        inputs, targets = world.data.train.batch(torch.as_tensor(world.parts[number]))
        torch.nn.functional.cross_entropy(module(inputs), targets).backward()
        flat = torch.cat([(p * p.grad).abs().detach().flatten() for p in module.parameters()])
        rows.append(flat.numpy()[world.structure.prunable()])
        sent = np.frombuffer(reply.sections[Section.SCORES], np.float32)
        np.testing.assert_allclose(sent, rows[-1], atol=1e-7)
    mean = np.average(np.stack(rows).astype(np.float64), axis=0, weights=game.weights())
    keep = game.method.mask().bools()
    assert keep.sum() == round(0.2 * keep.size)
    assert mean[keep].min() >= mean[~keep].max() - 1e-7
    assert Section.VALUES not in game.method.request(0).frame.sections


def test_prunefl_asks_one_client_first_and_keeps_the_density():
    game = Federation(tiny(method="prunefl", comparator__prunefl_every=1, federation__rounds=6))
    game.play()
    assert len(game.replies) == 1
    first = game.method.mask()
    assert first.density() == pytest.approx(0.2, abs=1e-4)
    (number,) = game.replies
    keep = game.world.structure.parameter_mask(first)
    np.testing.assert_allclose(game.method.model(), np.where(keep, game.trained[number], 0))
    game.play()
    assert Section.SCORES not in game.replies[0].sections
    moved = game.play()["moved"]
    assert Section.SCORES in game.replies[0].sections
    second = game.method.mask()
    assert moved > 0
    assert second.count() == first.count()
    born = game.world.structure.parameter_mask(second) & ~keep
    assert born.any()
    assert not game.method.model()[: born.size][born].any()


def test_reconfiguring_keeps_the_largest_and_lets_gradients_decide_about_the_rest():
    layout = Layout(("a", "b"), (60, 40))
    rng = np.random.default_rng(3)
    before = Mask.from_bools(layout, rng.random(100) < 0.4)
    magnitudes, squares = (rng.random(100).astype(np.float32) for _ in range(2))
    count = before.count()
    after = reconfigure(before, magnitudes, squares, np.zeros(100, np.float32), count, 0.3, 0)
    safe = sorted(np.flatnonzero(before.bools()), key=lambda i: -magnitudes[i])
    safe = safe[: count - int(0.3 * count)]
    rest = sorted(set(range(100)) - set(safe), key=lambda i: -squares[i])[: int(0.3 * count)]
    assert set(np.flatnonzero(after.bools())) == {*safe, *rest}


def test_lotteryfl_sends_each_client_its_own_part_and_gates_pruning():
    game = Federation(tiny(method="lotteryfl", prune__gate=0.3))
    game.play()
    game.play()
    game.play()
    world = game.world
    densities = set()
    for number in range(4):
        game.method.begin_round(4, [number])
        frame = game.method.request(number).frame
        mask = game.method._held(number)
        keep = world.structure.parameter_mask(mask)
        densities.add(mask.density())
        wanted = game.method.model()[keep]
        got = np.frombuffer(frame.sections[Section.VALUES], np.float32)
        np.testing.assert_array_equal(got, wanted)
    assert len(densities) > 1  # some were good enough to prune, some not
    closed = Federation(tiny(method="lotteryfl", prune__gate=1.0))
    closed.play(3)
    assert closed.method.mask() == Mask.full(world.layout)


def test_lotteryfl_averages_each_weight_over_the_clients_that_have_it():
    game = Federation(tiny(method="lotteryfl", prune__gate=0.3))
    game.play(2)
    before = game.method.state.model.copy()
    game.play()
    keeps = [game.world.structure.parameter_mask(game.method._held(n)) for n in range(4)]
    weights = np.stack([w * keep for w, keep in zip(game.weights(), keeps, strict=True)])
    rows = np.stack([game.trained[n] for n in range(4)]).astype(np.float64)
    total = weights.sum(axis=0)
    wanted = np.where(total > 0, (rows * weights).sum(axis=0) / np.maximum(total, 1), before)
    np.testing.assert_allclose(game.method.state.model, wanted, atol=1e-6)


def test_a_ticket_of_few_units_gets_to_the_end_of_its_path():
    experiment = tiny(
        method="lotteryfl", model__name="lenet300", prune__granularity="filter", prune__gate=0.0,
        prune__density=0.2, prune__rounds=4, prune__schedule="geometric", federation__rounds=8,
    )  # fmt: skip
    game = Federation(experiment)
    kept = []
    for _ in range(7):
        game.play()
        kept.append(game.method._held(0).count())
    total = game.world.layout.total
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == round(0.2 * total)
    assert kept[4:] == [kept[-1]] * 3  # dense first, then four steps


def test_fedprox_holds_the_scores_of_a_mask_where_the_round_began():
    """Not at the dense network, towards which it would pull every score."""
    theta = {}
    for loss in ("cross_entropy", "fedprox(10000)"):
        world = build_world(tiny(method="fedpm", train__loss=loss))
        maskable = world.structure.parameter_mask(Mask.full(world.layout))
        maskable &= frozen_weights(world.structure, world.w0) != 0
        start = np.full(int(maskable.sum()), 0.3, np.float32)
        theta[loss], _ = train_scores(
            world.model, world.train_samples, world.experiment.train,
            frozen_weights(world.structure, world.w0), maskable, start, lr=0.1,
            draws=torch_generator(0, "draws"), order=torch_generator(0, "order"),
        )  # fmt: skip
    assert abs(theta["fedprox(10000)"].mean() - 0.3) < 0.05


def test_lotteryfl_follows_a_step_that_changes_with_the_rounds():
    models = []
    for codec in ("step(2.0, 0.6)", "step(2.0, 0.6, 0.1)"):
        game = Federation(tiny(method="lotteryfl", wire__up=codec, wire__down="float32"))
        game.play(4)
        models.append(game.method.model())
    assert not np.array_equal(*models)


def test_a_free_rider_that_is_asked_for_the_first_mask_looks_at_nothing(monkeypatch):
    game = Federation(tiny(method="prunefl", faults__stress=1.0,
                           faults__stress_kind="free_rider"))  # fmt: skip
    monkeypatch.setattr(prunefl, "squared_gradients", None)
    game.play()
    assert game.method.mask().count() == round(0.2 * game.world.layout.total)


def test_statistics_alone_are_booked_where_a_client_has_missed_no_vote():
    game = Federation(tiny(method="signsgd_mv", model__name="resnet20", model__size=0.1))
    game.play()
    for number in (2, 3):
        game.method.begin_round(number, [0])
        request = game.method.request(0)
        game.method.accept(0, handler("signsgd_mv")(request.frame, game.client(0)))
        game.method.finish_round(False)  # nothing new to be voted about
    count = 4 * game.world.travelling_buffers
    assert len(request.frame.sections[Section.VALUES]) == count
    assert request.formula_bytes == request.bound_bytes == count
