"""Labels of rows, columns and classes for `matrix`: a logistic regression in few passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.masks.sheet import Block, Sheet

Bools = NDArray[np.bool_]
Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]

_LARGEST_LABEL = 63
_FEWEST = 4
"""Rows, and columns, from which on labels of their own can pay."""
_BLOCK = 1 << 15
_PRIOR = 0.5
_LIMIT = 20.0
_SWEEPS = 5
_LAST_STEPS = 3
_HALF = float(np.log(2.0)) / 2
_WORTH = (2 * _HALF, 2 * _HALF, _HALF)
"""Log-odds of a label of a column, row and class."""


def fit_labels(bools: Bools, sheet: Sheet) -> NDArray[np.int8]:
    """Return the labels of a layer: of its columns, its rows and the classes it has."""
    if min(sheet.width, sheet.height) < _FEWEST:
        return _classes_alone(bools, sheet)
    fit = _together(_Fit.start(bools, sheet)).better_columns().rounded()
    parts = zip((fit.columns, fit.rows, fit.classes[sheet.counts > 0]), _WORTH, strict=True)
    return np.concatenate([_label(scores, worth) for scores, worth in parts])


def _classes_alone(bools: Bools, sheet: Sheet) -> NDArray[np.int8]:
    labels = np.zeros(sum(sheet.groups), np.int8)
    ones = np.zeros(sheet.counts.size)
    for block in sheet.blocks(_BLOCK):
        counted = block.counted()
        bits = block.take(bools) if counted is None else block.take(bools) & counted
        kinds = np.zeros(1, np.uint8) if sheet.classes is None else block.take(sheet.classes)
        ones += np.bincount(np.broadcast_to(kinds, bits.shape)[bits], minlength=ones.size)
    scores = _log_odds(ones, sheet.counts.astype(np.float64), 0.5)
    labels[sheet.width + sheet.height :] = _label(scores[sheet.counts > 0], _WORTH[2])
    return labels


def _rounded(scores: Doubles, worth: float) -> Doubles:
    """Return the nearest log-odds that a label can say."""
    rounded: Doubles = _label(scores, worth) * np.float64(worth)
    return rounded


def _label(scores: Doubles, worth: float) -> NDArray[np.int8]:
    labels = np.clip(np.rint(scores / worth), -_LARGEST_LABEL, _LARGEST_LABEL)
    return labels.astype(np.int8)


@dataclass(frozen=True)
class _Fit:
    """Log-odds of columns, rows and classes, and the ones that these have."""

    sheet: Sheet
    columns: Doubles
    rows: Doubles
    classes: Doubles
    column_ones: Doubles
    row_ones: Doubles
    class_ones: Doubles

    @classmethod
    def start(cls, bools: Bools, sheet: Sheet) -> _Fit:
        """Return what the shares of ones say, each on its own."""
        width, height, kinds = sheet.width, sheet.height, sheet.counts.size
        ones = [np.zeros(width), np.zeros(height), np.zeros(kinds)]
        total = [np.zeros(width), np.zeros(height)]
        for block in sheet.blocks(_BLOCK):
            bits, counted = block.take(bools), block.counted()
            if counted is not None:
                bits = bits & counted
            for sums, part in ((ones, bits), (total, counted)):
                if part is None:
                    sums[0][block.columns] += block.shape[0]
                    sums[1][block.rows] += block.shape[1]
                else:
                    single = part.astype(np.float32)
                    sums[0][block.columns] += single.sum(axis=0)
                    sums[1][block.rows] += single.sum(axis=1)
            if sheet.classes is not None:
                kept = block.take(sheet.classes)[bits]
                ones[2] += np.bincount(kept, minlength=kinds)
        if sheet.classes is None:
            ones[2][0] = ones[0].sum()
        share = (ones[0].sum() + 0.5) / (total[0].sum() + 1.0)
        common = np.log(share / (1.0 - share))
        columns, rows, classes = (
            _log_odds(n, of, float(share))
            for n, of in zip(ones, [*total, sheet.counts.astype(np.float64)], strict=True)
        )
        return cls(sheet, columns - common, rows - common, classes, *ones)

    def better_columns(self) -> _Fit:
        """Return the fit after a Newton step for rows, and one for columns."""
        rows = self.rows.copy()
        expected, spread = np.zeros(self.columns.size), np.zeros(self.columns.size)
        for block, base in self._bases(self.columns):
            rows[block.rows] = own = self._better_rows(block, base)
            chance, variance = _chances(base, own)
            expected += chance.sum(axis=0)
            spread += variance.sum(axis=0)
        columns = _newton(self.columns, self.column_ones, expected, spread)
        return replace(self, rows=rows, columns=columns)

    def rounded(self) -> _Fit:
        """Return it in whole labels: first columns, then rows, then classes make up for it."""
        columns, rows = _rounded(self.columns, _WORTH[0]), self.rows.copy()
        for block, base in self._bases(columns):
            rows[block.rows] = _rounded(self._better_rows(block, base), _WORTH[1])
        crowds = _Crowds.of(replace(self, columns=columns, rows=rows))
        for _ in range(_LAST_STEPS):
            crowds = crowds.stepped(2)
        return replace(self, columns=columns, rows=rows, classes=crowds.spread_out()[2])

    def _bases(self, columns: Doubles) -> Iterator[tuple[Block, Singles]]:
        """Give blocks of whole rows, each with the odds of its units but for those of its rows."""
        odds_of_class, odds_of_column = _odds(self.classes), _odds(columns)
        for block in self.sheet.blocks(max(_BLOCK, self.sheet.width)):
            base = block.of_classes(odds_of_class) * odds_of_column
            counted = block.counted()
            yield block, base if counted is None else base * counted

    def _better_rows(self, block: Block, base: Singles) -> Doubles:
        """Return a block's rows after a Newton step."""
        own = self.rows[block.rows]
        expected, spread = (sums.sum(axis=1, dtype=np.float64) for sums in _chances(base, own))
        return _newton(own, self.row_ones[block.rows], expected, spread)


def _together(fit: _Fit) -> _Fit:
    """Return the fit with one score for all columns that start out alike, and so for rows.

    In a complete table columns with equally many ones do have the same score, so that the odds
    can be found from how many units meet in each pair of such groups: a far smaller table.
    """
    crowds = _Crowds.of(fit)
    for _ in range(_SWEEPS):
        for axis in range(3):
            crowds = crowds.stepped(axis)
    rows, columns, classes = crowds.spread_out()
    return replace(fit, rows=rows, columns=columns, classes=classes)


@dataclass(frozen=True)
class _Crowds:
    """Rows of equal score as one, columns of equal score as one, and the classes there are.

    Attributes
    ----------
    units
        float32[rows, columns, classes]: how many coded units are in each.
    members
        For each of the three: which crowd every row, column and class belongs to.
    scores, ones, priors
        For each of the three: log-odds of the crowds, their ones, and what pulls them to zero.
    """

    units: Singles
    members: tuple[NDArray[np.intp], ...]
    scores: tuple[Doubles, ...]
    ones: tuple[Doubles, ...]
    priors: tuple[Doubles, ...]

    @classmethod
    def of(cls, fit: _Fit) -> _Crowds:
        """Put together what differs by less than a label of a class."""
        rows, row_of = np.unique(np.rint(fit.rows / _HALF), return_inverse=True)
        columns, column_of = np.unique(np.rint(fit.columns / _HALF), return_inverse=True)
        present = np.flatnonzero(fit.sheet.counts)
        class_of = np.zeros(fit.sheet.counts.size, np.intp)
        class_of[present] = np.arange(present.size)
        shape = rows.size, columns.size, present.size
        members = row_of, column_of, class_of
        return cls(
            units=_meetings(fit.sheet, members, shape),
            members=members,
            scores=(rows * _HALF, columns * _HALF, fit.classes[present]),
            ones=(
                np.bincount(row_of, fit.row_ones).astype(np.float64),
                np.bincount(column_of, fit.column_ones).astype(np.float64),
                fit.class_ones[present],
            ),
            priors=(
                _PRIOR * np.bincount(row_of).astype(np.float64),
                _PRIOR * np.bincount(column_of).astype(np.float64),
                np.zeros(present.size),
            ),
        )

    def stepped(self, axis: int) -> _Crowds:
        """Return them after a Newton step for the scores of one axis."""
        odds = [_odds(part) for part in self.scores]
        table = odds[0][:, None, None] * odds[1][:, None] * odds[2]
        inverse = 1.0 / (1.0 + table)
        table *= inverse
        table *= self.units
        others = tuple(other for other in range(3) if other != axis)
        expected = table.sum(axis=others).astype(np.float64)
        table *= inverse
        spread = table.sum(axis=others).astype(np.float64)
        scores = list(self.scores)
        scores[axis] = _newton(scores[axis], self.ones[axis], expected, spread, self.priors[axis])
        return replace(self, scores=tuple(scores))

    def spread_out(self) -> tuple[Doubles, ...]:
        """Return the scores of every row, column and class."""
        pairs = zip(self.scores, self.members, strict=True)
        return tuple(
            scores[which] if scores.size else np.zeros(which.size) for scores, which in pairs
        )


def _meetings(
    sheet: Sheet, members: tuple[NDArray[np.intp], ...], shape: tuple[int, int, int]
) -> Singles:
    """Return how many coded units there are of each crowd of rows and columns and each class."""
    counts = np.zeros(shape[0] * shape[1] * shape[2], np.int64)
    for block in sheet.blocks(_BLOCK):
        keys = np.add.outer(members[0][block.rows] * shape[1], members[1][block.columns])
        keys *= shape[2]
        if sheet.classes is not None:
            keys += members[2].take(block.take(sheet.classes))
        counted = block.counted()
        keys = keys.ravel() if counted is None else keys[counted]
        counts += np.bincount(keys, minlength=counts.size)
    return counts.reshape(shape).astype(np.float32)


def _odds(scores: Doubles) -> Singles:
    return np.exp(np.clip(scores, -_LIMIT, _LIMIT)).astype(np.float32)


def _chances(base: Singles, rows: Doubles) -> tuple[Singles, Singles]:
    """Return the chance of a one and its variance, given all odds but those of the rows."""
    odds = base * _odds(rows)[:, None]
    inverse = 1.0 / (1.0 + odds)
    odds *= inverse
    return odds, odds * inverse


def _newton(
    scores: Doubles,
    ones: Doubles,
    expected: Doubles,
    spread: Doubles,
    prior: float | Doubles = _PRIOR,
) -> Doubles:
    step = (ones - expected - prior * scores) / (spread + prior + 1e-9)
    moved: Doubles = np.clip(scores + np.clip(step, -2.0, 2.0), -_LIMIT, _LIMIT)
    return moved


def _log_odds(ones: Doubles, total: Doubles, share: float) -> Doubles:
    logs: Doubles = np.log((ones + share) / (total - ones + 1.0 - share))
    return logs
