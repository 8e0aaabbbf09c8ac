"""What a tuning leaves: ``tuned.toml``, a comparison to be run with other seeds, and its trials."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import tomli_w

from benchmarks.results.measures import bytes_to_accuracy, held_accuracy
from benchmarks.results.rundata import RunData
from benchmarks.running.compare_config import CompareConfig
from benchmarks.running.tune_config import TuneConfig
from benchmarks.tuning.objective import FAILED, client_epochs, score
from benchmarks.tuning.studies import Plan, Study, swept_keys, with_validation

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
    seed
        The tuning's, or one of those that confirm what it found.
    settings
        The dotted keys that were tried.
    client_epochs
        Local epochs of all clients; None, as all figures, where it came to no result or diverged.
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
        Whether its settings are those of its study.
    """

    label: str
    sweep: Mapping[str, Any]
    number: int
    seed: int
    settings: Mapping[str, Any]
    client_epochs: int | None
    accuracy: float | None
    target: float
    bytes_to_target: int | None
    total_bytes: int | None
    score: float
    chosen: bool = False


def judged(
    study: Study,
    settings: Mapping[int, Mapping[str, Any]],
    runs: Mapping[int, RunData | None],
    target: float,
    seed: int,
) -> list[Trial]:
    """Return the trials of a study on one seed, none of them chosen yet.

    Parameters
    ----------
    settings, runs
        Number of a trial → what was tried; its run, None if it came to no result.
    """
    sound = {n: None if run is None or run.failed else run for n, run in runs.items()}
    return [
        Trial(
            label=study.cell.label,
            sweep=dict(study.cell.sweep),
            number=number,
            seed=seed,
            settings=settings[number],
            client_epochs=None if run is None else client_epochs(run),
            accuracy=None if run is None else held_accuracy(run),
            target=target,
            bytes_to_target=None if run is None else bytes_to_accuracy(run, target),
            total_bytes=None if run is None else run.total_bytes,
            score=score(run, target),
        )
        for number, run in sound.items()
    ]


def ranked(trials: Sequence[Trial]) -> list[int]:
    """Return the numbers of a study's trials, best first: equal settings once, none that failed."""
    found: dict[str, int] = {}
    for trial in sorted(trials, key=lambda trial: (trial.score, trial.number)):
        if trial.score < FAILED:
            found.setdefault(repr(trial.settings), trial.number)
    return list(found.values())


def with_choice(trials: Sequence[Trial], lasting: Sequence[int]) -> list[Trial]:
    """Return a study's trials of all seeds, those of the best settings chosen.

    Parameters
    ----------
    lasting
        Numbers that came to a result on every seed, best on the first one first: that of the
        smallest mean score is chosen, and of equal ones the first.
    """
    means = {
        number: mean(trial.score for trial in trials if trial.number == number)
        for number in lasting
    }
    best = min(lasting, key=means.__getitem__)
    return [dataclasses.replace(trial, chosen=trial.number == best) for trial in trials]


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
    lines.writerow(["label", *swept, "trial", "seed", *tuned, *measured])
    for trial in trials:
        place = [*(trial.sweep.get(key) for key in swept), trial.number, trial.seed]
        tried = [trial.settings.get(key) for key in tuned]
        lines.writerow([trial.label, *place, *tried, *(getattr(trial, m) for m in measured)])
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
    config = dataclasses.replace(asked, methods=list(plan.labels), adjust=[*asked.adjust, *rules])
    table = with_validation(rest, tune)
    table["data"] = {k: v for k, v in table["data"].items() if k not in _OF_THE_MACHINE}
    table |= {"compare": dataclasses.asdict(config), "tune": dataclasses.asdict(tune)}
    share = table["data"]["validation"]
    seeds = ", ".join(map(str, tune.confirm))
    again = f" the {tune.finalists} best once more on {seeds}," if seeds else ""
    head = (
        f"# Tuned by mpfl tune: {tune.trials} trials a method on seed {tune.seed},{again} chosen\n"
        f"# by {100 * share:g} % of the training data. To run it: mpfl compare tuned.toml\n"
        "# (where the data set has files, with --data-dir).\n"
    )
    return head + tomli_w.dumps(table, multiline_strings=True)
