"""Other places that rounds can be shown in, off by default: TensorBoard, Weights & Biases."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from benchmarks.running.cell import CELLS, Cell, OnCell
from mpfl.config import Experiment, to_mapping, to_toml
from mpfl.errors import InputError, install_text
from mpfl.registry import Registry
from server.runfolder import ROUNDS

_NOT_MEASURED = ("round", "counted")


class Writer(Protocol):
    """Where the figures of one run go."""

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Take the figures of round `step`."""

    def close(self) -> None:
        """Finish; nothing is written afterwards."""


class TensorBoard:
    """Event files in the folder ``tensorboard`` of the run, for ``tensorboard --logdir``."""

    package = "tensorboard"

    def __init__(self, folder: Path, title: str, experiment: Experiment) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))
        self._writer.add_text("configuration", f"```\n{to_toml(experiment)}```")

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Write one scalar per figure."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WeightsAndBiases:
    """Weights & Biases, offline in the run's folder ``wandb`` unless ``WANDB_MODE`` says more."""

    package = "wandb"

    def __init__(self, folder: Path, title: str, experiment: Experiment) -> None:
        import wandb

        self._run: Any = wandb.init(
            project="mpfl",
            name=title,
            dir=str(folder),
            config=to_mapping(experiment),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def write(self, step: int, figures: Mapping[str, float]) -> None:
        """Log all figures as one step."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """End the run."""
        self._run.finish()


SINKS: Registry[Any] = Registry("sink", {"tensorboard": TensorBoard, "wandb": WeightsAndBiases})
"""Called with (folder of the run, title, experiment), each returns a `Writer`."""


def check_sink(name: str) -> None:
    """Check that a sink can be used; no name is no sink.

    Raises
    ------
    InputError
        For an unknown name, or if its package is not installed.
    """
    if not name:
        return
    package = SINKS[name].package
    if importlib.util.find_spec(package) is None:
        raise InputError(
            f"sink {name!r} needs the package {package}, which is not installed; "
            f"{install_text('sinks')}"
        )


@dataclass
class Feed:
    """Hands one run's rounds to a sink, which is opened with the first of them.

    Parameters
    ----------
    name
        Name in `SINKS`; empty: every round is ignored.
    folder
        The run folder; what a sink writes goes there.
    title
        What the sink calls the run.

    Raises
    ------
    InputError
        As `check_sink`.
    """

    name: str
    folder: Path
    title: str
    experiment: Experiment

    def __post_init__(self) -> None:
        check_sink(self.name)
        self._writer: Writer | None = None

    def on_round(self, record: Mapping[str, Any]) -> None:
        """Show one line of ``rounds.jsonl``."""
        if not self.name:
            return
        if self._writer is None:
            self._writer = SINKS[self.name](self.folder, self.title, self.experiment)
        self._writer.write(record["round"], figures_of(record))

    def replay(self) -> None:
        """Show every round of a run that has ended, as far as it came, and close."""
        file = self.folder / ROUNDS
        if self.name and file.is_file():
            for line in file.read_bytes().split(b"\n")[:-1]:  # the last one may be torn
                self.on_round(json.loads(line))
        self.close()

    def close(self) -> None:
        """Close the sink, if it was opened."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def show_in_sink(name: str, folder: Path, on_cell: OnCell | None = None) -> OnCell:
    """Return a callback for comparisons that shows each finished cell in a sink, then calls on."""

    def watch(cell: Cell, record: dict[str, Any] | None) -> None:
        if record is None:
            where = folder / CELLS / cell.name
            Feed(name, where, cell.name, cell.experiment).replay()
        if on_cell:
            on_cell(cell, record)

    return watch


def figures_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a round.

    Those of layers are called ``layer_density/name``, and a method's own ``extra/name``.

    Examples
    --------
    >>> figures_of({"round": 3, "phase": "mask", "density": 0.5, "layer_density": {"fc1": 0.4}})
    {'density': 0.5, 'layer_density/fc1': 0.4}
    """
    found = {}
    for key, value in record.items():
        nested = value.items() if key in ("layer_density", "extra") else ()
        for name, number in [(key, value), *((f"{key}/{inner}", v) for inner, v in nested)]:
            if name not in _NOT_MEASURED and _is_finite(number):
                found[name] = float(number)
    return found


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
