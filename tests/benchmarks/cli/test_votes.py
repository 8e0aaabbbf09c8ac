"""``mpfl votes``: repeats the run's own votes exactly, and judges all rules on its ballots."""

import csv
import json
import shutil

import numpy as np
import pytest

from benchmarks.cli.main import invoke
from benchmarks.results.ballots import judge
from mpfl.mask import Mask
from tests.benchmarks.conftest import edit_rounds
from tests.runs import records, run_small, unseal


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("votes") / "run"
    run_small(
        folder,
        engine__record_ballots=True,
        federation__rounds=3,
        prune__rounds=3,
        prune__vote="trimmed(0.25)",
        prune__schedule="cubic",
        prune__weighted=True,
    )
    return folder


def ballots(folder, number):
    files = sorted((folder / "ballots" / f"round-{number}").iterdir())
    return [Mask.from_bytes(file.read_bytes()) for file in files]


def test_the_used_mask_of_the_last_round_is_the_run_s_mask(run_folder):
    final = Mask.from_bytes((run_folder / "mask.mpfl").read_bytes())
    judged = judge(run_folder)
    assert judged.round == 3
    assert judged.used == final
    own = next(r for r in judged.results if r.rule == "trimmed(0.25)")
    assert own.mask == final
    assert own.ballots == 3


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_round_is_repeated_to_the_recorded_densities(run_folder, number):
    judged = judge(run_folder, number)
    line = records(run_folder)[number - 1]
    assert judged.used.density() == pytest.approx(line["density"])
    votes = np.sum([b.bools() for b in ballots(run_folder, number)], axis=0)
    if number == 1:
        expected = [int((votes == k).sum()) for k in range(5)]
        assert np.sum(list(judged.histogram.values()), axis=0).tolist() == expected
        assert judged.unanimity == pytest.approx((expected[0] + expected[4]) / votes.size)
    any_rule = next(r for r in judged.results if r.rule == "any")
    assert any_rule.mask.bools().tolist() == (votes > 0).tolist()


def test_the_command_prints_a_table_and_writes_csv_and_figure(run_folder, capsys, tmp_path):
    out = tmp_path / "out"
    assert invoke(["votes", str(run_folder), "--round", "2", "--out", str(out)]) == 0
    assert "majority" in capsys.readouterr().out
    with (out / "round-2.csv").open() as file:
        rows = {row["rule"]: row for row in csv.DictReader(file)}
    assert float(rows["any"]["density"]) > float(rows["unanimous"]["density"])
    assert "density of fc1" in rows["any"]
    assert (out / "round-2.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "round-2.svg").read_text()


def test_json_says_what_the_table_says(run_folder, capsys, tmp_path):
    assert invoke(["votes", str(run_folder), "--json", "--out", str(tmp_path)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["round"], shown["ballots"], shown["rule"]) == (3, 4, "trimmed(0.25)")
    assert {row["rule"].partition("(")[0] for row in shown["rules"]} >= {"majority", "trimmed"}


def test_a_run_without_ballots_says_how_to_record_them(tmp_path, capsys):
    folder = tmp_path / "run"
    run_small(folder, federation__rounds=1, prune__rounds=1)
    assert invoke(["votes", str(folder)]) == 2
    error = capsys.readouterr().err
    assert "engine.record_ballots" in error
    assert error.count("\n") == 1
    assert invoke(["votes", str(tmp_path)]) == 2


def test_a_round_without_ballots_names_those_that_have_some(run_folder, capsys):
    assert invoke(["votes", str(run_folder), "--round", "9"]) == 2
    assert "1, 2, 3" in capsys.readouterr().err


def test_changed_damaged_and_missing_ballots_are_noticed(run_folder, tmp_path, capsys):
    folder = tmp_path / "copy"
    unseal(shutil.copytree(run_folder, folder))
    victim = folder / "ballots" / "round-2" / "client-1.mpfl"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:-1])
    assert invoke(["votes", str(folder)]) == 2
    assert "client-1.mpfl" in capsys.readouterr().err
    for other in victim.parent.iterdir():
        other.write_bytes(Mask.full(Mask.from_bytes(whole).layout).to_bytes())
    assert invoke(["votes", str(folder), "--round", "2"]) == 2
    assert "round 2" in capsys.readouterr().err
    shutil.rmtree(victim.parent)
    assert invoke(["votes", str(folder), "--round", "3"]) == 2
    assert "no ballots of round 2" in capsys.readouterr().err


def test_ballots_of_a_method_without_a_vote_have_no_used_mask(tmp_path, capsys):
    folder = tmp_path / "run"
    run_small(folder, method="fedpm", federation__rounds=1, engine__record_ballots=True)
    assert judge(folder).used is None
    assert invoke(["votes", str(folder)]) == 0
    assert "–" in capsys.readouterr().out


def test_a_round_that_did_not_count_is_not_judged(run_folder, tmp_path, capsys):
    folder = unseal(shutil.copytree(run_folder, tmp_path / "copy"))
    lines = records(folder)
    edit_rounds(folder, [*lines[:-1], lines[-1] | {"counted": False, "vote": None}])
    assert judge(folder).round == 2
    assert invoke(["votes", str(folder), "--round", "3"]) == 2
    assert "round 3 did not count" in capsys.readouterr().err
