"""A data set of your own: two interleaved rings of points, drawn from the library's seeds.

Run it with ``python examples/custom_dataset.py``; it needs no data and takes a few seconds.
The same file is a plugin:
``mpfl run demo --plugin examples/custom_dataset.py --set data.name=rings``.
"""

from __future__ import annotations

import numpy as np
import torch

from mpfl import DATASETS, DataConfig, Dataset, Samples, numpy_rng

POINTS, SIZE = 1200, 12


def rings(config: DataConfig) -> Dataset:
    """Images of noisy rings, 12 x 12: the class (0 to 3) is the ring's radius."""
    rng = numpy_rng(0, "rings")  # the data is the same whatever the run's seed
    targets = np.arange(POINTS, dtype=np.int64) % 4
    rng.shuffle(targets)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    centres = rng.uniform(4.5, 6.5, (2, POINTS, 1, 1))
    distance = np.hypot(rows - centres[0], columns - centres[1])
    ring = np.exp(-np.square(distance - (1.5 + targets)[:, None, None]))
    images = ring + rng.normal(0, 0.4, ring.shape)
    inputs = torch.from_numpy(images.astype(np.float32)[:, None])
    whole = Samples(inputs, torch.from_numpy(targets))
    held = POINTS // 5
    train = whole.subset(torch.arange(held, POINTS))
    test = whole.subset(torch.arange(held))
    return Dataset(config.name, train, test, classes=4, input_shape=(1, SIZE, SIZE))


DATASETS.register("rings", rings)


def main() -> None:
    import benchmarks  # not on the nodes of a deployment, which need the parts above alone

    for name in ("rings", "digits"):
        comparison = benchmarks.compare(
            "demo",
            {"plugins": [__file__], "data.name": name, "federation.rounds": 6},
            methods=["mpfl", "fedavg"],
            seeds=[0, 1],
        )
        print(f"{name}:")
        print(comparison.table())
        print(f"runs: {comparison.folder}")


if __name__ == "__main__":
    main()
