"""No failure looks like a result: what counts, what is ignored, what changed, what is kept."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import benchmarks
from benchmarks.cli.main import invoke
from benchmarks.results.loading import load_run
from benchmarks.running.experiment import plan, resume, run
from mpfl.config import DataConfig, Experiment, to_mapping, to_toml
from mpfl.data import DATASETS, Dataset, Samples
from mpfl.errors import InputError, RunError
from mpfl.methods import METHODS
from mpfl.models import MODELS
from mpfl.scores import SCORES, Score, ScoreInputs, UnitScores
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Section
from mpfl.wire.values import VALUE_CODECS, value_codec
from mpfl.world import build_world
from server.methods.settings import told_settings
from tests.federation import Federation, tiny
from tests.runs import digests, records, run_in_vain

STATE: dict[str, Any] = {}


def mine(config: DataConfig) -> Dataset:
    rng = np.random.default_rng(STATE["seed"])
    targets = torch.from_numpy(rng.integers(0, 2, 200))
    inputs = torch.from_numpy(rng.normal(size=(200, 1, 8, 8)).astype(np.float32))
    parts = Samples(inputs[:150], targets[:150]), Samples(inputs[150:], targets[150:])
    return Dataset(config.name, *parts, 2, (1, 8, 8))


def typo(inputs: ScoreInputs) -> UnitScores:
    return inputs.structure.unit_valuess(inputs.model.values.numpy())  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    STATE.update(seed=0)
    monkeypatch.setitem(DATASETS._own, "mine", mine)
    monkeypatch.setitem(SCORES._own, "typo", Score(typo))
    yield
    STATE.clear()


def on_mine(**overrides: Any) -> Experiment:
    samples = {"data__train_samples": 0, "data__test_samples": 0, "data__partition": "iid"}
    return tiny(data__name="mine", **{**samples, **overrides})


# ------------------------------------------------------------------------- stale and changed


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_run_of_a_session_sees_the_data_as_it_is_then(
    tmp_path: Path, workers: int
) -> None:
    found = []
    for number, seed in enumerate((0, 1, 0)):
        STATE["seed"] = seed
        found.append(digests(run(on_mine(), tmp_path / str(number), workers=workers)))
    assert found[0] == found[2] != found[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_run_of_a_session_sees_the_model_as_it_is_then(
    tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS._own, "own", MODELS["lenet300"])
    first = run(tiny(model__name="own"), tmp_path / "1", workers=workers)
    monkeypatch.setitem(MODELS._own, "own", MODELS["conv4"])
    second = run(tiny(model__name="own"), tmp_path / "2", workers=workers)
    assert first["parameters"] != second["parameters"]


def test_a_codec_registered_anew_is_the_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUE_CODECS._own, "own", VALUE_CODECS["float32"])
    assert value_codec("own").bits_each == 32
    monkeypatch.setitem(VALUE_CODECS._own, "own", VALUE_CODECS["float16"])
    assert value_codec("own").bits_each == 16


def cut_after(experiment: Experiment, out: Path, rounds: int) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["round"] == rounds:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(experiment, out, on_round=stop)


def test_a_run_is_not_resumed_on_other_data(tmp_path: Path) -> None:
    cut_after(on_mine(), tmp_path / "run", 2)
    STATE["seed"] = 1
    with pytest.raises(InputError, match=r"^data\.name: the samples of 'mine': not the same as"):
        resume(tmp_path / "run")
    STATE["seed"] = 0
    again = resume(tmp_path / "run")
    assert again is not None
    assert digests(again) == digests(run(on_mine(), tmp_path / "whole"))


def weights_file(folder: Path, scale: float = 1.0) -> Path:
    world = build_world(tiny())
    tensors = {
        name: torch.from_numpy(tensor.copy()) * scale
        for name, tensor in world.structure.named(world.initial).items()
    }
    save_file(tensors, folder / "w.safetensors")
    return folder / "w.safetensors"


def test_weights_of_a_relative_path_are_the_same_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights_file(tmp_path, 0.5)
    monkeypatch.chdir(tmp_path)
    experiment = tiny(model__weights="w.safetensors")
    cut_after(experiment, tmp_path / "run", 2)
    whole = run(experiment, tmp_path / "whole")
    (tmp_path / "elsewhere").mkdir()
    weights_file(tmp_path / "elsewhere", 2.0)
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = resume(tmp_path / "run")
    assert again is not None
    assert digests(again) == digests(whole)


def test_weights_that_changed_are_named(tmp_path: Path) -> None:
    file = weights_file(tmp_path)
    cut_after(tiny(model__weights=str(file)), tmp_path / "run", 2)
    weights_file(tmp_path, 2.0)
    with pytest.raises(InputError, match=r"^model\.weights: what the model takes from /.*: not"):
        resume(tmp_path / "run")


def test_a_path_in_a_file_is_relative_to_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study").mkdir()
    weights_file(tmp_path / "study")
    text = to_toml(tiny(model__weights="w.safetensors", federation__rounds=2))
    (tmp_path / "study" / "c.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert invoke(["run", "study/c.toml", "--out", "out", "--quiet"]) == 0
    assert f'"{tmp_path}/study/w.safetensors"' in (tmp_path / "out" / "config.toml").read_text()


def test_another_processor_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cut_after(tiny(), tmp_path / "run", 2)
    monkeypatch.setattr("server.summary.processor", lambda: "another one")
    assert resume(tmp_path / "run") is not None
    (said,) = [r.getMessage() for r in caplog.records if "digests may differ" in r.getMessage()]
    assert said.endswith("is another one")


def test_a_comparison_is_not_continued_on_other_data(tmp_path: Path) -> None:
    table = to_mapping(on_mine(federation__rounds=2, prune__rounds=1))
    benchmarks.compare(table, methods=["fedavg"], seeds=[0], out=tmp_path / "c")
    STATE["seed"] = 1
    with pytest.raises(InputError, match=r"fedavg__seed0: data\.name: the samples of 'mine'"):
        benchmarks.compare(table, methods=["fedavg"], seeds=[0], out=tmp_path / "c")


# ------------------------------------------------------------------------ nothing that counted


@pytest.mark.parametrize(
    ("method", "phase"),
    [(m, "train") for m in ("fedavg", "fedavg_q8", "fedavg_prune", "topk", "signsgd_mv")]
    + [("mpfl", "mask"), ("fedpm", "mask"), ("prunefl", "mask"), ("ssfl", "score")]
    + [("lotteryfl", "train")],
)
def test_no_method_makes_a_result_of_nothing(tmp_path: Path, method: str, phase: str) -> None:
    experiment = tiny(method=method, faults__drop_before=1.0)
    error = run_in_vain(experiment, tmp_path / "run")
    count = 2 if method == "mpfl" else 4
    assert (
        f"none of the {count} rounds of phase '{phase}' counted; first cause: round 1: 0 of"
        in error
    )
    assert "dropped before training" in error
    assert len(records(tmp_path / "run")) == count


def test_min_replies_that_never_come_are_an_error(tmp_path: Path) -> None:
    experiment = tiny(method="fedavg", federation__min_replies=4, faults__straggle=0.9)
    error = run_in_vain(experiment, tmp_path / "run")
    assert "first cause: round 1: " in error
    assert " of 4 replies were usable; client " in error


def test_a_phase_that_failed_is_not_saved_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "clients.app.fault_of", lambda _, number, client: "drop_after" if number < 3 else ""
    )
    error = run_in_vain(tiny(), tmp_path / "run")
    assert "of phase 'mask' counted" in error


def test_clients_that_all_diverge_are_an_error(tmp_path: Path) -> None:
    error = run_in_vain(tiny(method="fedavg", train__lr=1e9), tmp_path / "run")
    assert (
        "client 0: NotFiniteError: values: not all of them are finite; if training diverged"
        in error
    )


@pytest.mark.parametrize(
    ("method", "first"), [("fedavg", 1), ("lotteryfl", 1), ("mpfl", 1), ("ssfl", 2)]
)
def test_training_that_diverged_needs_no_traceback(
    method: str, first: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--set", f"method={method}", "--set", "train.lr=1e9", "--quiet"]
    assert invoke(["run", "demo", *options, "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert re.search(
        rf"mpfl: round {first}, client \d: (NotFiniteError: values|InputError: scores)", said
    )


def test_a_mended_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_vain(tiny(prune__score="typo"), tmp_path / "run")
    monkeypatch.setitem(SCORES._own, "typo", SCORES["magnitude"])
    again = resume(tmp_path / "run")
    assert again is not None
    assert digests(again) == digests(run(tiny(), tmp_path / "whole"))
    assert not (tmp_path / "run" / "failure.json").exists()


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_a_comparison_marks_what_failed_and_ranks_the_others(
    tmp_path: Path, seeds: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    table = to_mapping(tiny(federation__rounds=3))
    variants = {"broken": {"method": "mpfl", "prune.score": "typo"}}
    table["compare"] = {"variants": variants}
    methods = ["mpfl", "broken", "fedavg"]
    found = benchmarks.compare(table, methods=methods, seeds=seeds, out=tmp_path / "c")
    assert [run.data.label for run in found.runs] == [m for m in ("mpfl", "fedavg") for _ in seeds]
    assert list(found.failed) == [f"broken__seed{seed}" for seed in seeds]
    row = found.rows[-1]
    assert (row.method, row.failed, row.reached, row.on_front) == ("broken", len(seeds), 0, False)
    assert math.isnan(row.accuracy.mean)
    assert "failed" in found.table()
    page = found.report().read_text()
    assert "Failed, and ranked nowhere: broken__seed0 (round 1, client 0: AttributeError" in page
    assert invoke(["resume", str(tmp_path / "c"), "--quiet"]) == 1
    assert f"mpfl: {len(seeds)} of {3 * len(seeds)} runs failed" in capsys.readouterr().err


def test_a_comparison_of_nothing_but_failures_is_an_error(tmp_path: Path) -> None:
    table = to_mapping(tiny(prune__score="typo"))
    with pytest.raises(RunError, match=r"all runs failed; mpfl__seed0: round 1, client 0: Attrib"):
        benchmarks.compare(table, methods=["mpfl"], seeds=[0, 1], out=tmp_path / "c")


def test_a_model_that_diverged_is_marked_and_never_ranked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = to_mapping(tiny(federation__rounds=2, prune__rounds=1))
    table["compare"] = {"variants": {"hot": {"method": "centralized", "train.lr": 1e6}}}
    found = benchmarks.compare(table, methods=["fedavg", "hot"], out=tmp_path / "c")
    row = found.rows[-1]
    assert (row.method, row.failed, row.on_front, row.bytes_to_target) == ("hot", 1, False, None)
    summary = json.loads((tmp_path / "c" / "cells" / "hot__seed0" / "summary.json").read_text())
    assert summary["health"]["failed"].startswith("diverged")
    options = ["--set", "method=centralized", "--set", "train.lr=1e6", "--quiet"]
    assert invoke(["run", "demo", "--set", "federation.rounds=1", *options,
                   "--out", str(tmp_path / "run")]) == 0  # fmt: skip
    assert "no result: diverged" in capsys.readouterr().err
    assert "came to no result: diverged" in (tmp_path / "run" / "report.html").read_text()


def test_a_diverged_run_of_an_earlier_mpfl_is_known_by_its_loss(tmp_path: Path) -> None:
    run(tiny(federation__rounds=2, prune__rounds=1), tmp_path / "run")
    data = load_run(tmp_path / "run")
    old = replace(data, summary=replace(data.summary, health=None, test_loss=None))
    assert data.failed is None
    assert old.failed is not None


# ---------------------------------------------------------------------- what a server takes in


def first_reply(change: Any) -> tuple[Federation, int, Frame]:
    game = Federation(tiny(method="prunefl", wire__mask_codec="raw"))
    game.play()
    ((client, reply),) = game.replies.items()
    other = Federation(tiny(method="prunefl", wire__mask_codec="raw"), game.world)
    other.method.begin_round(1, [client])
    return other, client, replace(reply, sections={**reply.sections, **change(reply)})


@pytest.mark.parametrize("value", [1e38, -1e38, 300.0, np.nan, np.inf])
def test_a_first_model_of_prunefl_that_is_huge_is_refused(value: float) -> None:
    def spoiled(reply: Frame) -> dict[Section, bytes]:
        values = np.frombuffer(reply.sections[Section.VALUES], "<f4").copy()
        values[3] = value
        return {Section.VALUES: values.tobytes()}

    game, client, reply = first_reply(spoiled)
    with pytest.raises(WireError, match="values"):
        game.method.accept(client, reply)
    game.method.finish_round(False)
    assert np.isfinite(game.method.model()).all()
    assert game.method.phase == "mask"


def test_a_first_mask_of_prunefl_of_another_size_is_refused() -> None:
    from mpfl.mask import Mask

    game, client, reply = first_reply(lambda _: {})
    full = game.world.encode_mask(Mask.full(game.world.layout))
    wrong = replace(reply, sections={**reply.sections, Section.MASK: full})
    with pytest.raises(WireError, match="mask"):
        game.method.accept(client, wrong)


# ------------------------------------------------------------------- settings without effect

IGNORED = [
    ({"method": "fedpm", "wire__up": "int8"}, "wire.up", "fedpm does not"),
    ({"method": "fedavg", "prune__density": 0.05}, "prune.density", "fedavg does not read it"),
    ({"method": "signsgd_mv", "wire__down": "int4"}, "wire.down", "signsgd_mv does not"),
    ({"method": "topk", "wire__mask_codec": "raw"}, "wire.mask_codec", "fedavg does not"),
    ({"method": "ssfl", "prune__score": "fisher"}, "prune.score", "ssfl does not"),
    ({"method": "fedpm", "train__momentum": 0.9}, "train.momentum", "fedpm does not"),
    ({"method": "mpfl", "comparator__sign_step": 0.5}, "comparator.sign_step", "mpfl does"),
    ({"faults__attack": "random"}, "faults.attack", "faults.byzantine makes no client malicious"),
    ({"faults__byzantine": 0.01}, "faults.byzantine", "of 4 clients that is none"),
    ({"faults__stress_kind": "pixels"}, "faults.stress_kind", "faults.stress spoils nobody"),
    ({"prune__alpha_fc": 0.5}, "prune.alpha_fc", "prune.ranking is not coverage"),
    ({"prune__regrow_every": 3}, "prune.regrow_every", "prune.regrow is off"),
    ({"prune__regrow": "random", "prune__regrow_every": 9}, "prune.regrow", "never comes"),
    ({"prune__tie": "keep"}, "prune.tie", "budget knows no tied majority"),
    ({"prune__voters": 9}, "prune.voters", "a round asks 4 clients"),
    ({"prune__score_samples": 9}, "prune.score_samples", "magnitude looks at no sample"),
    ({"wire__error_feedback": False}, "wire.error_feedback", "what float32 loses"),
    ({"method": "fedavg_q8", "wire__error_feedback": False}, "wire.error_feedback", "what int8"),
    ({"method": "lotteryfl", "wire__up": "stc(0.1)", "wire__error_feedback": False},
     "wire.error_feedback", "lotteryfl does not"),
    ({"method": "ssfl", "wire__value_classes": True}, "wire.value_classes", "no differences"),
    ({"train__optimizer": "adam", "train__momentum": 0.5}, "train.momentum", "adam has its own"),
    ({"model__batch_norm": "local"}, "model.batch_norm", "the model has no statistics"),
    ({"method": "centralized", "stop__byte_budget": 9}, "stop.byte_budget", "no clients"),
    ({"stop__target_accuracy": 0.5, "federation__eval_every": 4}, "stop.target_accuracy", "last"),
    ({"method": "prunefl", "comparator__prunefl_every": 9}, "comparator.prunefl_every", "short"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "key", "why"), IGNORED)
def test_a_setting_without_effect_is_named_with_the_reason(
    changes: dict[str, Any], key: str, why: str
) -> None:
    found = plan(tiny(**changes))
    (said, *_) = found.notes()
    assert said.startswith("without effect: ")
    assert key in said
    assert why in found.ignored[key]


@pytest.mark.parametrize("method", ["mpfl", "fedavg_prune", "lotteryfl"])
def test_a_density_that_is_never_reached_is_said(method: str) -> None:
    found = plan(tiny(method=method, prune__rounds=20))
    assert any("prune.rounds: 20 steps to density 0.2, but of 4 rounds" in n for n in found.notes())


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"prune__regrow": "random", "prune__vote": "majority"}, "majority aims at no density"),
        ({"method": "fedavg_prune", "prune__rounds": 20, "prune__schedule": "one_shot"},
         "only 0 can prune: it ends at 1"),
        ({"prune__schedule": "linear", "prune__rounds": 10, "prune__density": 0.3,
          "prune__converged": 0.08, "federation__rounds": 12},
         "moves the mask by 0.07, less than 0.08: phase 1 may end at density 0.93"),
    ],
)  # fmt: skip
def test_a_mask_of_another_density_than_asked_for_is_said(
    changes: dict[str, Any], note: str
) -> None:
    assert any(note in said for said in plan(tiny(**changes)).notes())


def test_fewer_voters_than_a_rule_leaves_out_are_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"prune.vote: 'trimmed\(1\)' leaves none of 1 ballots"):
        plan(tiny(prune__voters=1, prune__vote="trimmed(1)"))


OTHERWISE: dict[str, Any] = {
    "train.loss": "label_smoothing(0.2)", "train.lr": 0.03, "train.momentum": 0.5,
    "train.epochs": 3, "train.batch_size": 7, "train.lr_decay": "cosine", "train.clip": 0.5,
    "train.weight_decay": 0.01, "prune.density": 0.35, "prune.score": "random",
    "prune.ranking": "flat", "prune.vote": "majority", "prune.schedule": "linear",
    "prune.rounds": 2, "prune.epochs": 2, "prune.min_units": 3, "prune.score_samples": 17,
    "prune.voters": 2, "prune.rescale": True, "prune.regrow_fraction": 0.5, "prune.gate": 0.2,
    "wire.mask_classes": 3, "comparator.sign_step": 0.02, "comparator.fedpm_lr": 0.3,
    "comparator.fedpm_reset": 2, "comparator.prunefl_every": 7,
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS.names())
def test_what_is_told_as_without_effect_has_none(method: str, tmp_path: Path) -> None:
    usual = tiny(method=method)
    ignored = OTHERWISE.keys() & plan(usual).ignored.keys()
    changes = {key.replace(".", "__"): OTHERWISE[key] for key in ignored}
    other = tiny(method=method, **changes)
    assert ignored <= plan(other).ignored.keys()
    assert digests(run(usual, tmp_path / "a")) == digests(run(other, tmp_path / "b"))


def test_what_has_an_effect_is_not_named() -> None:
    experiment = tiny(
        prune__vote="majority", prune__tie="keep", prune__score="taylor", prune__score_samples=50,
        prune__regrow="gradient", prune__regrow_every=1, faults__byzantine=0.3,
        faults__attack="random", wire__up="int8(nearest)", wire__error_feedback=False,
        wire__mask_codec="rans", federation__rounds=8,
    )  # fmt: skip
    found = plan(experiment)
    read = {"prune.tie", "prune.score_samples", "faults.attack", "wire.error_feedback"}
    assert not read & found.ignored.keys()
    assert [note.partition(":")[0] for note in found.notes()] == ["prune.regrow"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"prune__ranking": "coverage", "prune__score": "activity", "faults__byzantine": 0.5,
          "faults__attack": "colluding"}, "prune.density"),
        ({"prune__ranking": "coverage", "prune__score": "activity", "faults__stress": 0.5,
          "faults__stress_kind": "free_rider"}, "prune.schedule"),
        ({"method": "signsgd_mv", "wire__down": "grid(1)"}, "wire.down"),
        ({"prune__rounds": 4, "wire__down": "grid(1)"}, "wire.down"),
        ({"method": "prunefl", "wire__up": "step(2.0)"}, "prune.rescale"),
        ({"method": "fedavg_prune", "wire__up": "step(2.0)"}, "prune.rescale"),
    ],
)  # fmt: skip
def test_what_matters_in_some_runs_only_is_not_named_there(
    changes: dict[str, Any], key: str
) -> None:
    assert key not in plan(tiny(**changes)).ignored


def test_an_empty_text_that_is_ignored_is_not_told():
    ignored = {"wire.up": "why", "prune.rescale": "why"}
    assert list(told_settings(Experiment(), ignored, given=ignored)) == ["prune.rescale"]
    assert not told_settings(Experiment(), ignored)


@pytest.mark.parametrize(("changes", "key", "why"), IGNORED)
def test_a_setting_that_is_ignored_really_changes_nothing(
    tmp_path: Path, changes: dict[str, Any], key: str, why: str
) -> None:
    usual = dict(changes)
    del usual[key.replace(".", "__")]
    if key == "prune.regrow":
        usual.pop("prune__regrow_every")
    one = run(tiny(**changes), tmp_path / "one")
    other = run(tiny(**usual), tmp_path / "other")
    assert digests(one) == digests(other)


def test_a_page_shows_only_what_was_in_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--set",
        "method=fedavg",
        "--set",
        "federation.rounds=1",
        "--set",
        "prune.density=0.1",
    ]
    assert invoke(["run", "demo", *options, "--out", str(tmp_path / "run")]) == 0
    (said,) = [n for n in capsys.readouterr().err.splitlines() if n.startswith("without effect")]
    assert "prune.density" in said  # though it is the default, somebody set it
    page = (tmp_path / "run" / "report.html").read_text()
    configuration = page[page.index("as far as it had an effect") :]
    assert "step(1.0)" in configuration
    assert "density" not in configuration
    assert "Settings without effect: " in page


def test_a_comparison_names_what_no_cell_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.toml"
    config.write_text(to_toml(tiny(federation__rounds=1)))
    arguments = ["compare", str(config), "--methods", "fedavg", "--out", str(tmp_path / "c")]
    assert invoke([*arguments, "--set", "comparator.fedpm_lr=0.3"]) == 0
    assert "comparator.fedpm_lr" in capsys.readouterr().err


# ------------------------------------------------------------------------------ and the report


def test_resuming_makes_the_report_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny(federation__rounds=2, prune__rounds=1), tmp_path / "run")
    assert invoke(["resume", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "report.html").is_file()
    assert "nothing to do" not in capsys.readouterr().err
    assert invoke(["resume", str(tmp_path / "run")]) == 0
    assert "nothing to do" in capsys.readouterr().err
