"""KLMS and BICompFL: what travels are numbers of draws, and everybody comes to the same θ."""

import struct
from unittest.mock import Mock

import numpy as np
import pytest

from mpfl.errors import InputError
from mpfl.training.posterior import prior_of, shared_draws
from mpfl.wire.entropy.levels import decode_levels
from mpfl.wire.frame import Section
from mpfl.wire.sections import SNAPSHOT, links_of
from mpfl.wire.values.draws import DrawCodec
from tests.federation import Federation, tiny


def drawn(game, prior, bits=8):
    """Return the masks of the last round's replies, drawn anew."""
    world = game.world
    return {
        number: DrawCodec(bits)
        .decode(
            reply.sections[Section.MASK],
            prior,
            world.layout,
            shared_draws(world.experiment.seed, game.number, number),
        )
        .bools()
        for number, reply in game.replies.items()
    }


@pytest.mark.parametrize("method", ["klms", "bicompfl"])
@pytest.mark.parametrize("reset", [1, 2])
def test_theta_is_the_mean_of_the_masks_that_the_numbers_stand_for(method, reset):
    game = Federation(tiny(method=method, comparator__fedpm_reset=reset, federation__rounds=3))
    levels, top = np.ones(game.world.layout.total, np.uint8), 2
    kept = ballots = 0
    for number in range(3):
        game.play()
        masks = drawn(game, prior_of(levels, top))
        if number % reset == 0:
            kept = ballots = 0
        kept, ballots = kept + np.sum(list(masks.values()), axis=0), ballots + len(masks)
        levels, top = game.method.state.posterior.levels()
        assert top == ballots
        np.testing.assert_array_equal(levels, kept)


def test_a_mask_up_costs_a_small_part_of_a_bit_a_weight_and_carries_what_was_learned():
    games = {
        name: Federation(tiny(method=name, train__epochs=4, federation__rounds=6))
        for name in ("fedpm", "klms", "klms(4)")
    }
    up = {}
    for name, game in games.items():
        game.play(6)
        sizes = [len(reply.sections[Section.MASK]) for reply in game.replies.values()]
        up[name] = 8 * np.mean(sizes) / game.world.layout.total
    assert up["fedpm"] > 0.9
    assert up["klms(4)"] != up["klms"] < 0.2
    # both learn in which direction from a half: most weights that one keeps, the other does
    shares = {name: game.method.state.posterior.levels() for name, game in games.items()}
    theta = {name: levels / top - 0.5 for name, (levels, top) in shares.items()}
    assert np.corrcoef(theta["fedpm"], theta["klms"])[0, 1] > 0.02


def test_every_client_of_bicompfl_works_out_the_servers_theta():
    away = {0: {3}, 1: {3}, 2: {0, 3}, 3: {1}, 4: set(), 5: {2}}
    game = Federation(tiny(method="bicompfl", federation__rounds=6))
    for number in range(6):
        before = game.method.state.posterior
        game.play(lost=away[number])
        for client, state in game.states.items():
            np.testing.assert_array_equal(state.posterior.kept, before.kept, err_msg=str(client))
            assert (state.posterior.ballots, state.posterior.updates) == (
                before.ballots,
                before.updates,
            )


def test_a_rounds_draws_are_decoded_once_for_all_clients_of_a_worker(monkeypatch):
    game = Federation(tiny(method="bicompfl", federation__rounds=4))
    clients = len(game.world.parts)
    decode = Mock(side_effect=DrawCodec.decode)
    monkeypatch.setattr(DrawCodec, "decode", lambda *arguments: decode(*arguments))
    counted = []
    for _ in range(3):
        decode.reset_mock()
        game.play()
        counted.append(decode.call_count)
    assert counted == [clients, 2 * clients, 2 * clients]  # by the server, and before that once


def test_who_was_away_is_sent_the_rounds_it_missed_or_theta(monkeypatch):
    game = Federation(tiny(method="bicompfl", federation__rounds=30))
    present = {0, 1}
    monkeypatch.setattr("tests.federation.asked_clients", lambda *_: sorted(present))
    game.play(3)
    sections = game.requests[0].sections
    assert game.requests[0].sync.values_version - game.requests[0].sync.values_base == 1
    (link,) = links_of(sections[Section.VALUES])
    replies = struct.pack("<I", len(link))
    assert sections[Section.VALUES] == replies + link
    present.add(2)
    game.play()
    late = game.requests[2]
    assert late.sync.values_base == 0
    assert len(list(links_of(late.sections[Section.VALUES]))) == 3
    present.remove(2)
    game.play(20)
    present.add(3)
    game.play()
    late = game.requests[3]
    assert late.sync.flags == SNAPSHOT
    assert late.sync.values_version == 24
    kept, ballots = decode_levels(late.sections[Section.VALUES], game.world.layout.units)
    assert ballots == 2
    assert kept.max() == 2
    assert len(late.sections[Section.VALUES]) < sum(map(len, game.method.state.links)) + len(link)


def test_forged_ballots_travel_as_the_numbers_that_come_nearest():
    plain, forged = (
        Federation(tiny(method="klms", faults__byzantine=share, faults__attack="colluding"))
        for share in (0.0, 1.0)
    )
    half = np.full(plain.world.layout.total, 32768, np.uint16)
    masks = []
    for game in (plain, forged):
        game.play()
        masks.append(drawn(game, half))
    agreement = [np.mean(part[0] == part[1]) for part in masks]
    assert agreement[1] > agreement[0] + 0.1


def test_more_ballots_than_theta_can_be_sent_with_are_refused():
    with pytest.raises(InputError, match=r"comparator\.fedpm_reset: 256 ballots .* at most 255"):
        Federation(tiny(method="bicompfl", comparator__fedpm_reset=64))


def test_options_are_checked_before_the_run():
    with pytest.raises(InputError, match="method: got 13 bits a block, expected 1 to 12"):
        Federation(tiny(method="klms(13)"))
