"""Spaces: what is read, what a point sets, what is refused; defaults for every method."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.running.compare_config import CompareConfig
from benchmarks.running.tune_config import TuneConfig
from benchmarks.tuning.space import Axis, Choice, Range, Space, read_space
from benchmarks.tuning.studies import Study, plan_tuning
from mpfl.config import to_mapping
from mpfl.errors import InputError
from mpfl.recipes import recipes
from server.methods import METHODS
from tests.federation import tiny


def read(table: dict[str, Any], left_out: tuple[str, ...] = ()) -> Space:
    return read_space(table, "here", left_out)


def studies(label: str, space: dict[str, Any] | None = None, **keys: Any) -> Study:
    asked = keys.pop("compare", {})
    config = CompareConfig(methods=["fedavg"], **asked)
    tune = TuneConfig(methods=[label], space={} if space is None else {label: space})
    plan = plan_tuning(to_mapping(tiny(**keys)), config, tune)
    return next(study for study in plan.studies if study.cell.label == label)


def test_every_notation_is_read() -> None:
    space = read(
        {
            "train.lr": "log(0.01, 1)",
            "prune.density": "uniform(0.1, 0.5)",
            "train.momentum": [0.0, 0.9],
            "wire.up": "step({size}, {gap})",
            "size": "whole(1, 8)",
            "gap": [0.5],
        }
    )
    assert space.axes == {
        "train.lr": Range(0.01, 1, log=True),
        "prune.density": Range(0.1, 0.5),
        "train.momentum": Choice((0.0, 0.9)),
        "size": Range(1, 8, whole=True),
        "gap": Choice((0.5,)),
    }
    point = {
        "train.lr": 0.0123456,
        "prune.density": 0.25,
        "train.momentum": 0.9,
        "size": 3,
        "gap": 0.5,
    }
    assert space.settings(point) == {
        "train.lr": 0.0123,
        "prune.density": 0.25,
        "train.momentum": 0.9,
        "wire.up": "step(3, 0.5)",
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no values": ({"train.lr": []}, r"here\.train\.lr: got \[\], expected a list of at least one"),
    "a value twice": ({"train.lr": [1, 1]}, r"here\.train\.lr: 1 stands there twice"),
    "a table": ({"train.lr": {}}, r"here\.train\.lr: got \{\}, expected a list, or log"),
    "an unknown range": ({"train.lr": "lag(1, 2)"}, r"here\.train\.lr: unknown range 'lag'"),
    "ends exchanged": ({"train.lr": "uniform(2, 1)"}, "expected low < high"),
    "the logarithm of nothing": ({"train.lr": "log(0, 1)"}, "expected 0 < low < high"),
    "a hole": ({"wire.up": "step({size})"}, r"here: \{size\} stands for nothing"),
    "rounds": ({"federation.rounds": [1, 2]}, r"here\.federation\.rounds: every method gets"),
    "local work": ({"train.epochs": [1, 2]}, r"here\.train\.epochs: every method gets"),
    "data": ({"data.partition": ["iid"]}, r"here\.data\.partition: every method gets"),
    "the seed": ({"seed": [1]}, r"here\.seed: every method gets"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str) -> None:
    table, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        read(table)


def test_what_is_left_out_is_left_out_with_what_it_needs() -> None:
    table = {"wire.up": "step({size})", "size": [1.0], "train.lr": [0.1]}
    assert read(table, ("wire.*",)) == Space({"train.lr": Choice((0.1,))}, {})


@given(st.floats(1e-4, 1e3), st.floats(1e-4, 1e3), st.floats(0, 1), st.booleans())
def test_a_number_as_it_is_written_is_within_its_range(
    low: float, high: float, share: float, log: bool
) -> None:
    if low >= high:
        return
    axis = Range(low, high, log)
    value = low + share * (high - low)
    written = axis.written(value)
    assert low <= written <= high
    assert written == pytest.approx(value, rel=0.006)


def test_the_point_nearest_to_the_configuration() -> None:
    axes: dict[str, Axis] = {
        "a.low": Range(1, 2),
        "a.high": Range(1, 2),
        "a.in": Range(1, 2),
        "size": Range(1, 100, log=True),
        "a.known": Choice((1, 2)),
        "a.unknown": Choice((1, 2)),
    }
    values = {"a.low": 0, "a.high": 7, "a.in": 1.5, "a.known": 2.0, "a.unknown": 3}
    assert Space(axes, {}).nearest(values) == {
        "a.low": 1,
        "a.high": 2,
        "a.in": 1.5,
        "size": 10,
        "a.known": 2,
        "a.unknown": 1,
    }


OWN = {
    "mpfl": "prune.density",
    "ssfl": "prune.density",
    "prunefl": "prune.density",
    "lotteryfl": "prune.density",
    "fedavg_prune": "prune.density",
    "fedpm": "comparator.fedpm_lr",
    "klms": "comparator.fedpm_lr",
    "bicompfl": "comparator.fedpm_lr",
    "signsgd_mv": "comparator.sign_step",
    "dense_step": "step",
    "topk": "sparse",
    "stc": "stc",
    "sbc": "sbc",
    "eden": "eden",
    "powersgd": "lowrank",
    "feddst": "prune.density",
}


@pytest.mark.parametrize("label", [*METHODS.names(), *recipes()])
def test_every_method_and_recipe_has_a_space_of_what_it_reads(label: str) -> None:
    if label == "centralized":
        pytest.skip("has no clients")
    study = studies(label, data__train_samples=240)
    assert set(study.space.settings(study.start)).isdisjoint(study.cell.ignored)
    assert OWN.get(label, "train.lr") in study.space.axes
    assert len(study.space.axes) <= 5


def test_the_first_trial_is_the_configuration() -> None:
    keys: dict[str, Any] = {"train__lr": 0.3, "prune__density": 0.2, "wire__up": "step(2.5, 0.6)"}
    study = studies("mpfl", **keys)
    trial = study.trial(0, study.start)
    assert trial.experiment == study.cell.experiment
    assert study.space.templates == {"wire.up": "step({step}, 0.6)"}


def test_names_in_braces_start_where_the_configuration_is() -> None:
    names = {"size": "log(1, 6)", "gap": [0.5, 0.6], "wire.up": "step({size}, {gap})"}
    study = studies("mpfl", names, wire__up="step(2.5,0.6)")
    assert (study.start["size"], study.start["gap"]) == (2.5, 0.6)
    codec = study.trial(0, study.start).experiment.wire.up
    assert codec == "step(2.5, 0.6)"


def test_both_ways_have_one_step() -> None:
    study = studies("dense_step")
    settings = study.space.settings(study.start | {"step": 3.456})
    assert settings["wire.up"] == settings["wire.down"] == "step(3.46, 0.6)"


def test_what_is_swept_is_not_tuned() -> None:
    study = studies("mpfl", compare={"sweep": {"prune.density": [0.1, 0.2]}})
    assert "prune.density" not in study.space.axes


def test_one_wire_for_all_is_not_tuned() -> None:
    assert studies("mpfl", wire__up="step(2.0)").space.templates
    assert not studies("mpfl", compare={"wire": "step(2.0)"}).space.templates


def test_adam_has_rates_of_its_own_and_no_momentum() -> None:
    axes = studies("fedavg", train__optimizer="adam", train__lr=0.001).space.axes
    assert axes["train.lr"] == Range(0.0001, 0.01, log=True)
    assert "train.momentum" not in axes


def test_the_users_space_goes_before_the_default() -> None:
    study = studies("mpfl", {"train.lr": [0.1, 0.2], "prune.vote": ["budget", "majority"]})
    assert study.space.axes["train.lr"] == Choice((0.1, 0.2))
    assert study.space.axes["prune.vote"] == Choice(("budget", "majority"))
    assert "prune.density" in study.space.axes


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"prune.density": [0.1, 2.0]}, r"tune\.space\.mpfl\.prune\.density: prune\.density: got"),
        ({"wire.up": "stup({x})", "x": [1]}, r"tune\.space\.mpfl: \S+: unknown value codec"),
        ({"train.rl": [0.1]}, r"tune\.space\.mpfl: unknown key 'train\.rl'"),
        (
            {"model.size": "log(0.0001, 1)"},
            r"tune\.space\.mpfl\.model\.size: .*parameters at least",
        ),
        ({"train.batch_size": "uniform(1, 4)"}, r"tune\.space\.mpfl: train\.batch_size: got"),
    ],
)
def test_a_value_that_is_no_setting_is_refused_before_any_run(
    space: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        studies("mpfl", space)


def test_a_space_for_nobody_is_refused() -> None:
    tune = TuneConfig(methods=["mpfl"], space={"mpfll": {"train.lr": [0.1]}})
    with pytest.raises(InputError, match=r"tune\.space: unknown method 'mpfll'; did you mean"):
        plan_tuning(to_mapping(tiny()), CompareConfig(methods=["mpfl"]), tune)


UNREAD: dict[str, tuple[dict[str, Any], str]] = {
    "a name of no use": (
        {"mpfl": {"size": [1]}},
        r"tune\.space\.mpfl\.size: no key, and it stands in the braces of none \(tuned: train\.",
    ),
    "of no use to all": ({"*": {"size": [1]}}, r"tune\.space\.\*\.size: no key"),
    "in a line that is not tuned": (
        {"mpfl": {"low": [1], "comparator.sign_step": "{low}"}},
        r"tune\.space\.mpfl\.comparator\.sign_step: without effect, mpfl does not read it",
    ),
    "a key that nobody reads": (
        {"*": {"comparator.sign_step": [0.1]}},
        r"tune\.space\.\*\.comparator\.sign_step: without effect, \w+ does not read it",
    ),
    "a key that is swept": (
        {"mpfl": {"prune.density": [0.1]}},
        r"tune\.space\.mpfl\.prune\.density: without effect, the comparison sets it",
    ),
    "no clients": (
        {"centralized": {"train.lr": [0.1]}},
        r"tune\.space: 'centralized' is not tuned: .* \(tuned: mpfl, fedavg\)",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_nobody_would_look_at_is_refused_with_what_is_tuned(name: str) -> None:
    space, message = UNREAD[name]
    asked = CompareConfig(
        methods=["mpfl", "fedavg", "centralized"], sweep={"prune.density": [0.1, 0.2]}
    )
    with pytest.raises(InputError, match=message):
        plan_tuning(to_mapping(tiny()), asked, TuneConfig(space=space))


def test_every_method_takes_of_a_space_for_all_what_it_reads() -> None:
    space = {"*": {"prune.density": [0.1, 0.2], "comparator.fedpm_lr": [0.1]}}
    asked = CompareConfig(methods=["mpfl", "fedpm", "fedavg"])
    plan = plan_tuning(to_mapping(tiny()), asked, TuneConfig(space=space))
    axes = {study.cell.label: study.space.axes.keys() for study in plan.studies}
    assert {label: set(space["*"]) & keys for label, keys in axes.items()} == {
        "mpfl": {"prune.density"},
        "fedpm": {"comparator.fedpm_lr"},
        "fedavg": set(),
    }


def test_a_part_of_a_comparison_is_tuned_beside_spaces_of_the_others() -> None:
    space = {"mpfl": {"prune.density": [0.1]}, "topk": {"train.lr": [0.1]}}
    asked = CompareConfig(methods=["mpfl", "topk", "fedavg"])
    plan = plan_tuning(to_mapping(tiny()), asked, TuneConfig(methods=["mpfl"], space=space))
    assert [study.cell.label for study in plan.studies] == ["mpfl", "fedavg"]


def test_the_seed_of_the_comparison_is_refused() -> None:
    with pytest.raises(InputError, match=r"tune\.seed: got 1, expected a seed of its own"):
        plan_tuning(to_mapping(tiny()), CompareConfig(seeds=[0, 1]), TuneConfig(seed=1))
