"""The configuration: TOML there and back, and errors that name the key."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfl.config import RULES, Experiment, from_mapping, from_toml, to_mapping, to_toml
from mpfl.errors import InputError
from mpfl.nested import with_override
from mpfl.presets import load_table


def leaves(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


ALL = dict(leaves(to_mapping(Experiment())))


def test_the_default_experiment_survives_toml():
    assert from_toml(to_toml(Experiment())) == Experiment()
    assert from_toml("") == Experiment()


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.001, 1.0),
    st.sampled_from(["budget", "quorum(0.7)", "trimmed(2)"]),
    st.integers(1, 500),
    st.booleans(),
)
def test_any_experiment_survives_toml(seed, density, vote, clients, weighted):
    table = {
        "seed": seed,
        "prune": {"density": density, "vote": vote, "weighted": weighted},
        "data": {"clients": clients},
    }
    experiment = from_mapping(table)
    assert experiment.prune.density == density
    assert experiment.data.clients == clients
    assert from_toml(to_toml(experiment)) == experiment
    assert from_mapping(to_mapping(experiment)) == experiment


def test_the_resolved_form_holds_every_field():
    names = {item.name for item in dataclasses.fields(Experiment)}
    assert set(to_mapping(Experiment())) == names
    for name in names - {"seed", "method", "plugins"}:
        section = getattr(Experiment(), name)
        fields = {item.name for item in dataclasses.fields(section)}
        assert set(to_mapping(Experiment())[name]) == fields


def test_an_experiment_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Experiment().prune.density = 0.5  # type: ignore[misc]


@pytest.mark.parametrize("key", sorted(ALL))
def test_every_key_refuses_a_value_of_the_wrong_type_by_name(key):
    wrong = 3 if isinstance(ALL[key], str) else "three"
    with pytest.raises(ValueError, match=rf"^{key.replace('.', '[.]')}: got"):
        from_mapping(with_override({}, key, wrong))


@pytest.mark.parametrize("key", sorted(k for k, v in ALL.items() if type(v) is int))
def test_a_flag_is_no_number(key):
    with pytest.raises(ValueError, match="expected a whole number"):
        from_mapping(with_override({}, key, True))


@pytest.mark.parametrize("key", sorted(k for k, v in ALL.items() if type(v) is float))
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_floats_are_finite(key, value):
    with pytest.raises(ValueError, match=f"{key}: got {value}, expected a finite number"):
        from_mapping(with_override({}, key, value))


def test_a_whole_number_serves_as_a_float():
    density = from_mapping({"prune": {"density": 1}}).prune.density
    assert density == 1.0
    assert type(density) is float


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"sed": 1}, r"unknown key 'sed'; did you mean 'seed'\?"),
        (
            {"prune": {"densty": 0.1}},
            r"unknown key 'prune.densty'; did you mean 'prune.density'\?",
        ),
        ({"prune": 3}, "prune: got 3, expected a table"),
        ({"prune": {"rounds": "x"}}, "prune.rounds: got 'x', expected a whole number"),
        ({"prune": {"density": "x"}}, "prune.density: got 'x', expected a number"),
        ({"prune": {"vote": 3}}, "prune.vote: got 3, expected text"),
        ({"prune": {"density": 0.0}}, "prune.density: got 0.0, expected 0 < density <= 1"),
        ({"prune": {"density": 1.5}}, "prune.density: got 1.5"),
        ({"prune": {"tie": "toss"}}, "prune.tie: unknown value 'toss'"),
        ({"prune": {"granularity": "filtr"}}, "did you mean 'filter'"),
        ({"prune": {"vote": "quorum(0.5"}}, r"prune.vote: cannot read 'quorum\(0.5'"),
        ({"data": {"partition": "Dirichlet"}}, "data.partition: cannot read"),
        ({"train": {"lr": 0.0}}, "train.lr: got 0.0, expected a positive number"),
        ({"train": {"momentum": 1.0}}, "train.momentum: got 1.0"),
        ({"train": {"optimizer": "adm"}}, "did you mean 'adam'"),
        ({"train": {"lr_decay": "cosine("}}, "train.lr_decay: cannot read"),
        ({"model": {"batch_norm": "frozen"}}, "model.batch_norm"),
        ({"faults": {"straggle": 1.1}}, "faults.straggle: got 1.1, expected 0 to 1"),
        ({"wire": {"mask_classes": 65}}, "wire.mask_classes: got 65, expected 1 to 64"),
        ({"engine": {"workers": -2}}, "engine.workers"),
        ({"engine": {"vectorised": -1}}, "engine.vectorised"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 2**32}, "seed: got 4294967296"),
        (
            {"federation": {"clients_per_round": 11}, "data": {"clients": 10}},
            "at most data.clients = 10",
        ),
    ],
)
def test_bad_values_name_the_key_what_was_got_and_what_is_allowed(table, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(table)


@pytest.mark.parametrize(
    ("key", "worst"),
    [
        ("data.clients", 0),
        ("data.train_samples", -1),
        ("data.test_samples", -1),
        ("train.epochs", 0),
        ("train.batch_size", 0),
        ("train.weight_decay", -0.1),
        ("train.clip", -1.0),
        ("prune.rounds", 0),
        ("prune.epochs", -1),
        ("prune.min_units", -1),
        ("prune.score_samples", -1),
        ("prune.regrow_fraction", 0.0),
        ("prune.regrow_every", 0),
        ("prune.gate", 1.1),
        ("prune.converged", 1.0),
        ("prune.alpha_fc", 0.0),
        ("prune.alpha_conv", 1.1),
        ("federation.rounds", 0),
        ("federation.clients_per_round", -1),
        ("federation.min_replies", 0),
        ("federation.eval_every", 0),
        ("stop.target_accuracy", 1.1),
        ("stop.byte_budget", -1),
        ("stop.seconds", -1.0),
        ("engine.timeout", 0.0),
        ("engine.checkpoint_every", 0),
    ],
)
def test_values_out_of_range_name_the_key(key, worst):
    with pytest.raises(ValueError, match=rf"^{key}: got {worst}, expected"):
        from_mapping(with_override({}, key, worst))


@pytest.mark.parametrize(
    ("device", "vectorised", "together"),
    [("cpu", 0, 0), ("cpu", 1, 0), ("cpu", 8, 8), ("cuda", 0, 32), ("cuda", 1, 1), ("cuda", 8, 8)],
)
def test_clients_are_trained_together_where_asked_for_and_on_a_gpu(device, vectorised, together):
    table = {"train": {"device": device}, "engine": {"vectorised": vectorised}}
    assert from_mapping(table).together == together


ODD = {
    "a number": 3,
    "negative": -1,
    "beyond 64 bits": 10**30,
    "four hundred digits": 10**400,
    "unprintable digits": 1 << 40_000,
    "large": 1e300,
    "small": 1e-300,
    "nothing": "",
    "a list": [1],
    "a table": {"a": 1},
    "brackets": "a(b(c))",
    "many brackets": "(" * 5000,
    "control": "\x1b[31m\n",
    "a page": "x" * 10**6,
    "a date": datetime.date(2020, 1, 1),
}


@pytest.mark.parametrize("kind", ODD)
def test_no_key_answers_an_odd_value_with_more_than_a_line(kind):
    for key in ALL:
        with contextlib.suppress(InputError):
            from_mapping(with_override({}, key, ODD[kind]))
            continue
        with pytest.raises(InputError) as raised:
            from_mapping(with_override({}, key, ODD[kind]))
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 500


@pytest.mark.parametrize("value", [None, [], 10**30])
@pytest.mark.parametrize("key", RULES)
def test_what_is_made_in_python_is_checked_by_name_as_well(key, value):
    table, _, name = key.rpartition(".")
    make = type(getattr(Experiment(), table)) if table else Experiment
    if value == 10**30 and type(ALL[key]) is float:
        value = -1.0
    with pytest.raises(InputError, match=key):
        make(**{name: value})


@pytest.mark.parametrize("depth", [50, 100_000])
def test_keys_nested_without_end_are_refused(depth):
    with pytest.raises(InputError, match="nested that deeply"):
        with_override({}, ".".join("a" * depth), 1)


class TestExtends:
    def test_tables_are_merged_along_a_chain_of_files_and_presets(self, tmp_path):
        (tmp_path / "inner").mkdir()
        base = tmp_path / "inner" / "base.toml"
        base.write_text('extends = "demo"\nseed = 3\n[train]\nlr = 0.5\nepochs = 7\n')
        top = tmp_path / "top.toml"
        top.write_text('extends = "inner/base.toml"\n[train]\nlr = 0.25\n')
        table = load_table(str(top))
        assert "extends" not in table
        found = from_mapping({key: value for key, value in table.items() if key != "compare"})
        assert (found.seed, found.train.lr, found.train.epochs) == (3, 0.25, 7)
        assert found.prune.ranking == "erk"
        assert table["compare"] == load_table("demo")["compare"]

    def test_a_path_begins_at_the_file_that_names_it(self, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "base.toml").write_text("seed = 5\n")
        (tmp_path / "a" / "x.toml").write_text('extends = "../base.toml"\n')
        assert load_table(str(tmp_path / "a" / "x.toml")) == {"seed": 5}

    def test_a_circle_is_refused_with_its_files(self, tmp_path):
        (tmp_path / "a.toml").write_text('extends = "b.toml"\n')
        (tmp_path / "b.toml").write_text('extends = "a.toml"\n')
        with pytest.raises(InputError, match=r"extends itself: .*a.toml -> .*b.toml -> .*a.toml"):
            load_table(str(tmp_path / "a.toml"))

    def test_text_for_flower_takes_a_preset_without_its_comparison(self):
        found = from_toml('extends = "demo"\ndata.clients = 2\n')
        table = {key: value for key, value in load_table("demo").items() if key != "compare"}
        assert found == from_mapping(with_override(table, "data.clients", 2))
        with pytest.raises(InputError, match="unknown preset 'dem'"):
            from_toml('extends = "dem"')
