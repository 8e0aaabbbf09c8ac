"""Populations: what a client holds is a function of the client and of the seed, kept nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.running.experiment import resume, run
from mpfl.config import DataConfig
from mpfl.data.digest import data_digests
from mpfl.data.partition import partition
from mpfl.data.summary import summary
from mpfl.data.virtual import contents, held_in_a_round, pooled
from mpfl.errors import InputError, RunError
from mpfl.world import build_world
from tests.federation import tiny

LABELS = np.repeat(np.arange(5), [300, 400, 500, 350, 450])


def divided(clients=1_000_000, spec="virtual(40, 0.3)", seed=0):
    return partition(DataConfig(clients=clients, partition=spec), LABELS, seed)


@pytest.mark.parametrize("client", [0, 7, 999_999])
def test_a_client_holds_n_different_samples_and_the_same_whenever_it_is_asked(client):
    parts = divided()
    held = parts[client]
    assert held.dtype == np.int64
    assert held.shape == (40,)
    assert (np.diff(held) > 0).all()
    assert held[0] >= 0
    assert held[-1] < len(LABELS)
    np.testing.assert_array_equal(held, parts[client])
    np.testing.assert_array_equal(held, divided(clients=2_000_000)[client])
    assert not np.array_equal(held, parts[client - 1 if client else 1])
    assert not np.array_equal(held, divided(seed=1)[client])


def test_a_class_that_is_too_small_repeats_itself():
    held = divided(spec="virtual(2000, 0.001)")[3]
    counts = np.bincount(LABELS[held], minlength=5)
    assert counts.sum() == 2000
    assert len(np.unique(held)) <= 500


def test_what_one_client_holds_does_not_depend_on_who_was_asked_before():
    parts, others = divided(), divided()
    for client in (5, 3, 900_000):
        others[client]
    np.testing.assert_array_equal(parts[12], others[12])


@pytest.mark.parametrize(
    ("alpha", "least", "most"), [(0.01, 0.9, 1.0), (1.0, 0.35, 0.6), (1e4, 0.2, 0.35)]
)
def test_the_class_mix_is_as_uneven_as_alpha_says(alpha, least, most):
    parts = divided(spec=f"virtual(60, {alpha})")
    shares = [np.bincount(LABELS[parts[client]], minlength=5).max() / 60 for client in range(200)]
    assert least <= np.mean(shares) <= most


def test_mixes_are_drawn_evenly_over_the_classes():
    """The mean of Dir(alpha, ..., alpha) is even, whatever the classes' sizes."""
    parts = divided(spec="virtual(50, 0.5)")
    counts = sum(np.bincount(LABELS[parts[client]], minlength=5) for client in range(1500))
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.03)


def test_a_population_is_told_apart_and_added_up_without_asking_anybody():
    parts = divided(clients=10**9)  # who walks over them does not come back
    assert len(parts) == 10**9
    assert held_in_a_round(parts, 25) == 1000
    np.testing.assert_array_equal(pooled(parts), np.arange(len(LABELS)))
    assert sum(map(len, contents(parts))) < 10 * 8 * len(LABELS)
    told = b"".join(contents(parts))
    for other in (divided(), divided(10**9, seed=1), divided(10**9, "virtual(41, 0.3)"),
                  divided(10**9, "virtual(40, 0.31)")):  # fmt: skip
        assert b"".join(contents(other)) != told


def test_a_mean_is_as_exact_as_a_round_is_small() -> None:
    population = {"data__partition": "virtual(60, 0.5)", "federation__clients_per_round": 4}
    assert build_world(tiny(data__clients=10**14, **population)).round_samples == 240
    assert build_world(tiny(federation__clients_per_round=2)).round_samples == 240


def test_every_so_manyth_client_of_a_population_is_counted():
    shown = summary(divided(), LABELS, 5)
    assert (shown.counts.shape, shown.population) == ((1000, 5), 1_000_000)
    assert shown.clients.tolist() == list(range(0, 1_000_000, 1000))
    own = np.bincount(LABELS[divided()[5000]], minlength=5)
    assert shown.counts[5].tolist() == own.tolist()
    assert summary(divided(2**62), LABELS, 5).clients[-1] == 2**62 * 999 // 1000
    assert shown.text().startswith("1000000 clients, of which 1000 clients, 40000 samples")
    few = summary(divided(clients=30), LABELS, 5)
    assert few.counts.shape == (30, 5)
    assert few.text().startswith("30 clients, 1200 samples")


@pytest.mark.parametrize(
    ("spec", "text"),
    [("virtual(0, 0.3)", "1 to 2000"), ("virtual(2001, 0.3)", "1 to 2000, got 2001"),
     ("virtual(10, 0)", "alpha"), ("virtual(10)", "takes"), ("virtual(1.5, 1)", "1.5")],
)  # fmt: skip
def test_unfit_arguments_are_refused(spec, text):
    with pytest.raises(InputError, match=text) as caught:
        divided(spec=spec)
    assert str(caught.value).startswith("data.partition")


def test_other_partitions_need_a_sample_for_each_client():
    with pytest.raises(InputError, match=r"data.clients: got 1000000, expected at most the 2000"):
        divided(spec="iid")


POPULATION = {"data__clients": 1_000_000, "data__partition": "virtual(30, 0.5)",
              "federation__clients_per_round": 3, "federation__rounds": 4}  # fmt: skip


def test_the_digests_of_a_run_tell_populations_apart():
    worlds = [build_world(tiny(**{**POPULATION, **change})) for change in
              ({}, {}, {"data__clients": 999_999}, {"seed": 1})]  # fmt: skip
    found = [data_digests(world.data, world.parts)["partition"] for world in worlds]
    assert found[0] == found[1]
    assert len(set(found)) == 3
    prints = [world.fingerprint.data for world in worlds]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


@pytest.mark.parametrize("method", ["mpfl", "lotteryfl", "fedavg"])
def test_a_run_of_a_million_resumed_equals_the_uninterrupted_one(tmp_path: Path, method: str):
    experiment = tiny(**POPULATION, method=method)
    whole = run(experiment, tmp_path / "whole", workers=0)

    def stop(record):
        if record["round"] == 2:
            raise RunError("killed")

    with pytest.raises(RunError, match="killed"):
        run(experiment, tmp_path / "halves", stop, workers=0)
    halves = resume(tmp_path / "halves", workers=0)
    for kind in ("mask", "model", "payload"):
        assert whole[f"{kind}_digest"] == halves[f"{kind}_digest"]
    rows = (tmp_path / "whole" / "ledger.csv").read_text().splitlines()
    assert 10 < len(rows) < 40
    assert (tmp_path / "whole" / "checkpoint" / "latest").stat().st_size < 20e6
