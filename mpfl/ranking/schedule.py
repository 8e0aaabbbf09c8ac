"""Target density of every round of phase 1."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real

from mpfl.errors import InputError, shown
from mpfl.registry import Registry

Schedule = Callable[..., float]
"""(target density, elapsed share of the rounds in (0, 1], and its arguments) -> density."""


def one_shot(target: float, elapsed: float) -> float:
    """The target from the first round on."""
    return target


def linear(target: float, elapsed: float) -> float:
    """Prune the same number of units every round."""
    return 1.0 - (1.0 - target) * elapsed


def geometric(target: float, elapsed: float) -> float:
    """Prune the same share of the survivors every round (iterative magnitude pruning)."""
    return float(target**elapsed)


def cubic(target: float, elapsed: float) -> float:
    """Prune fast first, then ever more slowly (Zhu & Gupta 2017, eq. 1)."""
    return target + (1.0 - target) * (1.0 - elapsed) ** 3


SCHEDULES: Registry[Schedule] = Registry(
    "schedule",
    {"one_shot": one_shot, "linear": linear, "geometric": geometric, "cubic": cubic},
    given=2,
)
"""(target density, share of the rounds that is over, and its arguments) -> a density."""


def density_path(schedule: str, target: float, rounds: int) -> list[float]:
    """Return the densities after round 1, …, `rounds`; the last one is exactly `target`.

    Parameters
    ----------
    schedule
        One of `SCHEDULES`.
    target
        Share of the prunable units that survive in the end, 0 < target <= 1.
    rounds
        Rounds of phase 1, at least 1.

    Raises
    ------
    InputError
        For an unknown schedule, unfit arguments, or a value out of range.

    Examples
    --------
    >>> [round(density, 3) for density in density_path("geometric", 0.1, 3)]
    [0.464, 0.215, 0.1]
    """
    density = SCHEDULES.bind(schedule)
    if not 0 < target <= 1:
        raise InputError(f"target density: got {target}, expected 0 < density <= 1")
    if rounds < 1:
        raise InputError(f"rounds: got {rounds}, expected at least 1")
    path = [density(target, t / rounds) for t in range(1, rounds)] + [target]
    for number, found in enumerate(path, start=1):
        if not (isinstance(found, Real) and 0 < found <= 1):
            where = f"{schedule!r}: round {number}"
            raise InputError(f"{where}: got {shown(found)}, expected 0 < density <= 1")
    return path
