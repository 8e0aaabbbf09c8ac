"""A score of your own: |w| times how far the weight has moved, beside two built-in scores.

Run it with ``python examples/custom_score.py``; it needs no data and takes a few seconds.
The same file is a plugin:
``mpfl run demo --plugin examples/custom_score.py --set prune.score=moved``.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mpfl import SCORES, Score, ScoreInputs, StepObserver, Structure, UnitScores


class Start(StepObserver):
    """Remembers the weights before the first step of local training."""

    def __init__(self, structure: Structure) -> None:
        self.values: Tensor | None = None

    def __call__(self, values: Tensor, grads: Tensor, lr: float) -> None:
        """See values and gradients before a step."""
        if self.values is None:
            self.values = values.clone()


def moved(inputs: ScoreInputs) -> UnitScores:
    """|w| · |w − w_start|: large weights that training has also changed."""
    now = inputs.model.values
    start = inputs.observed.values if isinstance(inputs.observed, Start) else None
    change = now if start is None else now - start
    return inputs.structure.unit_values((now * change).abs().numpy().astype(np.float32))


SCORES.register("moved", Score(moved, observer=Start))


def main() -> None:
    import benchmarks  # not on the nodes of a deployment, which need the parts above alone

    comparison = benchmarks.compare(
        "demo",
        {"plugins": [__file__], "prune.density": 0.05, "federation.rounds": 6},
        methods=["mpfl"],
        seeds=[0, 1],
        sweep={"prune.score": ["moved", "magnitude", "random"]},
    )
    for row in comparison.rows:
        print(f"{row.method:<24} test accuracy {100 * row.accuracy.mean:5.2f} %")
    print("Two seeds on one small data set: a start, not a verdict.")
    print(f"runs: {comparison.folder}")


if __name__ == "__main__":
    main()
