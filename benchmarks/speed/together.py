"""Clients trained together against one after another and a plain PyTorch loop, on one device."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.engine import mnist_or_noise, run_apart
from benchmarks.speed.engine_work import Job
from mpfl.errors import InputError, keyed
from mpfl.models import MODELS
from mpfl.registry import parse_spec
from mpfl.training.local import cpu_has_bf16

MODEL_NAMES = ("lenet5", "niid_cnn", "resnet18")
TOGETHER = (1, 8, 32, 128)
_WAYS = {0: "plain loop", 1: "one after another"}
_ENGINE = {False: "bare", True: "vectorised"}


def together_table(
    device: str,
    models: Sequence[str] = MODEL_NAMES,
    together: Sequence[int] = TOGETHER,
    clients: int = 128,
    rounds: int = 1,
    samples: int = 0,
    data_dir: Path | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Time training rounds of every network in float32 and bf16 (where the device has it).

    Each client trains one epoch in batches of 32 on its equal part of MNIST, from w0, and answers
    with a ballot of filters: messages and scores, which are the processor's work, are small. The
    plain loop has PyTorch's own settings, under which a GPU may convolve in TF32; mpfl does not.

    Parameters
    ----------
    together
        Clients trained together, one row each; 1: one after another.
    clients
        Clients per round.
    rounds
        Timed rounds after the first.
    samples
        Of each client; 0: an equal part of all.
    data_dir
        Folder with ``MNIST/raw``; None: random images of the same shape.
    on_row
        Sees each row as soon as it is measured.

    Returns
    -------
    list of dict
        ``model``, ``precision``, ``way``, ``clients_per_second`` (of the fastest round),
        ``ratio_to_plain`` of that speed, ``first_round_seconds``, ``memory_bytes`` of the host
        as in `engine_table`, ``device_memory_bytes`` (None without a GPU), ``failure`` (why
        there are no numbers, in one line; such as too little memory), ``load``.

    Raises
    ------
    InputError
        For what cannot be run here: a device that is not there, an unknown network, more clients
        together than there are, more samples than MNIST has.
    """
    _check(device, models, together, clients, samples)
    rows = []
    with mnist_or_noise(data_dir) as folder:
        plain = Job("bare", 0, clients, rounds, folder, device=device, samples=samples)
        for model, precision in product(models, _precisions(device)):
            job = replace(plain, model=model, precision=precision, granularity="filter")
            speed = None
            for number in (0, *together):
                row = _row(replace(job, engine=_ENGINE[number > 0], together=number), speed)
                speed = speed if number else row["clients_per_second"]
                rows.append(row)
                if on_row:
                    on_row(row)
    return rows


def _check(
    device: str, models: Sequence[str], together: Sequence[int], clients: int, samples: int
) -> None:
    if device not in ("cpu", "cuda"):
        raise InputError(f"--device: got {device!r}, expected cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device: no CUDA device here, use cpu")
    for model in models:
        with keyed("--models"):
            MODELS[parse_spec(model)[0]]
    if not models or not together or min(together) < 1 or max(together) > clients:
        raise InputError(f"--together: got {list(together)}, expected 1 to --clients {clients}")
    if samples * clients > 60_000:
        raise InputError(f"--samples: got {samples}, expected at most {60_000 // clients}")


def _precisions(device: str) -> list[str]:
    return ["float32", "bf16"] if device == "cuda" or cpu_has_bf16() else ["float32"]


def _row(job: Job, plain: float | None) -> dict[str, Any]:
    load, speed, failure = os.getloadavg()[0], None, ""
    result: dict[str, Any] = {}
    memory = None
    try:
        result, memory = run_apart(job)
        speed = job.clients / min(result["round_seconds"])
    except RuntimeError as error:
        failure = str(error).strip().splitlines()[-1]
    return {
        "model": job.model,
        "precision": job.precision,
        "way": _WAYS.get(job.together, f"{job.together} together"),
        "clients_per_second": speed,
        "ratio_to_plain": speed / plain if speed and plain else None,
        "first_round_seconds": result.get("start_seconds"),
        "memory_bytes": memory,
        "device_memory_bytes": result.get("device_bytes"),
        "failure": failure,
        "load": load,
    }
