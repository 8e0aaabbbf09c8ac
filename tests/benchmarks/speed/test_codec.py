"""The codec table: complete, consistent, and refusing what makes no sense."""

import pytest

from benchmarks.cli.main import invoke
from benchmarks.speed.codec import ballot_table, codec_table, model_table


def test_every_codec_is_measured_against_the_same_bound():
    rows = codec_table(60_000, [0.05, 0.3])
    names = [row["codec"] for row in rows if row["fraction"] == 0.05]
    for expected in ("mpfl auto", "mpfl rans", "mpfl raw", "zlib", "bitarray sc_encode"):
        assert expected in names
    for row in rows:
        assert row["bits_per_unit"] == pytest.approx(8 * row["bytes"] / 60_000)
        assert row["size_over_bound"] > 0.999
        assert row["encode_mbit_per_second"] > 0
        assert row["decode_mbit_per_second"] > 0
    auto = [row for row in rows if row["codec"] == "mpfl auto"]
    assert all(row["size_over_bound"] <= 1.02 for row in auto)


@pytest.mark.parametrize(("bits", "fraction"), [(0, 0.1), (100, 0.0), (100, 1.0)])
def test_arguments_out_of_range_are_refused(bits, fraction):
    with pytest.raises(ValueError, match="expected"):
        codec_table(bits, [fraction])


def test_recorded_ballots_are_measured_with_what_a_run_knows(tmp_path):
    path = tmp_path / "run"
    keys = {"method": "mpfl", "model.name": "lenet300", "data.name": "digits", "data.clients": 2,
            "train.epochs": 1, "prune.epochs": 1, "prune.rounds": 2, "prune.density": 0.1,
            "prune.schedule": "geometric", "federation.rounds": 3,
            "engine.record_ballots": "true", "engine.workers": 1}  # fmt: skip
    settings = [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]
    assert invoke(["run", "demo", "--quiet", *settings, "--out", str(path)]) == 0
    rows = ballot_table(path)
    assert {row["ballot"] for row in rows} == {"round 1, client 0", "round 2, client 0"}
    for title in ("round 1, client 0", "round 2, client 0"):
        size = {row["codec"]: row["bytes"] for row in rows if row["ballot"] == title}
        assert size["mpfl auto"] <= min(size.values())
        assert size["mpfl matrix"] > 0
        ratio = {row["codec"]: row["size_over_bound"] for row in rows if row["ballot"] == title}
        assert ratio["mpfl auto"] <= 1.02


def test_ballots_of_a_network_are_coded_near_what_the_receiver_does_not_know_yet():
    rows = model_table("lenet300", densities=(0.5, 0.1), train_samples=160)
    auto = {row["ballot"]: row for row in rows if row["codec"] == "mpfl auto"}
    assert list(auto) == ["density 0.5", "density 0.1", "density 0.1 after 0.5"]
    for title in auto:
        size = {row["codec"]: row["bytes"] for row in rows if row["ballot"] == title}
        assert size["mpfl auto"] == min(size[f"mpfl {name}"] for name in ("raw", "rans", "matrix"))


def test_a_network_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="resnet-18"):
        model_table("resnet-18")


def test_a_folder_without_ballots_is_refused(tmp_path):
    with pytest.raises(ValueError, match="run folder"):
        ballot_table(tmp_path)
