"""Who was away is sent the sum of what was missed, where updates add up."""

import numpy as np
import pytest

from clients.client import Client
from mpfl.mask import Mask
from mpfl.wire.frame import Section
from mpfl.wire.sections import SNAPSHOT, links_of
from tests.federation import Federation, tiny

GRID = {"wire__up": "grid(1, 0.6)", "wire__down": "grid(1, 0.6)", "train__lr": 0.02}


@pytest.fixture
def play(monkeypatch):
    """Play rounds with the clients named, and hold all models to the server's."""
    plain = Client.train_public

    def play(game, clients, **given):
        keep = game.method.channel.footprint.keep
        model = game.method.state.model.public[keep].copy()

        def train_public(self, replica, *args, **hooks):
            np.testing.assert_array_equal(replica.public[keep], model)
            return plain(self, replica, *args, **hooks)

        with monkeypatch.context() as patch:
            patch.setattr(Client, "train_public", train_public)
            patch.setattr("tests.federation.asked_clients", lambda *_: sorted(clients))
            return game.play(**given)

    return play


def asked(game, client):
    """Return flags and lengths of the links of a client's last request."""
    frame = game.requests[client]
    payload = frame.sections.get(Section.VALUES, b"")
    if frame.sync.flags & SNAPSHOT:
        return frame.sync.flags, [len(payload)]
    return frame.sync.flags, [len(link) for link in links_of(payload)]


@pytest.mark.parametrize("classes", [False, True])
def test_ten_missed_rounds_are_far_shorter_than_ten_messages(play, classes):
    game = Federation(
        tiny(method="fedavg", federation__rounds=12, wire__value_classes=classes, **GRID)
    )
    play(game, {0, 1})
    one = []
    for _ in range(10):
        play(game, {1})
        one += asked(game, 1)[1]
    play(game, {0, 1, 2})
    flags, sizes = asked(game, 0)
    assert not flags & SNAPSHOT
    assert sum(sizes) < 0.35 * sum(one)
    assert sum(asked(game, 2)[1]) < 0.4 * sum(one)  # it was never there before


def test_beside_the_sum_a_step_that_does_not_add_up_costs_each_round(play):
    sizes = {}
    for codec in ("grid(1)", "step(1)"):
        game = Federation(
            tiny(method="fedavg", federation__rounds=8, **{**GRID, "wire__down": codec})
        )
        play(game, {0, 1})
        for _ in range(4):
            play(game, {1})
        play(game, {0, 1})
        sizes[codec] = sum(asked(game, 0)[1])
    assert sizes["grid(1)"] < 0.6 * sizes["step(1)"]


def test_who_was_away_for_longer_than_is_kept_is_sent_all(play):
    game = Federation(tiny(method="fedavg", federation__rounds=4, **GRID))
    play(game, {0, 1})
    for _ in range(2):
        play(game, {1})
    game.method.state.model.updates = game.method.state.model.updates[-1:]
    play(game, {0, 1, 3})
    assert asked(game, 0)[0] & SNAPSHOT
    assert asked(game, 3)[0] & SNAPSHOT
    assert not asked(game, 1)[0] & SNAPSHOT


def test_where_float32_would_round_the_sum_all_is_sent(play):
    game = Federation(tiny(method="fedavg", federation__rounds=5, **GRID))
    model = game.method.state.model
    play(game, {0, 1})
    game.method.publish(model.public + np.float32(40) * (np.arange(model.public.size) == 7))
    play(game, {0, 1})
    assert asked(game, 0)[0] & SNAPSHOT  # two updates, of which one is too large
    play(game, {1})
    play(game, {0, 1})
    assert asked(game, 0)[0] & SNAPSHOT
    assert not asked(game, 1)[0] & SNAPSHOT  # a single update needs no sum


def test_a_lost_reply_leaves_what_the_server_builds_on(play):
    game = Federation(tiny(method="fedavg", federation__rounds=8, **GRID))
    for lost in ((), (), {0}, {0}, ()):
        play(game, {0, 1}, lost=lost)
    assert sorted(game.states[0].values) == [1, 4]
    play(game, {0, 1})
    assert sorted(game.states[0].values) == [4, 5]
    game.states[0].values = {3: game.states[0].values[5]}
    play(game, {0, 1}, uninformed={0})
    assert sorted(game.replies) == [1]
    play(game, {0, 1})
    assert sorted(game.replies) == [0, 1]


def test_what_the_server_builds_on_outlives_a_snapshot_whose_reply_is_lost(play):
    game = Federation(tiny(method="fedavg", federation__rounds=6, **GRID))
    for _ in range(2):
        play(game, {0, 1})
    play(game, {1})
    updates, game.method.state.model.updates = game.method.state.model.updates, []
    play(game, {0, 1}, lost={0})
    assert asked(game, 0)[0] & SNAPSHOT
    game.method.state.model.updates = updates + game.method.state.model.updates
    play(game, {0, 1})
    assert not asked(game, 0)[0] & SNAPSHOT


@pytest.mark.parametrize("rescale", [False, True])
def test_masks_that_shrink_carry_updates_over(play, rescale):
    game = Federation(
        tiny(
            method="mpfl", federation__rounds=9, prune__rounds=6, prune__schedule="geometric",
            prune__recovery="finetune", prune__rescale=rescale, **GRID,
        )
    )  # fmt: skip
    for _ in range(2):
        play(game, {0, 1})
    for _ in range(3):
        play(game, {1})
        assert not asked(game, 1)[0] & SNAPSHOT
    play(game, {0, 1, 2})
    assert not asked(game, 0)[0] & SNAPSHOT
    # who was never there starts from w0 under the newest mask; rescaled, that is another start
    assert bool(asked(game, 2)[0] & SNAPSHOT) == rescale
    assert game.method.mask().density() < 0.5
    for clients in ({0, 2}, {1, 2, 3}, {0, 1, 2, 3}):
        play(game, clients)


def test_votes_start_where_their_clients_do(monkeypatch):
    game = Federation(tiny(method="signsgd_mv", federation__rounds=3, **GRID))
    plain, model = Client.train, game.method.model().copy()

    def train(self, start, *args, **hooks):
        np.testing.assert_array_equal(start, model)
        return plain(self, start, *args, **hooks)

    monkeypatch.setattr(Client, "train", train)
    game.play()


def test_a_restart_goes_on_adding_up(play, tmp_path):
    game = Federation(tiny(method="fedavg", federation__rounds=6, **GRID))
    play(game, {0, 1})
    play(game, {1})
    game.restart(tmp_path / "checkpoint")
    play(game, {0, 1})
    assert not asked(game, 0)[0] & SNAPSHOT
    assert len(game.method.state.model.updates) == 3


@pytest.mark.parametrize("codec", ["grid(1, 0.6)", "step(1, 0.6)"])
def test_who_skipped_a_mask_is_sent_what_it_brought_back(play, monkeypatch, codec):
    settings = {**GRID, "wire__down": codec}
    game = Federation(tiny(method="fedavg", federation__rounds=6, **settings))
    play(game, {0, 1})
    with monkeypatch.context() as patch:  # a round after which the model stays as it is
        patch.setattr(type(game.method), "publish", lambda *_: None)
        play(game, {0, 1})
    full = game.method.mask()
    game.method.change_mask(Mask.from_bools(full.layout, np.arange(full.layout.total) % 3 > 0))
    with monkeypatch.context() as patch:
        patch.setattr(type(game.method), "publish", lambda *_: None)
        play(game, {1, 2})
    game.method.change_mask(full)
    play(game, {0, 1, 2})  # a third of the weights are zero by now, for client 0 as well
    assert asked(game, 0)[0] & SNAPSHOT
    assert asked(game, 1)[1] == []  # it has seen that mask, and holds the newest version
    play(game, {0, 1, 2})
    assert not asked(game, 0)[0] & SNAPSHOT
