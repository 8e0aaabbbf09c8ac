"""Every method that exchanges weights obeys ``wire.up`` and ``wire.down``; all decode the same."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clients.client import Client
from mpfl.mask import Mask
from mpfl.methods import METHODS, Codecs, Method
from mpfl.recipes import recipes
from mpfl.wire.frame import Section
from mpfl.wire.values import value_codec
from mpfl.wire.values.channel import Channel, Memory
from mpfl.world import build_world
from tests.federation import Federation, tiny

WEIGHT_METHODS = ("fedavg", "fedavg_prune", "mpfl", "prunefl", "ssfl")
"""Those whose clients all hold one model; lotteryfl's hold a part each."""
CODECS = (
    "float16",
    "int4",
    "step(2.0, 0.6, 6.0)",
    "rd_step(0.3)",
    "grid(2.0, 0.6)",
    "sparse(0.05)",
    "stc(0.05)",
    "sbc(0.05)",
    "eden(1)",
    "lowrank(2)|int8",
    "sign",
)


@pytest.fixture
def seen(monkeypatch):
    """Record the model that every client trains from."""
    found = {}
    plain = Client.train_public

    def train_public(self, replica, round_number, steps, **hooks):
        found[self.partition] = replica.public
        return plain(self, replica, round_number, steps, **hooks)

    monkeypatch.setattr(Client, "train_public", train_public)
    return found


@pytest.mark.parametrize("method", WEIGHT_METHODS)
@pytest.mark.parametrize("codec", CODECS)
def test_all_clients_decode_the_model_that_the_server_holds(method, codec, seen):
    away = {0: {3}, 1: {3}, 2: {0, 3}, 3: {1}, 4: set(), 5: {2}}
    game = Federation(
        tiny(method=method, wire__up=codec, wire__down=codec, federation__rounds=6, train__lr=0.02)
    )
    compared = 0
    for round_number in range(6):
        seen.clear()
        model, mask = game.method.state.model.public.copy(), game.method.mask()
        keep = game.world.footprint(mask).keep
        # a reply that is lost leaves its client ahead of what the server believes
        game.play(lost=away[round_number])
        for number, public in seen.items():
            np.testing.assert_array_equal(public[keep], model[keep], err_msg=f"client {number}")
            compared += 1
    assert compared > 0


@given(
    codec=st.sampled_from(CODECS),
    classes=st.booleans(),
    present=st.lists(st.sets(st.integers(0, 3), min_size=1), min_size=3, max_size=6),
    lost=st.sets(st.integers(0, 3)),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whoever_was_away_for_some_rounds_decodes_the_same_model(
    codec, classes, present, lost, seen, world, monkeypatch
):
    game = Federation(
        tiny(method="fedavg", wire__up=codec, wire__down=codec, wire__value_classes=classes), world
    )
    for round_number, clients in enumerate(present, start=1):
        seen.clear()
        model = game.method.model().copy()
        with monkeypatch.context() as patch:
            patch.setattr("tests.federation.asked_clients", lambda *_, c=clients: sorted(c))
            game.play(lost=lost if round_number % 2 else ())
        assert set(seen) == clients
        for public in seen.values():
            np.testing.assert_array_equal(public, model)


@pytest.fixture(scope="module")
def world():
    return build_world(tiny(method="fedavg"))


@pytest.mark.parametrize("method", [*WEIGHT_METHODS, "lotteryfl"])
def test_every_method_that_exchanges_weights_obeys_the_wire(method):
    plain, coded = (
        Federation(tiny(method=method, wire__up=codec, wire__down=codec, federation__rounds=5))
        for codec in ("float32", "int4")
    )
    for game in (plain, coded):
        game.play(4)
    for frames in ("requests", "replies"):
        whole, short = (
            sum(
                len(frame.sections.get(Section.VALUES, b""))
                for frame in getattr(g, frames).values()
            )
            for g in (plain, coded)
        )
        assert 0 < short < 0.3 * whole, frames


@pytest.fixture
def thrifty():
    """Lend a method that writes weights in its own way."""
    METHODS.lend("thrifty", Method(codecs=lambda *_: Codecs("sparse(0.05)", "int8")))
    yield "thrifty"
    METHODS.take_back("thrifty")


def test_where_the_wire_says_nothing_the_method_does(thrifty):
    assert Codecs.of(tiny(method=thrifty)) == Codecs("sparse(0.05)", "int8")
    assert Codecs.of(tiny(method=thrifty, wire__up="int4")) == Codecs("int4", "int8")
    assert Codecs.of(tiny(method="ssfl")) == Codecs("float32", "float32")


@pytest.mark.parametrize("codec", CODECS)
def test_what_feedback_keeps_is_what_was_lost(codec, world):
    channel = Channel(
        codec, world.footprint(Federation(tiny(method="fedavg"), world).method.mask())
    )
    rng, memory = np.random.default_rng(0), Memory()
    held = world.initial[channel.footprint.keep]
    total, sent = np.zeros(held.size), np.zeros(held.size)
    for _ in range(4):
        update = rng.normal(size=held.size).astype(np.float32) * np.float32(0.01)
        payload = channel.write(held + update, held, rng, memory)
        total += update
        sent += channel.read(payload, held) - (0 if channel.relative else held)
    owes = value_codec(codec).feedback
    assert (memory.residual is not None) == owes
    if owes:
        np.testing.assert_allclose(sent + memory.residual, total, atol=1e-5)


def test_without_feedback_nothing_is_kept(world):
    footprint = world.footprint(Federation(tiny(method="fedavg"), world).method.mask())
    memory = Memory()
    channel = Channel("step(2.0)", footprint, feedback=False)
    start = world.initial[footprint.keep]
    channel.write(start + np.float32(0.01), start, np.random.default_rng(0), memory)
    assert memory.residual is None


@pytest.mark.parametrize("name", list(recipes()))
def test_every_recipe_runs_and_learns_something(name):
    game = Federation(tiny(method=name, federation__rounds=3))
    game.play(3)
    assert np.abs(game.method.model() - game.world.initial).max() > 1e-3


def test_classes_are_told_from_where_training_under_the_mask_starts():
    # With prune.rescale survivors start above w0: what they were scaled by is no movement.
    world = build_world(tiny(prune__rescale=True, wire__value_classes=True))
    mask = Mask.from_bools(world.layout, np.arange(world.layout.total) % 4 == 0)
    channel = world.channel("up", world.footprint(mask))
    np.testing.assert_array_equal(channel.start, world.start(mask))
    assert not np.array_equal(world.start(mask), world.initial * channel.footprint.keep)
