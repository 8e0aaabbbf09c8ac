"""Where to look next, by Optuna, and its journal: what a killed tuning has learned is not lost.

A point is a function of the tuning's seed, the study, the number of the trial and the finished
trials before it: for each the sampler is made anew, from a seed of its own, and shown those trials.
Only finished trials are ever written, in one line each.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.tuning.space import Axis, Choice, Point
from mpfl.errors import InputError, install_text
from mpfl.seeding import sequence
from server.custody import write_atomically

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import JournalStorage
    from optuna.trial import FrozenTrial


def check_installed() -> None:
    """Raise InputError if the extra that tuning needs is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise InputError(f"mpfl tune: optuna is not installed; {install_text('tune')}")


class _Held:
    """Optuna's lock of a file in a folder that is locked already, by one that dies with us."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Journal:
    """The finished trials of all studies of a tuning, in a file that Optuna's own tools read.

    One process at a time may have it: whoever holds the tuning's folder.

    Parameters
    ----------
    file
        Optuna's journal; made where it is not there.
    """

    def __init__(self, file: Path) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        _cut_torn_line(file)
        self._file = file
        try:
            self._storage: JournalStorage = optuna.storages.JournalStorage(
                JournalFileBackend(str(file), lock_obj=_Held())  # type: ignore[arg-type]
            )
        except OSError:
            raise
        except Exception as error:  # whatever Optuna meets in lines that it has not written
            raise self._damaged(f"{type(error).__name__}: {error}") from error

    def _damaged(self, why: str) -> InputError:
        return InputError(
            f"{self._file}: damaged ({why}); remove it: "
            "the search begins again, and trials that are finished are not run again"
        )

    def finished(self, study: str, axes: Mapping[str, Axis]) -> list[FrozenTrial]:
        """Return the finished trials of a study, in order; InputError where they are of others."""
        trials: list[FrozenTrial] = self._study(study).get_trials(deepcopy=False)
        for trial in trials:
            if trial.params.keys() != axes.keys() or trial.value is None:
                raise self._damaged(f"trial {trial.number} of {study} is none of its space")
        return trials

    def add(self, study: str, axes: Mapping[str, Axis], point: Point, value: float) -> None:
        """Write down the next trial of a study, finished."""
        from optuna.trial import create_trial

        trial = create_trial(params=dict(point), distributions=_distributions(axes), value=value)
        self._study(study).add_trial(trial)

    def _study(self, name: str) -> Any:
        import optuna

        known = name in optuna.get_all_study_names(self._storage)
        begin = optuna.load_study if known else optuna.create_study
        return begin(study_name=name, storage=self._storage)


def _cut_torn_line(file: Path) -> None:
    """Take away the end of a line that was never finished."""
    content = file.read_bytes() if file.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomically(file, whole)


def next_point(
    axes: Mapping[str, Axis],
    known: Sequence[FrozenTrial],
    trials: int,
    seed: int,
    study: str,
) -> dict[str, Any]:
    """Return what to try after some finished trials; small values of a trial are good ones.

    Sampled by a tree-structured Parzen estimator (Bergstra et al. 2011) from a third of the trials
    on, at random before. No trial is cut short by a pruner: then methods whose trials look bad
    early would get less work than others.

    Parameters
    ----------
    trials
        How many there will be in all.
    seed, study
        Of the tuning; part of the stream that is drawn from.
    """
    import optuna

    own = int(sequence(seed, f"tuning {study}", len(known)).generate_state(1)[0])
    sampler = optuna.samplers.TPESampler(seed=own, n_startup_trials=max(2, trials // 3))
    search = optuna.create_study(sampler=sampler, pruner=optuna.pruners.NopPruner())
    search.add_trials(known)
    return dict(search.ask(_distributions(axes)).params)


def _distributions(axes: Mapping[str, Axis]) -> dict[str, BaseDistribution]:
    return {name: _distribution(axis) for name, axis in axes.items()}


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(axis, Choice):
        return CategoricalDistribution(axis.values)
    if axis.whole:
        return IntDistribution(round(axis.low), round(axis.high))
    return FloatDistribution(axis.low, axis.high, log=axis.log)
