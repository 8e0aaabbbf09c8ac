"""A vote rule of your own: layers get a budget by the root of their size, beside built-in ones.

Run it with ``python examples/custom_vote_rule.py``; it needs no data and takes a few seconds.
The same file is a plugin:
``mpfl run demo --plugin examples/custom_vote_rule.py --set prune.vote=root_budget``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpfl import RULES, Rule, Vote


def root_budget(vote: Vote) -> NDArray[np.bool_]:
    """Keep the most voted units of each layer, as many as the root of its size allows.

    A layer four times as large gets twice the units, so small layers stay denser. What holds for
    every rule need not be repeated: pruned units stay pruned, and every layer keeps
    ``prune.min_units``.
    """
    context = vote.context
    parts = list(context.layout.slices())
    roots = np.sqrt([part.stop - part.start for part in parts])
    keep = np.zeros(vote.counts.size, np.bool_)
    for part, share in zip(parts, roots / roots.sum(), strict=True):
        surviving = np.flatnonzero(context.eligible[part])
        counts, tie_break = vote.counts[part][surviving], context.tie_break[part][surviving]
        best_first = np.lexsort((-tie_break, -counts.astype(np.int64)))
        keep[part.start + surviving[best_first[: round(share * context.units)]]] = True
    return keep


RULES.register("root_budget", Rule(root_budget, "root_budget"))


def main() -> None:
    import benchmarks  # not on the nodes of a deployment, which need the parts above alone

    comparison = benchmarks.compare(
        "demo",
        {"plugins": [__file__], "prune.density": 0.03, "federation.rounds": 6},
        methods=["mpfl"],
        seeds=[0, 1],
        sweep={"prune.vote": ["root_budget", "budget", "majority"]},
    )
    for row in comparison.rows:
        print(
            f"{row.method:<22} density {row.density or 1:.4f}  "
            f"test accuracy {100 * row.accuracy.mean:5.2f} %  {row.total_bytes / 1000:,.0f} kB"
        )
    print("Rules can differ in density: read accuracy beside density and bytes, never alone.")
    print(f"runs: {comparison.folder}")


if __name__ == "__main__":
    main()
