"""What a tuning consists of: a study for every method and each combination of swept values."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from benchmarks.running.cell import Cell
from benchmarks.running.compare_config import CompareConfig
from benchmarks.running.comparison import plan_cells
from benchmarks.running.experiment import plan
from benchmarks.running.tune_config import TuneConfig
from benchmarks.tuning.space import Choice, Point, Space, fits, read_space
from mpfl.checks import check_codecs, check_pruning, check_training
from mpfl.config import Experiment, StopConfig, from_mapping, to_mapping
from mpfl.errors import InputError, keyed
from mpfl.methods import Codecs
from mpfl.nested import dotted, fail, value_at, with_override
from mpfl.registry import parse_spec, unknown_name

EVERY = "*"
"""In ``[tune.space]``: all methods."""
_NO_CLIENTS = "data.clients"
"""What a method that has none never reads."""
_OF_THE_TUNING = ("stop.*", "federation.rounds")
"""Keys that a tuning sets itself: in its trials they have none of the swept values."""
_BUILT = ("model.*", "prune.*", "comparator.*")
"""Keys of which a name, or of the network any value, may be none for it: it is built to see."""
_WITH_ARGUMENT = re.compile(r"\s*(\w+)\(\s*([^,()=\s]+)\s*([,)].*)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Study:
    """What is tuned together: a method (or variant) under one combination of swept values.

    Attributes
    ----------
    cell
        Its run as the configuration has it, on the tuning's seed, with validation samples.
    space
        What is tried.
    start
        The point nearest to the configuration as it stands: the first trial.
    baseline
        Name of the study that sets its target.
    """

    cell: Cell
    space: Space
    start: Point
    baseline: str

    @property
    def name(self) -> str:
        """The method with its swept values."""
        return study_name(self.cell)

    def trial(self, number: int, point: Point, seed: int | None = None) -> Cell:
        """Return the run of a trial, on the tuning's seed or on another one."""
        seed = self.cell.seed if seed is None else seed
        place = (*self.cell.sweep, ("trial", number))
        settings = {**self.space.settings(point), "seed": seed}
        experiment = changed(self.cell.experiment, settings)
        return replace(self.cell, seed=seed, sweep=place, experiment=experiment, same_as="")


@dataclass(frozen=True)
class Plan:
    """All studies, and what each cell of the comparison takes its settings from.

    Attributes
    ----------
    studies
        In the order of methods and swept values; cells that do the same run share one.
    cells
        Cells of the comparison that are tuned, one for each method and combination.
    labels
        What is compared in the end: what is tuned, and what has no clients.
    """

    studies: tuple[Study, ...]
    cells: tuple[Cell, ...]
    labels: tuple[str, ...]

    def study_of(self, cell: Cell) -> Study:
        """Return the study whose result a cell gets."""
        wanted = cell.same_as or cell.name
        return next(study for study in self.studies if study.cell.name == wanted)


def study_name(cell: Cell) -> str:
    """Return the name of a cell without its seed."""
    return cell.name.removesuffix(f"__seed{cell.seed}")


def plan_tuning(rest: Mapping[str, Any], asked: CompareConfig, tune: TuneConfig) -> Plan:
    """Return what is to be tuned, all of it validated.

    Every run of a combination of swept values has about the same number of client epochs: those of
    the method that makes most of them as the configuration stands. Others get as many rounds as
    that allows.

    Parameters
    ----------
    rest
        The configuration without its tables ``[compare]`` and ``[tune]``.

    Raises
    ------
    InputError
        One line naming the key, what was got and what is allowed.
    """
    text = f"what was tuned on a seed says nothing about it (compare.seeds: {asked.seeds})"
    if tune.seed in asked.seeds:
        fail("tune.seed", tune.seed, f"a seed of its own: {text}")
    if not set(tune.confirm).isdisjoint(asked.seeds):
        fail("tune.confirm", tune.confirm, f"seeds of their own: {text}")
    for key in asked.sweep:
        if fits(key, _OF_THE_TUNING):
            raise InputError(f"compare.sweep.{key}: the same for all trials of a tuning")
    labels = tuned_labels(asked, tune)
    known = [EVERY, *labels, *asked.methods, *asked.variants]
    for label in tune.space:
        if label not in known:
            with keyed("tune.space"):
                raise unknown_name("method", label, known)
    config = replace(asked, methods=labels, seeds=[tune.seed])
    cells = [_readied(cell) for cell in plan_cells(with_validation(rest, tune), config)]
    compared = tuple(dict.fromkeys(cell.label for cell in cells))
    cells = _equal_work([cell for cell in cells if _NO_CLIENTS not in cell.ignored])
    own = [cell for cell in cells if not cell.same_as]
    studies = [_study(cell, _baseline_of(cell, cells, asked), asked, tune) for cell in own]
    if not studies:
        raise InputError(f"{', '.join(labels)}: nothing to tune, without clients no byte is sent")
    for label, table in tune.space.items():
        if label in (EVERY, *labels):
            _check_read(label, table, studies)
    return Plan(tuple(studies), tuple(cells), compared)


def _check_read(label: str, table: Mapping[str, Any], studies: Sequence[Study]) -> None:
    """Refuse a key or name that no study looks at, and a table of what has no study."""
    own = [study for study in studies if label in (EVERY, study.cell.label)]
    with keyed("tune.space"):
        if not own:
            text = f"{label!r} is not tuned: it has no clients, or does the run of another"
            raise InputError(f"{text} (tuned: {', '.join({s.cell.label: 0 for s in studies})})")
    read = {key for study in own for key in (*study.space.axes, *study.space.templates)}
    for key in sorted(table, key=lambda key: "." not in key):
        if key not in read:
            known = ", ".join(sorted(read))
            raise InputError(f"tune.space.{label}.{key}: {_unread(key, own)} (tuned: {known})")


def _unread(key: str, studies: Sequence[Study]) -> str:
    """Say why none of some studies looks at a key."""
    if "." not in key:
        return "no key, and it stands in the braces of none"
    why = studies[0].cell.ignored.get(key, "the comparison sets it")
    return f"without effect, {why}"


def tuned_labels(asked: CompareConfig, tune: TuneConfig) -> list[str]:
    """Return what is tuned and then compared: what was asked for, and the baseline."""
    return list(dict.fromkeys([*(tune.methods or asked.methods), asked.baseline]))


def with_validation(rest: Mapping[str, Any], tune: TuneConfig) -> dict[str, Any]:
    """Return the configuration with validation samples, if it has none yet."""
    data = rest.get("data", {})
    share = data.get("validation", 0) if isinstance(data, Mapping) else 0
    return with_override(rest, "data.validation", share or tune.validation)


def changed(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """Return an experiment with dotted keys set anew."""
    table: dict[str, Any] = to_mapping(experiment)
    for key, value in settings.items():
        table = with_override(table, key, value)
    return from_mapping(table)


def _readied(cell: Cell) -> Cell:
    """Return a cell that runs to its end: rules that stop it would give it less work."""
    if cell.experiment.data.validation == 0:
        fail("data.validation", 0.0, "a share of the training data to choose by, in every cell")
    return replace(cell, experiment=replace(cell.experiment, stop=StopConfig()))


def _equal_work(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with as many rounds as make the same client epochs for every method."""
    most: dict[str, int] = {}
    for cell in cells:
        federation, key = cell.experiment.federation, repr(cell.sweep)
        most[key] = max(most.get(key, 0), federation.rounds * _epochs_a_round(cell.experiment))
    return [_with_rounds(cell, most[repr(cell.sweep)]) for cell in cells]


def _with_rounds(cell: Cell, client_epochs: int) -> Cell:
    experiment = cell.experiment
    rounds = max(1, client_epochs // _epochs_a_round(experiment))
    federation = replace(experiment.federation, rounds=rounds)
    return replace(cell, experiment=replace(experiment, federation=federation))


def _epochs_a_round(experiment: Experiment) -> int:
    clients = experiment.federation.clients_per_round or experiment.data.clients
    return clients * experiment.train.epochs


def _baseline_of(cell: Cell, cells: Sequence[Cell], asked: CompareConfig) -> str:
    """Return the name of the study that sets a cell's target."""
    for other in cells:
        if (other.label, other.sweep) == (asked.baseline, cell.sweep):
            seed = f"__seed{other.seed}"
            return (other.same_as or other.name).removesuffix(seed)
    raise InputError(f"compare.baseline: {asked.baseline!r} sends nothing, so it sets no target")


def _study(cell: Cell, baseline: str, asked: CompareConfig, tune: TuneConfig) -> Study:
    codecs = Codecs.of(cell.experiment)
    table = default_space(cell.experiment, codecs)
    given = {**tune.space.get(EVERY, {}), **tune.space.get(cell.label, {})}
    where = f"tune.space.{cell.label}"
    one_wire = ("wire.up", "wire.down") if asked.wire else ()
    left_out = [*cell.ignored, *asked.sweep, *one_wire]
    space = read_space({**table, **given}, where, left_out)
    if not space.axes:
        raise InputError(f"{where}: nothing to tune; expected a key that {cell.label!r} reads")
    own = dotted(to_mapping(cell.experiment))
    now = space.point_of({**own, "wire.up": codecs.up, "wire.down": codecs.down})
    study = Study(cell, space, now, baseline)
    _check_ends(study, where)
    return study


def _check_ends(study: Study, where: str) -> None:
    """Refuse a space of which some value is no setting; InputError naming it."""
    with keyed(where):
        _check_point(study, study.start)
    for name, axis in study.space.axes.items():
        ends = axis.values if isinstance(axis, Choice) else (axis.low, axis.high)
        for end in ends:
            with keyed(f"{where}.{name}"):
                point = {**study.start, name: end}
                _check_point(study, point)
                named = isinstance(end, str | bool) or name.startswith("model.")
                if named and fits(name, _BUILT):  # a trial that cannot begin would end the tuning
                    plan(study.trial(0, point).experiment, study.cell.load)


def _check_point(study: Study, point: Point) -> None:
    experiment = study.trial(0, point).experiment
    check_codecs(experiment.wire)
    check_pruning(experiment)
    check_training(experiment.train)


@cache
def _defaults() -> Mapping[str, Any]:
    return tomllib.loads((resources.files(__package__) / "spaces.toml").read_text("utf-8"))


def default_space(experiment: Experiment, codecs: Codecs) -> dict[str, Any]:
    """Return what is tuned unless somebody says otherwise.

    That is the optimizer's keys, the method's own, and of each value codec that is written with
    arguments the first one.
    """
    known = _defaults()
    name, _ = parse_spec(experiment.method)
    table = {**known["optimizer"][experiment.train.optimizer], **known["method"].get(name, {})}
    for way in ("up", "down"):
        found = _WITH_ARGUMENT.fullmatch(getattr(codecs, way))
        if found and found[1] in known["codec"]:
            codec, _, rest = found.groups()
            table |= {codec: known["codec"][codec], f"wire.{way}": f"{codec}({{{codec}}}{rest}"}
    return table


def swept_keys(cell: Cell) -> dict[str, Any]:
    """Return the swept keys that a cell reads, with its values; `value_at` finds them in it."""
    table = to_mapping(cell.experiment)
    return {key: value_at(table, key) for key, _ in cell.sweep if key not in cell.ignored}
