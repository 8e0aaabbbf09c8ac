"""Masks to try codecs on."""

import numpy as np
import pytest

from mpfl.mask import Layout, Mask


@pytest.fixture
def bernoulli():
    """Return a function that draws a mask with independent bits."""

    def draw(units, fraction, seed=0, within=None):
        layout = Layout(tuple(f"layer{i}" for i in range(len(units))), tuple(units))
        bools = np.random.default_rng(seed).random(layout.total) < fraction
        if within is not None:
            bools &= within.bools()
        return Mask.from_bools(layout, bools)

    return draw
