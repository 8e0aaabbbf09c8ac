"""Small runs of every method, codec and rule, and the digests they had when they were recorded.

``python -m tests.recorded_runs`` records them anew, with the machine they were recorded on:
digests are those of one processor's kernels and one release of PyTorch.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import benchmarks

RECORD = Path(__file__).parent / "golden" / "runs.json"

_BASE: dict[str, Any] = {
    "data.clients": 4,
    "data.partition": "dirichlet(0.5)",
    "data.train_samples": 240,
    "data.test_samples": 120,
    "model.name": "lenet300",
    "train.batch_size": 16,
    "prune.rounds": 2,
    "prune.density": 0.2,
    "prune.score_samples": 60,
    "federation.rounds": 5,
    "federation.clients_per_round": 3,
    "engine.workers": 0,
}

_METHODS = (
    "mpfl",
    "fedavg",
    "fedavg_prune",
    "signsgd_mv",
    "fedpm",
    "ssfl",
    "prunefl",
    "lotteryfl",
    "centralized",
)
_DRAWS = ("klms", "bicompfl")
_RECIPES = ("fedavg_q8", "topk")
_VALUES = (
    "float16",
    "bfloat16",
    "int8",
    "int4",
    "int3",
    "ternary",
    "int8(nearest)",
    "int4(nearest)",
    "int3(nearest)",
    "ternary(nearest)",
    "step",
    "step(1.5)",
    "step(2.0, 0.6)",
    "sparse(0.1)",
)
_RULES = (
    "majority",
    "unanimous",
    "any",
    "quorum(0.7)",
    "layer_budget",
    "layer_threshold",
    "histogram(80)",
    "trimmed(0.4)",
)
_SCORES = ("magnitude(l1)", "taylor", "fisher", "movement", "activity", "random")
_LSTM = {"data.name": "pydoc", "data.partition": "natural", "data.train_samples": 160,
         "model.name": "lstm_lm(24)", "train.optimizer": "adam", "train.lr": 0.01,
         "train.clip": 1.0}  # fmt: skip
_RESNET = {"model.name": "resnet20", "prune.granularity": "filter", "prune.density": 0.5}

_OTHER_SEEDS = {"prunefl": {"seed": 1}}
"""With seed 0 no reply of its first phase, of one client a round, comes through: no result."""

CASES: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in (*_METHODS, *_RECIPES)},
    **{
        f"{name}, strays": {"method": name, "faults.drop_after": 0.3, "faults.corrupt": 0.2,
                            **_OTHER_SEEDS.get(name, {})}
        for name in (*_METHODS[:-1], *_RECIPES)
    },
    **{f"values {v}": {"wire.up": v, "wire.down": v} for v in _VALUES},
    "values without feedback": {"wire.up": "int3", "wire.error_feedback": False},
    **{
        f"masks {codec}": {"wire.mask_codec": codec}
        for codec in ("raw", "rans", "matrix")
    },
    "masks without classes": {"wire.mask_classes": 1},
    **{
        f"vote {rule}": {"prune.vote": rule, "federation.clients_per_round": 0} for rule in _RULES
    },
    "vote weighted": {"prune.weighted": True, "prune.vote": "quorum(0.4)"},
    "vote tied": {"prune.vote": "majority", "prune.tie": "keep", "federation.clients_per_round": 4},
    "vote of two": {"prune.voters": 2},
    **{f"score {score}": {"prune.score": score} for score in _SCORES},
    **{f"ranking {name}": {"prune.ranking": name} for name in ("flat", "flat_normalized", "erk")},
    "ranking coverage": {"prune.ranking": "coverage", "prune.score": "activity"},
    **{f"schedule {name}": {"prune.schedule": name} for name in ("one_shot", "linear", "cubic")},
    "fedavg_prune at once": {"method": "fedavg_prune", "prune.schedule": "one_shot"},
    "finetune": {"prune.recovery": "finetune", "wire.up": "step(1.0)"},
    "rescale": {"prune.rescale": True},
    "regrow gradient": {"prune.regrow": "gradient", "federation.rounds": 7},
    "regrow random": {"prune.regrow": "random", "wire.down": "int4"},
    "gate": {"prune.gate": 0.3},
    "converged": {"prune.rounds": 4, "prune.converged": 0.9},
    "decay cosine": {"train.lr_decay": "cosine", "train.momentum": 0.9},
    "decay exponential": {"train.lr_decay": "exponential(0.9)", "train.optimizer": "adam",
                          "train.lr": 0.002, "train.weight_decay": 0.001},
    **{
        f"partition {name}": {"data.partition": name}
        for name in ("iid", "shards(2)", "quantity(0.8)")
    },
    **{
        f"faults {name}": {f"faults.{name}": 0.4}
        for name in ("drop_before", "straggle", "truncate", "replay", "wrong_round", "not_finite")
    },
    **{
        f"attack {name}": {"faults.byzantine": 0.4, "faults.attack": name}
        for name in ("random", "inverted", "colluding", "layer(fc2)")
    },
    **{
        f"stress {name}": {"faults.stress": 0.4, "faults.stress_kind": name}
        for name in ("pixels", "labels", "noise(0.3)", "free_rider")
    },
    "recurrent": _LSTM,
    "recurrent filters": {**_LSTM, "prune.granularity": "filter", "prune.density": 0.5},
    "recurrent finetune": {**_LSTM, "prune.recovery": "finetune", "prune.schedule": "cubic"},
    "convolutional": {"model.name": "conv4", "prune.score": "taylor"},
    "convolutional kernels": {"model.name": "conv4", "prune.granularity": "kernel"},
    "structured": {"model.name": "conv4", "prune.granularity": "filter", "prune.density": 0.5},
    "structured apoz": {"model.name": "conv4", "prune.granularity": "filter",
                        "prune.density": 0.5, "prune.score": "apoz"},
    **{
        f"residual {policy}": {**_RESNET, "model.batch_norm": policy}
        for policy in ("aggregate", "local", "freeze")
    },
    **{
        f"residual {name}": {"method": name, **_RESNET, "prune.granularity": "weight"}
        for name in ("signsgd_mv", "fedpm", "ssfl", "lotteryfl")
    },
    **{name: {"method": name} for name in _DRAWS},
    **{
        f"{name}, strays": {"method": name, "faults.drop_after": 0.3, "faults.corrupt": 0.2}
        for name in _DRAWS
    },
}  # fmt: skip
"""What to run: dotted keys that differ from the common small experiment."""


def machine() -> dict[str, str]:
    """Return what digests depend on beside the code."""
    facts = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {
        "processor": facts[0].partition(":")[2].strip() if facts else platform.processor(),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


def digests(changes: Mapping[str, Any]) -> list[str]:
    """Run one case; returns the digests of its mask, its model and all its payloads."""
    with tempfile.TemporaryDirectory() as folder:
        summary = benchmarks.run({}, {**_BASE, **changes}, out=Path(folder) / "run").summary
    return [summary[f"{kind}_digest"][:16] for kind in ("mask", "model", "payload")]


def main() -> None:
    """Record every case."""
    found = {}
    for name, changes in CASES.items():
        found[name] = digests(changes)
        print(name, *found[name], file=sys.stderr)
    RECORD.write_text(json.dumps({"machine": machine(), "runs": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
