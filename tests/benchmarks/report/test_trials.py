"""Tuning trials beside a comparison: those that ended, in the settings they were tuned in."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report.trials import Trial, load_trials

TEXT = """label,data.partition,prune.vote,trial,train.lr,accuracy,total_bytes,score,chosen
mpfl,iid,any,0,0.1,0.9,1000,3.0,True
mpfl,"dirichlet(0.3, 1)",any,1,0.2,0.8,2000,4.0,False
fedavg,iid,any,0,0.1,,,inf,False
"""


def test_trials_that_ended_are_read(tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_text(TEXT)
    first, second = load_trials([tmp_path, tmp_path / "elsewhere"], {})
    assert first == Trial("mpfl", 1000, 0.9, ("partition=iid", "vote=any"))
    assert (second.bytes, second.accuracy) == (2000, 0.8)
    assert first.is_of("clients=3, partition=iid")
    assert not first.is_of("partition=iid2")
    assert second.is_of("partition=dirichlet(0.3, 1)")
    assert second.is_of("")
    first, _ = load_trials([tmp_path], {tmp_path.resolve(): "A"})
    assert first.is_of("comparison=A, partition=iid")
    assert not first.is_of("comparison=B, partition=iid")


def test_a_file_of_something_else_holds_none(tmp_path: Path) -> None:
    assert load_trials([tmp_path], {}) == []
    for text in ("", "a,b\n1,2\n", "label,trial\nmpfl,0\n", "label,trial,total_bytes\nmpfl\n"):
        (tmp_path / "trials.csv").write_text(text)
        assert load_trials([tmp_path], {}) == []
