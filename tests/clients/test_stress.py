"""Stressed clients: who they are, what they see, what free-riders send."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpfl.faults.stress import stressed_clients
from mpfl.wire.frame import Section
from mpfl.wire.masks import decode_mask
from mpfl.wire.sections import Metrics, mask_context
from mpfl.world import build_world
from tests.federation import Federation, tiny


def differing(kind: str, share: float) -> tuple[set[int], Federation]:
    spoiled = Federation(tiny(faults__stress=share, faults__stress_kind=kind))
    clean = Federation(tiny())
    found = set()
    for number in range(4):
        a, b = spoiled.client(number).samples, clean.client(number).samples
        if not (torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)):
            found.add(number)
    return found, spoiled


@pytest.mark.parametrize("kind", ["pixels", "labels", "noise(0.9)"])
def test_exactly_the_chosen_share_of_clients_sees_spoiled_data(kind: str) -> None:
    found, federation = differing(kind, 0.5)
    assert found == set(stressed_clients(0, 4, 0.5))
    assert len(found) == 2
    assert found == {n for n in range(4) if federation.client(n).stressed}


def test_the_same_data_is_spoiled_the_same_way_every_round() -> None:
    _, federation = differing("labels", 0.25)
    (number,) = stressed_clients(0, 4, 0.25)
    first, again = federation.client(number).samples, federation.client(number).samples
    assert torch.equal(first.targets, again.targets)


def test_no_stress_leaves_everybody_alone() -> None:
    assert differing("labels", 0.0)[0] == set()


def test_free_riders_send_back_what_they_got_and_a_random_ballot() -> None:
    federation = Federation(tiny(faults__stress=0.5, faults__stress_kind="free_rider"))
    world, riders = federation.world, stressed_clients(0, 4, 0.5)
    before = federation.method.mask()
    federation.play()
    within, classes = mask_context(world.classes, before, subset=True)
    ballots = {}
    for number, frame in federation.replies.items():
        payload = frame.sections[Section.MASK]
        ballots[number] = decode_mask(payload, world.layout, within=within, classes=classes)
        loss = Metrics.unpack(frame.sections[Section.METRICS]).loss
        assert (loss == 0.0) == (number in riders)
    target = round(0.2**0.5 * world.layout.total)
    assert {ballot.count() for ballot in ballots.values()} == {target}
    honest = [ballots[n] for n in range(4) if n not in riders]
    # Two random ballots of density p overlap by p / (2 - p); honest ones by far more.
    chance = 0.2**0.5 / (2 - 0.2**0.5)
    assert honest[0].jaccard(honest[1]) > 2 * chance
    for rider in riders:
        assert ballots[rider].jaccard(honest[0]) == pytest.approx(chance, abs=0.02)
    federation.play(2)
    for number in range(4):
        count = world.structure.parameters.total
        start = np.where(federation.survivors()[:count], world.w0, 0)
        assert np.array_equal(federation.trained[number][:count], start) == (number in riders)


def test_stress_that_the_data_cannot_have_is_refused_before_the_run() -> None:
    with pytest.raises(ValueError, match=r"faults\.stress_kind"):
        build_world(tiny(faults__stress=0.5, faults__stress_kind="noise"))
    with pytest.raises(ValueError, match=r"faults\.stress_kind.*did you mean 'labels'"):
        build_world(tiny(faults__stress=0.5, faults__stress_kind="label"))
