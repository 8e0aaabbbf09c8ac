"""What a tuning leaves: ``tuned.toml``, a comparison to be run with other seeds, and its trials."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tomli_w

from benchmarks.results.measures import bytes_to_accuracy, held_accuracy
from benchmarks.results.rundata import RunData
from benchmarks.running.compare_config import CompareConfig
from benchmarks.running.tune_config import TuneConfig
from benchmarks.tuning.objective import FAILED, Target, client_epochs, score
from benchmarks.tuning.studies import Plan, Study, swept_keys, tuned_labels, with_validation
from mpfl.errors import RunError

_OF_THE_MACHINE = ("folder", "download")


@dataclass(frozen=True)
class Trial:
    """One run of a tuning.

    Attributes
    ----------
    label, sweep
        The method or variant, and the swept values it was tuned under.
    number
        From 0; the first is the configuration as it stands, as far as the space has that.
    settings
        The dotted keys that were tried.
    client_epochs
        Local epochs of all clients; None, as all figures, where it came to no result.
    accuracy
        Held at the end, on validation samples.
    target
        The accuracy to reach.
    bytes_to_target
        Total bytes until then; None if it was missed.
    total_bytes
        Of the whole run.
    score
        See `benchmarks.tuning.objective.score`.
    chosen
        Whether it is the best of its study.
    """

    label: str
    sweep: Mapping[str, Any]
    number: int
    settings: Mapping[str, Any]
    client_epochs: int | None
    accuracy: float | None
    target: float
    bytes_to_target: int | None
    total_bytes: int | None
    score: float
    chosen: bool = False


def judged(
    study: Study, settings: Sequence[Mapping[str, Any]], runs: Sequence[RunData | None], to: Target
) -> list[Trial]:
    """Return the trials of a study, the best of them (of equal ones the first) chosen.

    Raises
    ------
    RunError
        If none came to a result.
    """
    scores = [score(run, to) for run in runs]
    best = min(range(len(scores)), key=scores.__getitem__)
    if scores[best] >= FAILED:
        raise RunError(f"{study.name}: none of its {len(runs)} trials came to a result")
    return [
        Trial(
            label=study.cell.label,
            sweep=dict(study.cell.sweep),
            number=number,
            settings=settings[number],
            client_epochs=None if run is None else client_epochs(run),
            accuracy=None if run is None or run.failed else held_accuracy(run),
            target=to.accuracy,
            bytes_to_target=None if run is None else bytes_to_accuracy(run, to.accuracy),
            total_bytes=None if run is None else run.total_bytes,
            score=scores[number],
            chosen=number == best,
        )
        for number, run in enumerate(runs)
    ]


def trials_csv(trials: Sequence[Trial]) -> str:
    """Return all trials, a line each; what a trial does not have is empty."""
    swept = list(dict.fromkeys(key for trial in trials for key in trial.sweep))
    tuned = list(dict.fromkeys(key for trial in trials for key in trial.settings))
    measured = [
        *("client_epochs", "accuracy", "target", "bytes_to_target", "total_bytes"),
        *("score", "chosen"),
    ]
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["label", *swept, "trial", *tuned, *measured])
    for trial in trials:
        own = [trial.sweep.get(key) for key in swept], [trial.settings.get(key) for key in tuned]
        lines.writerow(
            [trial.label, *own[0], trial.number, *own[1], *(getattr(trial, m) for m in measured)]
        )
    return text.getvalue()


def tuned_toml(
    rest: Mapping[str, Any],
    asked: CompareConfig,
    tune: TuneConfig,
    plan: Plan,
    chosen: Mapping[str, Mapping[str, Any]],
) -> str:
    """Return the comparison of what was chosen, as TOML that anyone can read and run.

    It holds all of the configuration but where the data lies, and a rule of ``compare.adjust`` for
    every method and combination of swept values, after those that were there.

    Parameters
    ----------
    chosen
        Name of a study → its settings.
    """
    rules: list[dict[str, Any]] = []
    for cell in plan.cells:
        study = plan.study_of(cell)
        rounds = {"federation.rounds": study.cell.experiment.federation.rounds}
        when = {"label": cell.label, **swept_keys(cell)}
        rule = {"when": when, "set": {**rounds, **chosen[study.name]}}
        rules += [] if rule in rules else [rule]
    config = dataclasses.replace(
        asked, methods=tuned_labels(asked, tune), adjust=[*asked.adjust, *rules]
    )
    table = with_validation(rest, tune)
    table["data"] = {k: v for k, v in table["data"].items() if k not in _OF_THE_MACHINE}
    table |= {"compare": dataclasses.asdict(config), "tune": dataclasses.asdict(tune)}
    share = table["data"]["validation"]
    head = (
        f"# Tuned by mpfl tune: {tune.trials} trials a method on seed {tune.seed}, chosen\n"
        f"# by {100 * share:g} % of the training data. To run it: mpfl compare tuned.toml\n"
        "# (where the data set has files, with --data-dir).\n"
    )
    return head + tomli_w.dumps(table, multiline_strings=True)
