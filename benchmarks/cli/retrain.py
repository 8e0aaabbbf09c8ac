"""``mpfl retrain``: evaluate a finished run's mask by retraining on the pooled data."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.cli.console import Reporter
from benchmarks.cli.options import DataDir, Json, Quiet, write_output
from benchmarks.results.loading import check_run, read_mask, read_summary
from mpfl.central import CentralRetrain, central_retrain
from mpfl.config import Experiment
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.world import World, build_world
from server.custody import add, held, writing
from server.records import RetrainRecord, Summary, json_text, to_json
from server.runfolder import CONFIG, MASK, RETRAIN, SUMMARY, read_config
from server.summary import check_inputs, input_digests


def retrain(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    epochs: Annotated[
        int, typer.Option(min=0, help="0: as many as a client makes in all rounds.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="File, else RUN/central_retrain.json.")
    ] = None,
    data_dir: DataDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Evaluate a run's mask otherwise: central_retrain, w0 trained under it on pooled data."""
    reporter = Reporter(quiet=quiet, as_json=as_json)
    read_config(run)
    with held(run) if out is None else nullcontext():
        _retrain(run, epochs, out, data_dir, reporter)


def _retrain(
    run: Path, epochs: int, out: Path | None, data_dir: Path | None, reporter: Reporter
) -> None:
    target = run / RETRAIN if out is None else out
    experiment, mask, summary = _finished_run(run)
    if target.exists():
        raise InputError(f"{target} is there already; choose another file with --out")
    if not target.parent.is_dir():
        raise InputError(f"--out: there is no folder {target.parent}")
    if data_dir is not None:
        folder = str(data_dir.resolve())
        experiment = replace(experiment, data=replace(experiment.data, folder=folder))
    torch.set_num_threads(1)  # as in every run: results must not depend on threads
    world = build_world(experiment)
    if mask.layout != world.layout:
        raise InputError(f"{run / MASK}: its layers are not those of the model in {CONFIG}")
    if summary.health is not None:
        check_inputs(experiment, input_digests(world), summary.health.inputs)
    epochs = epochs or experiment.federation.rounds * experiment.train.epochs

    def on_epoch(number: int, loss: float) -> None:
        reporter.say(f"epoch {number:>3}/{epochs}  training loss {loss:.4f}")

    found = central_retrain(world, mask, epochs, on_epoch)
    record = _record(world, mask, found, summary)
    content = (json_text(record, indent=2, sort_keys=True) + "\n").encode()
    write_output(target, content)
    if out is None:
        with writing(run):
            add(run, RETRAIN, content)
    reporter.conclude(retrain_line(record))
    reporter.say(f"written: {target}")
    reporter.result(to_json(record))


def retrain_line(record: RetrainRecord) -> str:
    """Return the one line that says what was found, and what it is not."""
    return (
        f"central_retrain: test accuracy {record.test_accuracy:.4f} after "
        f"{record.epochs} epochs on {record.samples} pooled samples from {record.start} "
        f"at density {record.density:.4f}; the federated model's is "
        f"{record.federated_test_accuracy:.4f}"
    )


def _finished_run(run: Path) -> tuple[Experiment, Mask, Summary]:
    experiment = read_config(run)
    if not (run / SUMMARY).is_file():
        raise InputError(f"{run} is not finished: it has no {SUMMARY}; use mpfl resume")
    check_run(run)
    mask, summary = read_mask(run / MASK), read_summary(run / SUMMARY)
    if summary.mask_digest != mask.digest():
        raise InputError(f"{run / MASK} is not the mask that {SUMMARY} names")
    return experiment, mask, summary


def _record(world: World, mask: Mask, found: CentralRetrain, summary: Summary) -> RetrainRecord:
    experiment = world.experiment
    density, density_all = world.structure.densities(mask)
    return RetrainRecord(
        evaluation="central_retrain",
        method=experiment.method,
        seed=experiment.seed,
        start=experiment.model.weights or "w0",
        epochs=len(found.losses),
        samples=found.samples,
        losses=list(found.losses),
        test_accuracy=found.test.accuracy,
        test_loss=found.test.loss,
        test_predictions=found.test.samples,
        federated_test_accuracy=summary.test_accuracy,
        density=density,
        density_all_parameters=density_all,
        mask_digest=mask.digest(),
    )
