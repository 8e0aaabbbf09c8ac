"""The table of messages in docs/wire-format.md is what the methods send."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clients.replica import ClientState
from mpfl.world import build_world
from server.methods import METHODS
from tests.federation import WHOLE_REQUESTS, Federation, tiny

PAGE = Path(__file__).parents[2] / "docs" / "wire-format.md"
ROWS = re.findall(
    r"^\| `(\w+)` \| ([A-Z_]+) \| ([A-Z? ]*)\|", PAGE.read_text("utf-8"), re.MULTILINE
)
TABLE = {(method, kind): sections.split() for method, kind, sections in ROWS}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "mpfl": [{"prune__recovery": "finetune"}, {"prune__regrow": "random"}],
    "prunefl": [{"comparator__prunefl_every": 2}],
}
BUFFERS_ONLY = {(name, "UPDATE") for name in ("signsgd_mv", "fedpm", "klms", "bicompfl")}


def experiment(method, **changes):
    changes = {"data__train_samples": 60, "comparator__prunefl_every": 1, **changes}
    return tiny(method=method, federation__rounds=8, **changes)


@pytest.fixture(scope="module")
def world():
    return build_world(experiment("fedavg"))


def messages(world, method):
    """Return the sections that every kind of message was seen to have, over eight rounds."""
    seen = defaultdict(set)
    for changes in [{}, *VARIANTS.get(method, [])]:
        chosen = experiment(method, **changes)
        game = Federation(chosen, replace(world, experiment=chosen))
        for number in range(8):
            anew = [1] if number == 6 and method not in WHOLE_REQUESTS else []
            game.play(lost=[0] if number == 1 else [], uninformed=anew)
            if number == 5:
                game.states[1] = ClientState()
            for frame in (*game.requests.values(), *game.replies.values()):
                seen[frame.kind.name].add(frozenset(section.name for section in frame.sections))
    return seen


@pytest.mark.parametrize("method", [name for name in METHODS.names() if name != "centralized"])
def test_messages_have_the_sections_of_their_row_and_every_row_is_sent(world, method):
    seen = messages(world, method)
    assert set(seen) == {kind for name, kind in TABLE if name == method}
    for kind, found in seen.items():
        listed = TABLE[method, kind]
        assert frozenset.intersection(*found) == {name for name in listed if "?" not in name}
        if (method, kind) in BUFFERS_ONLY:  # the network of this test has none
            listed = [name for name in listed if name != "VALUES?"]
        assert frozenset.union(*found) == {name.rstrip("?") for name in listed}
