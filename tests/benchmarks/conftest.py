"""Small synthetic run folders: real file formats, made-up figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mpfl.config import from_mapping, to_toml
from mpfl.mask import Mask

LAYERS = {"fc1": (20, 64), "fc2": (10, 20)}
COLUMNS = [
    "round",
    "phase",
    "client",
    "direction",
    "mask_bytes",
    "values_bytes",
    "scores_bytes",
    "metrics_bytes",
    "config_bytes",
    "framing_bytes",
    "message_bytes",
    "formula_bytes",
    "bound_bytes",
]
SIZES = {"fedavg": (5000, 5000, 1.0), "mpfl": (500, 520, 0.1), "signsgd_mv": (180, 180, 1.0)}


def write_run(
    folder: Path,
    *,
    label: str = "mpfl",
    method: str = "",
    seed: int = 0,
    sweep: dict[str, Any] | None = None,
    rounds: int = 8,
    clients: int = 4,
    peak: float = 0.95,
    speed: float = 2.0,
    sizes: tuple[int, int, float] | None = None,
    eval_every: int = 1,
    extras: bool = True,
) -> Path:
    """Write a run folder in which accuracy rises to `peak` and every message has a fixed size."""
    method = method or label
    up, down, final = sizes or SIZES.get(method, (0, 0, 1.0))
    if method == "centralized":
        up = down = 0
    masked = final < 1
    jitter = np.random.default_rng([seed, sum(label.encode())])
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = []
    ledger: list[dict[str, Any]] = []
    sent = {"uplink": 0, "downlink": 0}
    for number in range(1, rounds + 1):
        voting = masked and number <= 3
        phase = "central" if not up else "mask" if voting else "train"
        density = final ** (min(number, 3) / 3)
        for client in range(clients if up else 0):
            for direction, size in (("downlink", down), ("uplink", up)):
                size = size // 4 if voting else size
                framing, config, metrics = 40, 30, 8 if direction == "uplink" else 0
                body = size - framing - config - metrics
                scores = body // 10 if method == "ssfl" and number == 1 else 0
                body -= scores
                ledger.append(
                    {
                        "round": number,
                        "phase": phase,
                        "client": client,
                        "direction": direction,
                        "mask_bytes": body if voting else 0,
                        "values_bytes": 0 if voting else body,
                        "scores_bytes": scores,
                        "metrics_bytes": metrics,
                        "config_bytes": config,
                        "framing_bytes": framing,
                        "message_bytes": size,
                        "formula_bytes": int(body * 1.2),
                        "bound_bytes": round(body * 0.9, 3),
                    }
                )
                sent[direction] += size
        tested = number % eval_every == 0 or number == rounds
        level = peak - (peak - 0.1) * np.exp(-speed * number / rounds * 3)
        accuracy = float(np.clip(level + jitter.normal(0, 0.003), 0, 1)) if tested else None
        line: dict[str, Any] = {
            "round": number,
            "phase": phase,
            "density": density,
            "density_all_parameters": density * 0.98 + 0.02,
            "test_accuracy": accuracy,
            "test_loss": None if accuracy is None else 1 - accuracy,
            "uplink_bytes": sent["uplink"],
            "downlink_bytes": sent["downlink"],
            "total_bytes": sum(sent.values()),
            "clients_sampled": clients if up else 0,
            "clients_replied": clients if up else 0,
            "rejected": {},
            "seconds": 0.5,
        }
        if extras and masked:
            line["layer_density"] = {"fc1": density * 0.97, "fc2": min(1.0, density * 1.2)}
        if extras and voting:
            line["vote"] = {
                "unanimity": 0.5 + 0.1 * number,
                "overlap": 0.4 + 0.1 * number,
                "densities": {
                    "majority": density * 0.9,
                    "unanimous": density * 0.6,
                    "any": min(1.0, density * 1.5),
                    "budget": density,
                },
                "histogram": {
                    name: [float(units * 10) / (k + 1) for k in range(clients + 1)]
                    for name, (units, _) in LAYERS.items()
                },
            }
        if extras and number == rounds and up:
            line["client_accuracy"] = [
                float(np.clip(level + jitter.normal(0, 0.04), 0, 1)) for _ in range(clients)
            ]
        lines.append(line)
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with (folder / "ledger.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(ledger)
    known = method if method in SIZES or method == "centralized" else "mpfl"
    experiment = from_mapping(
        {"seed": seed, "method": known, "data": {"clients": clients}, "prune": {"density": 0.1}}
    )
    (folder / "config.toml").write_text(to_toml(experiment))
    parameters = sum(a * b + a for a, b in LAYERS.values())
    prunable = sum(a * b for a, b in LAYERS.values())
    summary: dict[str, Any] = {
        "method": method,
        "label": label,
        "seed": seed,
        "sweep": sweep or {},
        "test_accuracy": lines[-1]["test_accuracy"],
        "test_loss": lines[-1]["test_loss"],
        "density": density,
        "density_all_parameters": lines[-1]["density_all_parameters"],
        "uplink_bytes": sent["uplink"],
        "downlink_bytes": sent["downlink"],
        "total_bytes": sum(sent.values()),
        "rounds": rounds,
        "seconds": 0.5 * rounds,
        "peak_memory_bytes": 300_000_000,
        "mask_digest": "ab" * 32,
        "model_digest": "cd" * 32,
        "parameters": parameters,
        "prunable": prunable,
        "surviving_parameters": int(prunable * density) + parameters - prunable,
        "versions": {"python": "3.11.7", "torch": "2.13.0", "flwr": "1.41.0"},
        "machine": {"processor": "test", "cores": 2},
    }
    if extras:
        summary |= {"macs_dense": 2 * prunable, "macs_masked": int(2 * prunable * density)}
        share = np.random.default_rng(7).dirichlet([0.3] * clients, 10).T
        summary["partition"] = np.rint(share * 150).astype(int).tolist()
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    if masked:
        keep = np.random.default_rng(seed)
        layers = {name: keep.random(a * b) < density for name, (a, b) in LAYERS.items()}
        (folder / "mask.mpfl").write_bytes(Mask.from_layers(layers).to_bytes())
    save_file(
        {f"{name}.weight": torch.zeros(shape) for name, shape in LAYERS.items()},
        folder / "model.safetensors",
    )
    return folder


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Path]:
    """Return `write_run`."""
    return write_run


@pytest.fixture(scope="session")
def make_comparison(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """Return a writer of comparison folders: four methods × seeds."""

    def write(folder: Path, seeds: int = 3, methods: tuple[str, ...] = ()) -> Path:
        peaks = {"fedavg": 0.96, "mpfl": 0.955, "signsgd_mv": 0.9, "centralized": 0.98}
        for label in methods or tuple(peaks):
            for seed in range(seeds):
                cell = folder / "cells" / f"{label}-seed{seed}"
                make_run(cell, label=label, seed=seed, peak=peaks.get(label, 0.93))
        (folder / "comparison.toml").write_text(f"methods = {json.dumps(list(methods))}\n")
        return folder

    return write
