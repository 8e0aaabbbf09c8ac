"""A tuning from beginning to end, in a folder where a killed one goes on to the same result."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from benchmarks.results.loading import load_run
from benchmarks.results.measures import held_accuracy
from benchmarks.results.rundata import RunData
from benchmarks.running.cell import Cell, OnCell
from benchmarks.running.compare_config import CompareConfig, split_table
from benchmarks.running.comparison import claimed, read_claimed
from benchmarks.running.side_by_side import DEAD, run_cells
from benchmarks.running.tune_config import TuneConfig, tune_config
from benchmarks.tuning.objective import baseline_score, score
from benchmarks.tuning.outcome import (
    Trial,
    judged,
    ranked,
    trials_csv,
    tuned_toml,
    with_choice,
)
from benchmarks.tuning.search import Journal, check_installed, next_point
from benchmarks.tuning.studies import Plan, Study, plan_tuning
from mpfl.errors import InputError, RunError
from server.custody import held, write_atomically, writing
from server.health import read_failure
from server.records import Failure
from server.runfolder import CONFIG, read_config
from server.transport.grid import WORKER_DIED

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

TUNING, TRIALS, JOURNAL = "tuning.toml", "trials", "journal.log"
TUNED, TABLE = "tuned.toml", "trials.csv"

Value = Callable[[Study, RunData | None], float]
"""(study, run of a trial or None) -> how bad it is."""


@dataclass(frozen=True)
class Task:
    """A tuning that may begin: what was asked for, and what that comes to."""

    table: Mapping[str, Any]
    rest: Mapping[str, Any]
    compare: CompareConfig
    tune: TuneConfig
    plan: Plan

    @property
    def rounds(self) -> int:
        """Rounds of all trials, and of finalists as far as none of them is replaced."""
        each = (study.cell.experiment.federation.rounds for study in self.plan.studies)
        finals = min(self.tune.finalists, self.tune.trials) * len(self.tune.confirm)
        return (self.tune.trials + finals) * sum(each)


def plan(table: Mapping[str, Any]) -> Task:
    """Return what is to be done for a configuration; InputError for whatever is wrong in it."""
    check_installed()
    rest, compare = split_table(table)
    tune = tune_config(table)
    return Task(table, rest, compare, tune, plan_tuning(rest, compare, tune))


def is_tuning(folder: Path) -> bool:
    """Tell whether a folder is that of a tuning."""
    return (folder / TUNING).is_file()


def read_tuning(folder: Path) -> dict[str, Any]:
    """Return the tables of ``tuning.toml``; InputError naming the file, if it was edited."""
    return read_claimed(folder, TUNING)


def tune(task: Task, out: Path, on_cell: OnCell | None = None, workers: int = -1) -> list[Trial]:
    """Run every trial that is not finished; write ``tuned.toml`` and ``trials.csv``.

    The baseline is searched first, for the accuracy that it holds at its end. The best it found,
    minus ``compare.margin``, is the target; by that all trials are judged, the baseline's as well.
    On each of ``tune.confirm`` the finalists of the baseline set another one.

    Returns
    -------
    list of Trial
        All trials, in the order of studies.

    Raises
    ------
    InputError
        If `out` is in use, or holds something else or another tuning.
    RunError
        If no trial of some study came to a result, or the machine ended one.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with held(out):
        asked = {"compare": dataclasses.asdict(task.compare), "tune": dataclasses.asdict(task.tune)}
        text = tomli_w.dumps({**task.rest, **asked}, multiline_strings=True)
        claimed(out, TUNING, text, "tuning")
        with writing(out):
            (out / TRIALS).mkdir(exist_ok=True)
            search = _Search(task, out, Journal(out / JOURNAL), on_cell, workers)
        return _written(task, out, search)


def _written(task: Task, out: Path, search: _Search) -> list[Trial]:
    tune, studies = task.tune, task.plan.studies
    first = [study for study in studies if study.baseline == study.name]
    search.go(first, lambda _, run: baseline_score(run))
    targets = _targets(first, tune.seed, search, task.compare.margin)
    rest = [study for study in studies if study not in first]
    search.go(rest, lambda study, run: score(run, targets[study.baseline]))
    found = {study: search.judged(study, tune.seed, targets) for study in studies}
    lasting = {study: ranked(trials) for study, trials in found.items()}
    _check_lasting(lasting)
    if tune.confirm:
        lasting = search.finals(lasting)
        _check_lasting(lasting)
    for seed in tune.confirm:
        targets = _targets(first, seed, search, task.compare.margin, lasting)
        for study in studies:
            found[study] += search.judged(study, seed, targets)
    found = {study: with_choice(found[study], lasting[study]) for study in studies}
    trials = [trial for study in studies for trial in found[study]]
    chosen = {
        study.name: trial.settings for study in studies for trial in found[study] if trial.chosen
    }
    tuned = tuned_toml(task.rest, task.compare, tune, task.plan, chosen)
    with writing(out):
        write_atomically(out / TABLE, trials_csv(trials).encode())
        write_atomically(out / TUNED, tuned.encode())
    return trials


def _check_lasting(lasting: Mapping[Study, Sequence[int]]) -> None:
    for study, numbers in lasting.items():
        if not numbers:
            raise RunError(f"{study.name}: none of its settings came to a result on every seed")


def _targets(
    baselines: Sequence[Study],
    seed: int,
    search: _Search,
    margin: float,
    among: Mapping[Study, Sequence[int]] | None = None,
) -> dict[str, float]:
    """Return what the best trial of each baseline, of all or among some, sets on a seed."""
    found = {}
    for study in baselines:
        every = search.runs(study, seed).items()
        runs = [
            run
            for number, run in every
            if run is not None and not run.failed and (among is None or number in among[study])
        ]
        if not runs:
            raise RunError(
                f"{study.name}: no trial of the baseline came to a result on seed {seed}"
            )
        found[study.name] = max(map(held_accuracy, runs)) - margin
    return found


def _of_the_machine(failure: Failure) -> bool:
    """Tell whether another time the same run may well come to a result."""
    return failure.error.startswith(DEAD) or WORKER_DIED in failure.error


class _Search:
    """The trials of a tuning: made by the journal, run as cells, and written into the journal."""

    def __init__(
        self, task: Task, out: Path, journal: Journal, on_cell: OnCell | None, workers: int
    ) -> None:
        self._tune, self._folders = task.tune, out / TRIALS
        self._journal, self._on_cell, self._workers = journal, on_cell, workers

    def go(self, studies: Sequence[Study], value: Value) -> None:
        """Finish all trials of some studies: the first of each side by side, then the second."""
        for number in range(self._tune.trials):
            todo = {
                study: self._point(study, number)
                for study in studies
                if len(self._known(study)) <= number
            }
            cells = [study.trial(number, point) for study, point in todo.items()]
            self._run(cells)
            for (study, point), cell in zip(todo.items(), cells, strict=True):
                worth = value(study, self._read(cell))
                with writing(self._folders):
                    self._journal.add(study.name, study.space.axes, point, worth)

    def _point(self, study: Study, number: int) -> dict[str, Any]:
        axes = study.space.axes
        if number == 0:
            return dict(study.start)
        known, seed = self._known(study), self._tune.seed
        return next_point(axes, known, self._tune.trials, seed, study.name)

    def _known(self, study: Study) -> list[FrozenTrial]:
        return self._journal.finished(study.name, study.space.axes)

    def _read(self, cell: Cell) -> RunData | None:
        """Return a trial's run; None if it came to no result."""
        config = self._folders / cell.name / CONFIG
        if config.is_file() and read_config(config.parent) != cell.experiment:
            raise InputError(f"{config} has other settings than {JOURNAL} says; it was edited")
        failure = read_failure(self._folders / cell.name)
        if failure is None:
            return load_run(self._folders / cell.name)
        if _of_the_machine(failure):
            raise RunError(f"{cell.name}: {failure.error}; mpfl resume tries again")
        return None

    def finals(self, ranked: Mapping[Study, Sequence[int]]) -> dict[Study, list[int]]:
        """Run the best settings of all studies on the seeds that confirm them.

        Parameters
        ----------
        ranked
            Study → numbers of its trials, best first.

        Returns
        -------
        dict
            Study → numbers of the finalists, best first: those that came to a result on every seed.
            One that did not makes room for the next best.
        """
        waiting = {study: list(numbers) for study, numbers in ranked.items()}
        lasting: dict[Study, list[int]] = {study: [] for study in ranked}
        while True:
            todo = {
                study: numbers[: self._tune.finalists - len(lasting[study])]
                for study, numbers in waiting.items()
            }
            if not any(todo.values()):
                return lasting
            each = {
                study: [self._cells(study, seed) for seed in self._tune.confirm] for study in todo
            }
            cells = {
                (study, number): [on_seed[number] for on_seed in each[study]]
                for study, numbers in todo.items()
                for number in numbers
            }
            self._run([cell for own in cells.values() for cell in own])
            for (study, number), own in cells.items():
                waiting[study].remove(number)
                runs = [self._read(cell) for cell in own]
                if not any(run is None or run.failed for run in runs):
                    lasting[study].append(number)

    def _run(self, cells: Sequence[Cell]) -> None:
        """Run what is not finished, save what came to no result and would not another time."""
        todo = [cell for cell in cells if not self._settled(cell)]
        run_cells(todo, self._folders, self._on_cell, self._workers)

    def _settled(self, cell: Cell) -> bool:
        failure = read_failure(self._folders / cell.name)
        return failure is not None and not _of_the_machine(failure)

    def _cells(self, study: Study, seed: int) -> list[Cell]:
        known = self._known(study)
        return [study.trial(number, trial.params, seed) for number, trial in enumerate(known)]

    def runs(self, study: Study, seed: int) -> dict[int, RunData | None]:
        """Return number → run of a study's trials on a seed; what was removed is run again.

        On the tuning's seed those are all of them, on another one those that were run there.
        """
        cells = self._cells(study, seed)
        if seed == self._tune.seed:
            self._run(cells)
        return {
            number: self._read(cell)
            for number, cell in enumerate(cells)
            if (self._folders / cell.name).is_dir()
        }

    def judged(self, study: Study, seed: int, targets: Mapping[str, float]) -> list[Trial]:
        """Return a study's finished trials on a seed."""
        points = enumerate(self._known(study))
        settings = {number: study.space.settings(trial.params) for number, trial in points}
        return judged(study, settings, self.runs(study, seed), targets[study.baseline], seed)
