"""Whatever is wrong with a ``name(argument, ...)``, it is said before any work, by its key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w

from benchmarks.cli.main import invoke
from mpfl.data import DATASETS, PARTITIONS
from mpfl.faults.attacks import ATTACKS
from mpfl.faults.stress import SPOILERS
from mpfl.models import MODELS
from mpfl.ranking import RANKINGS, SCHEDULES
from mpfl.registry import Registry
from mpfl.scores import SCORES
from mpfl.training.decay import DECAYS
from mpfl.vote import RULES
from mpfl.wire import MASK_CODECS, VALUE_CODECS
from server.methods import METHODS
from tests.runs import SMALL

KEYS: dict[str, Registry[Any]] = {
    "method": METHODS,
    "data.name": DATASETS,
    "data.partition": PARTITIONS,
    "model.name": MODELS,
    "train.lr_decay": DECAYS,
    "prune.score": SCORES,
    "prune.ranking": RANKINGS,
    "prune.vote": RULES,
    "prune.schedule": SCHEDULES,
    "wire.mask_codec": MASK_CODECS,
    "wire.up": VALUE_CODECS,
    "wire.down": VALUE_CODECS,
    "faults.attack": ATTACKS,
    "faults.stress_kind": SPOILERS,
}
MAY_BE_EMPTY = ("wire.up", "wire.down")
"""They say nothing then, and the method decides."""
UNFIT = ("(1", ")", "(1)(1)", "(,)", "(1, 1, 1, 1)", "(many)", "(nan)", "(-inf)", "(x=1)")
"""What no part of any kind takes after its name."""

OUT_OF_RANGE = {
    "data.partition": ("dirichlet", "dirichlet(0)", "quantity()", "quantity(-1)", "shards(0)",
                       "shards(1.5)", "shards(1e9)"),
    "model.name": ("lstm(0)", "gru(1.5)"),
    "train.lr_decay": ("exponential", "exponential(a,b)", "exponential(0)", "exponential(1e300)",
                       "cosine(3)", "none(1)", "linear"),
    "prune.score": ("magnitude(l3)", "magnitude(l1, l2)"),
    "prune.vote": ("quorum", "quorum(0)", "quorum(1.1)", "histogram()", "histogram(101)", "trimmed",
                   "trimmed(-1)", "trimmed(1.5)", "trimmed(99)"),
    "wire.up": ("int8(up)", "step(0)", "step(1, 2)", "sparse(0)", "sparse(2)", "stc",
                           "stc(0)", "sbc(2)", "eden(5)", "lowrank(0)", "lowrank(2)|int5",
                           "int8|int4", "lowrank(4)|", "step(1, 0.5, 0.001)", "rd_step(0)",
                           "grid(0)"),
    "faults.attack": ("layer", "layer()", "layer(fc9)"),
    "faults.stress_kind": ("noise", "noise(2)"),
}  # fmt: skip


def unfit() -> Iterator[tuple[str, str]]:
    for key, registry in KEYS.items():
        empty = [] if key in MAY_BE_EMPTY else [""]
        yield from ((key, spec) for spec in (*empty, "()", "nonsense", "nonsense(1)"))
        plain, *rest = registry.names()
        tried = [plain, *(name for name in rest if registry.usage(name) != name)]
        yield from ((key, name + end) for name in tried for end in UNFIT)
        yield from ((key, spec) for spec in OUT_OF_RANGE.get(key, ()))


@pytest.mark.parametrize(("key", "spec"), [*unfit()])
def test_a_malformed_spec_is_one_line_and_status_2(tmp_path, capsys, key, spec):
    config, out = tmp_path / "config.toml", tmp_path / "out"
    config.write_text(tomli_w.dumps(SMALL))
    options = ["--set", f"{key}='{spec}'", "--set", "faults.stress=0.5", "--out", str(out)]
    assert invoke(["run", str(config), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"mpfl: {key}: ")
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("key", KEYS)
def test_a_misspelt_part_is_answered_by_the_nearest(tmp_path, capsys, key):
    name = KEYS[key].names()[-1]
    config = tmp_path / "config.toml"
    config.write_text(tomli_w.dumps(SMALL))
    assert invoke(["run", str(config), "--set", f"{key}={name}e"]) == 2
    assert f"did you mean {name!r}?" in capsys.readouterr().err
