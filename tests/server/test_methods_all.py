"""What every method must do: one result in any order and after restarts; bad replies unseen."""

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.running.experiment import run
from clients.client import Client
from clients.methods import METHODS as CLIENT_METHODS
from clients.replica import ClientState
from mpfl.recipes import recipes
from mpfl.wire import Section, WireError
from mpfl.world import build_world
from server.methods import METHODS
from tests.federation import WHOLE_REQUESTS, Federation, tiny
from tests.runs import digests

COMPARATORS = [
    "fedavg",
    "fedavg_q8",
    "fedavg_prune",
    "topk",
    "signsgd_mv",
    "fedpm",
    "klms",
    "bicompfl",
    "ssfl",
    "prunefl",
    "lotteryfl",
]
ALL = ["mpfl", *COMPARATORS]
NAMED = {
    Section.MASK: "mask",
    Section.VALUES: "values|rans",
    Section.SCORES: "values",
    Section.METRICS: "metrics",
}
"""How the refusal of a damaged section begins."""


def experiment(method, **overrides):
    return tiny(method=method, comparator__prunefl_every=1, train__lr_decay="cosine", **overrides)


@pytest.fixture(scope="module")
def world():
    """Everything but the method is the same for all: build it once."""
    return build_world(experiment("fedavg"))


def rounds(world, method, **overrides):
    chosen = experiment(method, **overrides)
    return Federation(chosen, replace(world, experiment=chosen))


def test_both_halves_of_every_method_are_registered():
    assert METHODS.names() == CLIENT_METHODS.names()
    assert {*METHODS.names(), *recipes()} >= {*ALL, "centralized"} >= set(METHODS.names())


@pytest.mark.parametrize("method", ALL)
def test_the_order_of_replies_does_not_matter(world, method):
    runs = [rounds(world, method) for _ in range(2)]
    shuffle = random.Random(1)
    runs[0].play(3)
    runs[1].play(3, order=lambda clients: shuffle.sample(clients, len(clients)))
    assert runs[0].digest() == runs[1].digest()
    assert np.isfinite(runs[0].method.model()).all()
    assert not np.array_equal(runs[0].method.model(), np.concatenate([world.w0, world.b0]))


@pytest.mark.parametrize("method", ALL)
def test_a_restarted_server_goes_on_to_the_same_result(world, method, tmp_path):
    runs = [rounds(world, method, federation__clients_per_round=2) for _ in range(2)]
    runs[0].play(4)
    for _ in range(4):
        runs[1].restart(tmp_path / "checkpoint")
        runs[1].play()
    assert runs[0].digest() == runs[1].digest()


@pytest.mark.parametrize("method", COMPARATORS)
def test_the_number_of_workers_does_not_matter(method, tmp_path):
    chosen = experiment(method, federation__rounds=2)
    results = [digests(run(chosen, tmp_path / str(n), workers=n)) for n in (0, 1, 2)]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("method", ALL)
def test_lost_replies_and_lost_states_are_noticed_and_mended(world, method):
    game = rounds(world, method)
    game.play()
    game.play(lost=[0, 2])
    game.states[1] = ClientState()
    game.play(uninformed=[] if method in WHOLE_REQUESTS else [1])
    game.play()
    assert set(game.replies) == {0, 1, 2, 3}
    assert np.isfinite(game.method.model()).all()


@pytest.mark.parametrize("method", ALL)
def test_a_round_without_replies_changes_nothing(world, method):
    game = rounds(world, method)
    game.play(2)
    before = game.method.model().copy(), game.method.mask()
    game.play(lost=range(4))
    assert np.array_equal(before[0], game.method.model())
    assert before[1] == game.method.mask()


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("round_number", [1, 3])
def test_a_damaged_reply_is_refused_and_leaves_no_trace(world, method, round_number):
    games = [rounds(world, method) for _ in range(2)]
    for game in games:
        game.play(round_number - 1)
    games[0].play()
    games[1].number += 1
    games[1].method.begin_round(round_number, list(games[0].requests))
    for number, reply in games[0].replies.items():
        games[1].method.request(number)
        for section, payload in reply.sections.items():
            for wrong in (payload[:-1], payload + b"\0", b""):
                if wrong != payload:
                    bad = replace(reply, sections={**reply.sections, section: wrong})
                    with pytest.raises(WireError, match=rf"^({NAMED[section]})[.:]"):
                        games[1].method.accept(number, bad)
        games[1].method.accept(number, reply)
    games[1].method.finish_round(True)
    assert np.array_equal(games[0].method.model(), games[1].method.model())
    assert games[0].method.mask() == games[1].method.mask()


@pytest.mark.parametrize("method", COMPARATORS)
def test_bounds_and_formulas_are_booked_beside_the_size(world, method):
    game = rounds(world, method, wire__mask_codec="auto")
    game.play(2)
    game.number += 1
    game.method.begin_round(game.number, [0])
    request = game.method.request(0)
    size = sum(len(body) for body in request.frame.sections.values())
    assert request.formula_bytes > 0
    assert 0 < request.bound_bytes < 1.03 * size  # codecs that see rows and columns beat it
    assert size < 1.03 * request.bound_bytes + 300  # statistics of small layers
    receipt = game.method.accept(0, _reply(game, request.frame))
    size = sum(len(body) for body in game.replies[0].sections.values())
    assert receipt.formula_bytes > 0
    assert size < 1.03 * receipt.bound_bytes + 300


def _reply(game, frame):
    handle = CLIENT_METHODS[game.world.experiment.method]
    game.replies[0] = handle(frame, Client(game.world, 0, game.states[0]))
    return game.replies[0]
