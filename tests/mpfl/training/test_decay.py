"""Learning rates over rounds, by hand."""

from __future__ import annotations

import math

import pytest

from mpfl.config import TrainConfig
from mpfl.errors import InputError
from mpfl.training.decay import learning_rate


def rates(decay: str, steps: int) -> list[float]:
    config = TrainConfig(lr=0.5, lr_decay=decay)
    return [learning_rate(config, step, steps) for step in range(steps)]


def test_stairs_fall_after_each_share_of_the_rounds() -> None:
    assert rates("step(0.1, 0.5, 0.75)", 8) == pytest.approx(
        [0.5, 0.5, 0.5, 0.5, 0.05, 0.05, 0.005, 0.005]
    )
    assert rates("step(0.5, 0.5)", 4) == [0.5, 0.5, 0.25, 0.25]
    assert rates("step(0.5, 0.25, 0.5, 0.75)", 4) == [0.5, 0.25, 0.125, 0.0625]


def test_a_warm_up_rises_in_even_steps_and_then_is_constant_or_a_cosine() -> None:
    assert rates("warmup(4)", 7) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5])
    cosine = [0.5 * 0.5 * (1 + math.cos(math.pi * n / 3)) for n in range(3)]
    assert rates("warmup(1, cosine)", 4) == pytest.approx([0.25, *cosine])


@pytest.mark.parametrize(
    ("decay", "said"),
    [
        ("step(0.1)", "'step' takes 2 to 4 arguments"),
        ("step(0, 0.5)", "got factor = 0, expected 0 < factor <= 1"),
        ("step(0.1, 0.75, 0.5)", "expected 0 < first <= second"),
        ("step(0.1, 50)", "expected 0 < first <= second"),
        ("warmup(0)", "got 0 rounds of warm-up, expected at least 1"),
        ("warmup(2, linear)", "unknown argument of learning-rate decay 'warmup' 'linear'"),
    ],
)
def test_what_makes_no_sense_is_refused(decay: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        rates(decay, 4)
    assert said in str(caught.value)
