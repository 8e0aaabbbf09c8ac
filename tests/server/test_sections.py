"""A message has the sections that its method and phase reads, and no others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clients.methods import METHODS as CLIENT_METHODS
from mpfl.state import flatten
from mpfl.wire import Frame, Section, WireError
from mpfl.wire.sections import Metrics, Sync
from mpfl.world import build_world
from server.methods import METHODS
from server.sampling import asked_clients
from tests.federation import Federation, tiny

PAYLOADS = {Section.METRICS: Metrics(60, 0.5).pack(), Section.CONFIG: Sync().pack()}


def with_more(frame: Frame) -> list[Frame]:
    """Return the frame with each section that it has not, empty or full."""
    absent = [section for section in Section if section not in frame.sections]
    bodies = [(section, PAYLOADS.get(section, bytes(8))) for section in absent]
    bodies += [(section, b"") for section in absent]
    return [replace(frame, sections={**frame.sections, s: body}) for s, body in bodies]


@pytest.fixture(scope="module")
def world():
    return build_world(tiny())


@pytest.mark.parametrize("changes", [{}, {"prune__recovery": "finetune"}])
@pytest.mark.parametrize("method", [name for name in METHODS.names() if name != "centralized"])
def test_a_section_that_nobody_asked_for_is_refused(world, method, changes):
    experiment = tiny(method=method, federation__rounds=6, comparator__prunefl_every=2, **changes)
    game = Federation(experiment, replace(world, experiment=experiment))
    for number in range(1, 6):
        client = asked_clients(experiment, game.method, number)[0]
        game.method.begin_round(number, [client])
        request = game.method.request(client).frame
        for bad in with_more(request):
            with pytest.raises(WireError):
                CLIENT_METHODS[method](bad, game.client(client))
        reply = CLIENT_METHODS[method](request, game.client(client))
        before = {name: a.tobytes() for name, a in flatten(game.method.state).items()}
        for bad in with_more(reply):
            with pytest.raises(WireError):
                game.method.accept(client, bad)
        assert before == {name: a.tobytes() for name, a in flatten(game.method.state).items()}
        game.method.accept(client, reply)
        game.method.finish_round(True)
