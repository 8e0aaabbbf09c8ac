"""The top of a report: the sentence, the setting and the doubts say what the runs say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.report.doubts import doubts, setting
from benchmarks.report.headline import comparison_headlines
from benchmarks.results.ladder import ladders
from benchmarks.results.loading import load_folders, load_run
from benchmarks.results.rows import comparison_table
from benchmarks.results.rundata import RunData
from mpfl.config import from_mapping, from_toml, to_toml
from mpfl.nested import read_toml, with_override
from server.records import Row
from tests.handmade import run_of

Make = Callable[..., Path]


FEDAVG = [(10_000, 0.5), (20_000, 0.9), (30_000, 0.9), (40_000, 0.9)]


def vouched(folder: Path) -> RunData:
    """Read a folder that a test has edited as if it were sealed."""
    return replace(load_run(folder), sealed=True)


def headline(**points: list[tuple[int, float]]) -> str:
    runs = [run_of(rounds, label) for label, rounds in points.items()]
    return said(runs)[0]


def said(runs: list[RunData], steps: dict[str, str] | None = None) -> list[str]:
    """Return what stands on top: the settings with what is said of them, as one reads it."""
    found, _ = ladders(runs, steps or {}, "fedavg", 0.005)
    lines = comparison_headlines(comparison_table(runs), "fedavg", 0.005, found)
    return [": ".join(filter(None, line)).replace("\u00a0", " ") for line in lines]


def test_it_names_the_cheapest_method_at_equal_accuracy() -> None:
    ours, topk = [(1000, 0.5), (2000, 0.95)], [(500, 0.5), (1000, 0.95)]
    text = headline(fedavg=FEDAVG, mpfl=ours, topk=topk)
    assert text.startswith("topk beats mpfl: it reaches fedavg's accuracy minus 0.5 points")
    assert "20.0 × fewer bytes: 1.00 kB instead of 20.0 kB" in text
    assert "mpfl needs 10.0 × fewer (2.00 kB)" in text
    assert "beats" not in headline(fedavg=FEDAVG, mpfl=topk, topk=ours)


def test_it_says_where_the_interval_leaves_open_who_needs_less() -> None:
    def over_seeds(*ours: int) -> str:
        runs = [run_of(FEDAVG, "fedavg", seed) for seed in range(len(ours))]
        runs += [run_of([(spent, 0.95)], "mpfl", seed) for seed, spent in enumerate(ours)]
        runs += [run_of([(3 * spent, 0.95)], "topk", seed) for seed, spent in enumerate(ours)]
        return said(runs)[0]

    # 10 and 6.4 times fewer than 20,000: 8 in the mean; Student's t of one degree of freedom
    width = 12.706204736 * math.log(10 / 6.4) / 2
    low, high = 8 / math.exp(width), 8 * math.exp(width)
    text = over_seeds(2000, 3125)
    assert "8.00 × fewer bytes" in text
    assert f"(95 % interval {low:.3f} to {high:.0f} ×: not certain)" in text
    assert text.count("not certain") == 2  # topk's as well
    assert "interval" not in over_seeds(2000, 2001)
    assert "interval" not in over_seeds(2000)


def test_it_says_what_the_own_methods_bytes_are_made_of() -> None:
    points = {"fedavg": FEDAVG, "dense": [(1000, 0.5), (5000, 0.95)], "mpfl": [(2000, 0.95)]}
    runs = [run_of(rounds, label) for label, rounds in points.items()]
    (text,) = said(runs, {"float32": "fedavg", "wire": "dense", "mask": "mpfl"})
    assert text.startswith("mpfl reaches fedavg's accuracy")
    assert "10.0 × fewer bytes: 2.00 kB instead of 20.0 kB (one seed)" in text
    assert "= 4.00 × wire × 2.50 × mask. Next is dense with 4.00 × fewer" in text
    assert " × mask" not in said(runs, {"wire": "dense", "mask": "mpfl"})[0]  # a part of it


def test_it_says_the_same_against_the_best_of_several_baselines() -> None:
    points = {"fedavg": FEDAVG, "fedavg_5": [(6000, 0.9)], "mpfl": [(2000, 0.95)]}
    runs = [run_of(rounds, label) for label, rounds in points.items()]
    rows = comparison_table(runs, best_of=["fedavg", "fedavg_5"])
    (line,) = comparison_headlines(rows, "fedavg", 0.005)
    text = line.text.replace("\u00a0", " ")
    assert text.endswith("Against fedavg_5, the best of the baselines, mpfl needs 3.00 × fewer.")
    rows = comparison_table(runs[:2], best_of=["fedavg", "fedavg_5"])
    assert "Against" not in comparison_headlines(rows, "fedavg", 0.005)[0].text  # itself


def test_settings_where_another_method_wins_come_first() -> None:
    points = {"fedavg": FEDAVG, "mpfl": [(2000, 0.95)]}
    runs = [
        run_of(rounds, label, sweep={"data.partition": kind})
        for label, rounds in points.items()
        for kind in ("a", "b")
    ]
    runs += [run_of([(9000, 0.95)], "topk", sweep={"data.partition": "a"})]
    runs += [run_of([(900, 0.95)], "topk", sweep={"data.partition": "b"})]
    first, second = said(runs)
    assert first.startswith("partition=b: topk beats mpfl: it reaches")
    assert second.startswith("partition=a: mpfl reaches")


def test_many_settings_are_counted_and_not_all_told() -> None:
    runs = [
        run_of(rounds, label, sweep={"data.clients": count})
        for label, rounds in {"fedavg": FEDAVG, "mpfl": [(2000, 0.95)]}.items()
        for count in range(1, 8)
    ]
    lines = said(runs)
    assert [line[:10] for line in lines[:4]] == [f"clients={n}:" for n in range(1, 5)]
    assert lines[4:] == ["3 more settings stand below."]


def test_it_says_when_mpfl_misses_the_target() -> None:
    text = headline(fedavg=FEDAVG, mpfl=[(10, 0.8)], topk=[(10, 0.95)])
    assert "mpfl ends at" in text
    assert "does not reach it" in text


def test_it_says_when_nobody_reaches_the_target() -> None:
    text = headline(fedavg=FEDAVG, mpfl=[(10, 0.8)])
    assert text.startswith("No method reaches fedavg's accuracy")


def test_the_setting_names_the_rounds_of_most_runs(make_comparison: Make, tmp_path: Path) -> None:
    folder = make_comparison(tmp_path / "c", seeds=1)
    first = sorted((folder / "cells").iterdir())[0] / "config.toml"
    text = first.read_text()
    usual = from_toml(text).federation.rounds
    first.write_text(to_toml(from_mapping(with_override(read_toml(text), "federation.rounds", 3))))
    said = setting(load_folders([folder])[0])
    assert f"in each of {usual} rounds" in said
    assert "in each of 3 rounds" not in said


def test_the_setting_names_the_rounds_of_each_swept_value() -> None:
    runs = [
        replace(
            run_of([(1, 0.5)], label, sweep={"model.name": model}),
            config={"federation": {"rounds": rounds}, "model": {"name": model}},
        )
        for model, usual in (("lenet5", 9), ("lenet300", 19))
        for label, rounds in (("fedavg", usual), ("topk", usual), ("mpfl", 3))
    ]
    assert "lenet5 or lenet300, " in setting(runs)
    assert "in each of 9 or 19 rounds" in setting(runs)
    asked = [
        replace(run, config={**run.config, "federation": {"clients_per_round": count}})
        for run, count in zip(runs, (0, 0, 0, 1, 1, 1), strict=True)
    ]
    assert "all or 1 of them in each" in setting(asked)


def test_a_ledger_that_does_not_add_up_is_said(make_run: Make, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "fedavg")
    sent = load_run(folder).total_bytes
    *lines, last = (folder / "ledger.csv").read_text().splitlines()
    (folder / "ledger.csv").write_text("\n".join(lines) + "\n")
    less = sent - Row.from_csv(last).message_bytes
    *_, said = doubts([vouched(folder)])
    assert said == f"The ledger of fedavg, seed 0, adds up to {less} bytes, its rounds to {sent}."


def test_replies_that_did_not_count_are_said_with_their_reasons(
    make_run: Make, tmp_path: Path
) -> None:
    run = vouched(make_run(tmp_path / "run"))
    first, second, *rest = run.rounds
    lines = (replace(first, rejected={"no reply": 2}), replace(second, rejected={"late": 1}), *rest)
    (said,) = doubts([replace(run, rounds=lines)])
    assert said == "Replies of mpfl that did not count: 1 (late), 2 (no reply)."


def test_runs_on_different_work_are_said(make_run: Make, tmp_path: Path) -> None:
    runs = [
        vouched(make_run(tmp_path / label, label, data__clients=clients))
        for label, clients in (("fedavg", 3), ("mpfl", 4))
    ]
    assert doubts(runs) == ["Not the same work for all: data.clients differs."]
    swept = [replace(run, sweep={"data.clients": len(run.evaluated)}) for run in runs]
    assert doubts(swept) == []
    apart = [replace(run, sweep={"comparison": name}) for run, name in zip(runs, "AB", strict=True)]
    assert doubts(apart, setting_keys=["comparison"]) == []
    assert doubts(apart) == doubts(runs), "one picture holds them both"


def test_runs_that_nobody_vouches_for_are_said(make_run: Make, tmp_path: Path) -> None:
    run = load_run(make_run(tmp_path / "run"))
    assert doubts([run]) == ["Unsealed, nothing tells whether they were edited: run."]


def test_cells_of_one_name_are_each_told_of() -> None:
    one = run_of([(10, 0.5)])
    runs = [
        replace(one, rounds=tuple(replace(one.rounds[0], counted=False) for _ in range(rounds)))
        for rounds in (1, 2)
    ]
    for run, why in zip(runs, ("this", "that"), strict=True):
        vars(run)["failed"] = why
    text = " ".join(doubts(runs))
    for part in ("f (this)", "f (that)", "f: 1 of 1 rounds", "f: 2 of 2 rounds"):
        assert part in text


def test_a_seed_without_a_baseline_is_nobodys_miss() -> None:
    runs = [run_of(FEDAVG, "fedavg"), *(run_of([(9, 0.9)], "mpfl", seed) for seed in (0, 1))]
    (text,) = said(runs)
    assert text.startswith("fedavg came to a result with 1 of 2 seeds alone")
    assert "No method" not in text
