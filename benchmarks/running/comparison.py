"""Many methods, seeds and settings on the same work, one run folder each, resumable."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import tomli_w

from benchmarks.results.loading import read_summary
from benchmarks.results.published import matches
from benchmarks.running.cell import CELLS, Cell, OnCell, Sweep
from benchmarks.running.compare_config import CompareConfig, split_table
from benchmarks.running.experiment import plan
from benchmarks.running.side_by_side import run_cells
from benchmarks.running.tune_config import tune_config
from benchmarks.same_run import home_of, write_shared
from mpfl.config import Experiment, from_mapping, to_mapping
from mpfl.data.digest import data_digests
from mpfl.errors import InputError, keyed, shown
from mpfl.methods import METHODS, Codecs
from mpfl.nested import dotted, read_toml, with_override
from mpfl.plugins import load as load_plugins
from mpfl.recipes import expanded, recipes
from mpfl.registry import parse_spec, unknown_name
from mpfl.wire.values import value_codec
from mpfl.world import held_data, shared_loader
from server.custody import (
    MANIFEST,
    check,
    check_file,
    digest_of,
    held,
    seal,
    write_atomically,
    writing,
)
from server.health import read_failure
from server.methods.settings import DECLARED
from server.records import SharedRun
from server.runfolder import CONFIG, SUMMARY, read_config
from server.summary import check_inputs

COMPARISON = "comparison.toml"
_LONGEST_NAME = 200  # bytes; file systems take 255
_DESCRIBES = ("prune.granularity",)
"""Keys that summaries count by, read or not."""


def plan_cells(table: Mapping[str, Any], config: CompareConfig) -> list[Cell]:
    """Return every cell, validated down to its data and model.

    Raises
    ------
    InputError
        If any cell's configuration is wrong, or two are the same run or share a folder.
    """
    sweeps = [tuple(zip(config.sweep, v, strict=True)) for v in product(*config.sweep.values())]
    load = shared_loader()
    cells = [
        Cell(label, seed, sweep, _experiment(table, config, label, sweep, seed), load)
        for label, sweep, seed in product(config.methods, sweeps, config.seeds)
    ]
    if config.wire:
        cells = _distinct(cells, config.baseline)
    _check_folders(cells)
    _check_labels_differ(cells)
    load_plugins(cells[0].experiment)
    if config.wire:
        with keyed("compare.wire (--wire)"):
            value_codec(config.wire)
    _check_known("methods", config.methods, config)
    _check_known("baseline", [config.baseline], config)
    _check_known("best_of", config.best_of, config)
    _check_known("ladder", list(config.ladder.values()), config)
    _check_known("adjust", _labels([rule["when"] for rule in config.adjust]), config)
    _check_known("published", _labels([entry.when for entry in config.published]), config)
    works = dict.fromkeys(_without_seed(cell) for cell in cells)
    ignored = {work: plan(work, load).ignored for work in works}
    return _shared(
        [dataclasses.replace(cell, ignored=ignored[_without_seed(cell)]) for cell in cells]
    )


def _shared(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells, those that do the run of an earlier one told so."""
    first: dict[str, str] = {}
    return [
        dataclasses.replace(cell, same_as="" if name == cell.name else name)
        for cell in cells
        for name in [first.setdefault(_effective(cell), cell.name)]
    ]


def _effective(cell: Cell) -> str:
    """Return what decides a cell's run, as text: its configuration without what nobody reads."""
    keys = dotted(to_mapping(cell.experiment))
    codecs = Codecs.of(cell.experiment)
    keys |= {"wire.up": codecs.up, "wire.down": codecs.down}
    unread = {
        key
        for key in cell.ignored
        if key not in _DESCRIBES and any(fnmatch(key, pattern) for pattern in DECLARED)
    }
    return repr({key: value for key, value in keys.items() if key not in unread})


def _check_known(key: str, labels: Sequence[str], config: CompareConfig) -> None:
    """Refuse what is neither a variant nor a method, with or without options."""
    for label in labels:
        with keyed(f"compare.{key}"):
            name = label if label in config.variants else parse_spec(label)[0]
            known = [*METHODS.names(), *recipes(), *config.variants]
            if name not in known:
                raise unknown_name("method", name, known)


def _labels(whens: Sequence[Mapping[str, Any]]) -> list[str]:
    return [str(when["label"]) for when in whens if "label" in when]


def _without_seed(cell: Cell) -> Experiment:
    return dataclasses.replace(cell.experiment, seed=0)


def idle_settings(
    table: Mapping[str, Any], config: CompareConfig, cells: Sequence[Cell]
) -> dict[str, str]:
    """Return the keys that a comparison sets and no cell reads, or has as they are set → why.

    A key of a variant is looked for in the cells of that variant, any other one in all.
    """
    found = _unread([*dotted(table), *config.sweep], cells) | _overridden(table, config, cells)
    for label, changes in config.variants.items():
        own = [cell for cell in cells if cell.label == label]
        asked = [key for key, value in changes.items() if value != ""]  # "" asks for nothing
        found |= {f"{label}: {key}": why for key, why in _unread(asked, own).items()}
    return found


def _overridden(
    table: Mapping[str, Any], config: CompareConfig, cells: Sequence[Cell]
) -> dict[str, str]:
    """Return the keys that every cell has from its variant, its recipe or a rule → that.

    Whoever sweeps a key, or puts all on one wire, knows that it is not what the table says.
    """
    known = {"method", "seed", "plugins", *config.sweep}
    known |= {"wire.up", "wire.down"} if config.wire else set()
    own = [dotted(to_mapping(cell.experiment)) for cell in cells]
    return {
        key: "a variant, a recipe or a rule of compare.adjust sets it in every run"
        for key, value in dotted(table).items()
        if key not in known and all(of.get(key, value) != value for of in own)
    }


def _unread(keys: Sequence[str], cells: Sequence[Cell]) -> dict[str, str]:
    return {
        key: cells[0].ignored[key]
        for key in dict.fromkeys(keys)
        if cells and all(key in cell.ignored for cell in cells)
    }


def _experiment(
    table: Mapping[str, Any], config: CompareConfig, label: str, sweep: Sweep, seed: int
) -> Experiment:
    overrides = expanded({"method": label, **config.variants.get(label, {}), **dict(sweep)})
    resolved: Mapping[str, Any] = with_override(table, "seed", seed)
    for key, value in overrides.items():
        resolved = with_override(resolved, key, value)
    for rule in config.adjust:
        if matches(rule["when"], label, to_mapping(from_mapping(resolved))):
            for key, value in rule["set"].items():
                if dict(sweep).get(key, value) != value:
                    text = f"compare.adjust sets it to {shown(value)} for {label!r}"
                    raise InputError(f"compare.sweep.{key}: {text}, whatever is swept")
                resolved = with_override(resolved, key, value)
    experiment = from_mapping(resolved)
    wire = dataclasses.replace(experiment.wire, up=config.wire, down=config.wire)
    return dataclasses.replace(experiment, wire=wire) if config.wire else experiment


def _distinct(cells: Sequence[Cell], baseline: str) -> list[Cell]:
    """Return the cells without those of methods that are others under another name."""
    first: dict[tuple[Experiment, ...], str] = {}
    for label, work in sorted(_work(cells).items(), key=lambda item: item[0] != baseline):
        first.setdefault(work, label)
    return [cell for cell in cells if cell.label in first.values()]


def _work(cells: Sequence[Cell]) -> dict[str, tuple[Experiment, ...]]:
    """Return what each method or variant runs."""
    found: dict[str, tuple[Experiment, ...]] = {}
    for cell in cells:
        found[cell.label] = (*found.get(cell.label, ()), cell.experiment)
    return found


def _check_folders(cells: Sequence[Cell]) -> None:
    taken: dict[str, Cell] = {}
    for cell in cells:
        if len(cell.name.encode()) > _LONGEST_NAME:
            text = f"{shown(cell.name)} is too long for a folder's name"
            raise InputError(f"compare: {text} ({_LONGEST_NAME} bytes); name variants instead")
        if cell.name in taken:
            pair = f"{taken[cell.name].label!r} and {cell.label!r}"
            raise InputError(f"compare: {pair} would share the folder {shown(cell.name)}")
        taken[cell.name] = cell


def _check_labels_differ(cells: Sequence[Cell]) -> None:
    """Refuse two methods or variants that are the same experiments under two names."""
    first: dict[tuple[Experiment, ...], str] = {}
    for label, work in _work(cells).items():
        other = first.setdefault(work, label)
        if other != label:
            raise InputError(f"compare.methods: {other!r} and {label!r} are the same experiment")


def compare(
    table: Mapping[str, Any],
    cells: Sequence[Cell],
    out: Path,
    on_cell: OnCell | None = None,
    workers: int = -1,
) -> dict[str, str]:
    """Run every unfinished cell of a comparison; returns the cells that failed → why.

    A cell that fails is marked by ``failure.json`` in its folder, and the others go on; run
    again, the comparison tries it once more.

    Cells that do the run of another one are not run: their folders name it.

    Parameters
    ----------
    cells
        What `plan_cells` made of the table.

    Raises
    ------
    InputError
        If `out` is in use, holds another comparison, cells of other inputs, or a file that was
        edited.
    """
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with held(out):
        _claim(out, table, cells)
        _check_inputs(out, cells)
        run_cells(_own(out, cells), out / CELLS, on_cell, workers)
    found = {cell.name: read_failure(home_of(out / CELLS / cell.name)) for cell in cells}
    return {name: failure.error for name, failure in found.items() if failure}


def _own(out: Path, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with a run of their own; the folders of the others say whose they share."""
    own = []
    for cell in cells:
        folder = out / CELLS / cell.name
        if cell.same_as and not (folder / CONFIG).is_file():
            with writing(out):
                write_shared(folder, SharedRun(cell=cell.same_as, seed=cell.seed, **cell.tags))
        else:
            own.append(cell)
    return own


def _check_inputs(out: Path, cells: Sequence[Cell]) -> None:
    """Check that finished cells saw the data that the others will see; InputError naming it."""
    for cell in cells:
        file = out / CELLS / cell.name / SUMMARY
        if file.is_file():
            check_file(file.parent, SUMMARY)
            known = read_summary(file).health
            if known is not None:
                now = data_digests(*held_data(cell.experiment, cell.load))
                with keyed(cell.name):
                    check_inputs(cell.experiment, now, known.inputs)


def read_comparison(out: Path) -> dict[str, Any]:
    """Return the tables of ``comparison.toml``. InputError naming the file, if it was edited."""
    return read_claimed(out, COMPARISON)


def read_claimed(out: Path, name: str) -> dict[str, Any]:
    """Return the tables of the file that says what a folder is for; InputError if edited."""
    check(out)
    file = out / name
    try:
        return read_toml(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, InputError) as error:
        raise InputError(f"{file}: {error}") from None


def _claim(out: Path, table: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """Start a comparison folder, or recognise the one that is there."""
    rest, config = split_table(table)
    text = tomli_w.dumps({**rest, "compare": dataclasses.asdict(config)}, multiline_strings=True)
    claimed(out, COMPARISON, text, "comparison")
    with writing(out):
        (out / CELLS).mkdir(exist_ok=True)
    for cell in cells:
        stored = out / CELLS / cell.name
        if (stored / CONFIG).is_file() and read_config(stored) != cell.experiment:
            raise InputError(f"{stored / CONFIG} is of another configuration; choose another --out")


def _with_defaults(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is asked for, with the keys that a version before did not know."""
    rest, config = split_table(table)
    tune = {"tune": dataclasses.asdict(tune_config(table))} if "tune" in table else {}
    return {**rest, "compare": dataclasses.asdict(config), **tune}


def claimed(out: Path, name: str, text: str, what: str) -> None:
    """Write into a new folder what it is for, or recognise a folder that is for the same.

    Raises
    ------
    InputError
        If the folder holds anything else.
    """
    file = out / name
    cut_short = {MANIFEST, f"{MANIFEST}.tmp", f"{name}.tmp"}
    with writing(out):
        if file.is_file():
            if _with_defaults(read_claimed(out, name)) != _with_defaults(read_toml(text)):
                raise InputError(f"--out: {out} holds another {what}; choose another folder")
        else:
            if {entry.name for entry in out.iterdir()} - cut_short:
                raise InputError(f"--out: {out} is not empty and holds no {what}")
            seal(out, {name: digest_of(text.encode())})
            write_atomically(file, text.encode())
