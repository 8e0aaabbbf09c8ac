"""Labels of rows, columns and classes for mpfl.wire.matrix: a logistic regression in few passes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mpfl.wire.sheet import Sheet

Bools = NDArray[np.bool_]
Singles = NDArray[np.float32]
Doubles = NDArray[np.float64]

_LARGEST_LABEL = 63
_FEWEST = 4
"""Rows, and columns, from which on labels of their own can pay."""
_BLOCK = 1 << 15
_PRIOR = 0.5
_LIMIT = 20.0
_SWEEPS = 6
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
        rows, sums = self._rows_and_sums(self.columns, final=False)
        return replace(self, rows=rows, columns=_newton(self.columns, self.column_ones, *sums))

    def rounded(self) -> _Fit:
        """Return it in whole labels: first columns, then rows, then classes make up for it."""
        columns = _rounded(self.columns, _WORTH[0])
        rows, sums = self._rows_and_sums(columns, final=True)
        classes = _newton(self.classes, self.class_ones, *sums, prior=0.0)
        return replace(self, columns=columns, rows=rows, classes=classes)

    def _rows_and_sums(
        self, columns: Doubles, final: bool
    ) -> tuple[Doubles, tuple[Doubles, Doubles]]:
        """Return the rows after a Newton step, then sums of chances and of their variances.

        The sums are over columns; in the final step, which rounds the rows, over classes.
        """
        sheet, rows = self.sheet, self.rows.copy()
        size = self.classes.size if final else columns.size
        expected, spread = np.zeros(size), np.zeros(size)
        odds_of_class, odds_of_column = _odds(self.classes), _odds(columns)
        for block in sheet.blocks(max(_BLOCK, sheet.width)):
            base = block.of_classes(odds_of_class) * odds_of_column
            counted = block.counted()
            if counted is not None:
                base = base * counted
            own = rows[block.rows]
            chance, variance = _chances(base, own)
            sums = chance.sum(axis=1, dtype=np.float64), variance.sum(axis=1, dtype=np.float64)
            own = _newton(own, self.row_ones[block.rows], *sums)
            rows[block.rows] = own = _rounded(own, _WORTH[1]) if final else own
            chance, variance = _chances(base, own)
            if not final:
                expected += chance.sum(axis=0)
                spread += variance.sum(axis=0)
            elif sheet.classes is None:
                expected += chance.sum()
                spread += variance.sum()
            else:
                kinds = block.take(sheet.classes).ravel()
                expected += np.bincount(kinds, chance.ravel(), size)
                spread += np.bincount(kinds, variance.ravel(), size)
        return rows, (expected, spread)


def _together(fit: _Fit) -> _Fit:
    """Return the fit with one score for all columns that start out alike, and so for rows.

    In a complete table columns with equally many ones do have the same score, so that the odds
    can be found from how many units meet in each pair of such groups: a far smaller table.
    """
    columns, column_of = _alike(fit.columns)
    rows, row_of = _alike(fit.rows)
    present = np.flatnonzero(fit.sheet.counts)
    units = _meetings(fit.sheet, (row_of, rows.size), (column_of, columns.size), present)
    scores: list[Doubles] = [rows, columns, fit.classes[present]]
    ones: list[Doubles] = [
        np.bincount(row_of, fit.row_ones).astype(np.float64),
        np.bincount(column_of, fit.column_ones).astype(np.float64),
        fit.class_ones[present],
    ]
    priors: list[Doubles] = [
        _PRIOR * np.bincount(row_of).astype(np.float64),
        _PRIOR * np.bincount(column_of).astype(np.float64),
        np.zeros(present.size),
    ]
    for _ in range(_SWEEPS):
        for axis in range(3):
            odds = [_odds(part) for part in scores]
            table = odds[0][:, None, None] * odds[1][:, None] * odds[2]
            inverse = 1.0 / (1.0 + table)
            table *= inverse
            table *= units
            others = tuple(other for other in range(3) if other != axis)
            expected: Doubles = table.sum(axis=others).astype(np.float64)
            table *= inverse
            spread: Doubles = table.sum(axis=others).astype(np.float64)
            scores[axis] = _newton(scores[axis], ones[axis], expected, spread, priors[axis])
    classes = fit.classes.copy()
    classes[present] = scores[2]
    return replace(fit, rows=scores[0][row_of], columns=scores[1][column_of], classes=classes)


def _alike(scores: Doubles) -> tuple[Doubles, NDArray[np.intp]]:
    """Return the scores that differ by a label of a class or more, and which one each has."""
    levels, which = np.unique(np.rint(scores / _HALF), return_inverse=True)
    return levels * _HALF, which


def _meetings(
    sheet: Sheet,
    rows: tuple[NDArray[np.intp], int],
    columns: tuple[NDArray[np.intp], int],
    present: NDArray[np.intp],
) -> Singles:
    """Return how many coded units there are of each group of rows and columns and each class."""
    place = np.zeros(sheet.counts.size, np.intp)
    place[present] = np.arange(present.size)
    shape = rows[1], columns[1], present.size
    counts = np.zeros(rows[1] * columns[1] * present.size, np.int64)
    for block in sheet.blocks(_BLOCK):
        keys = np.add.outer(rows[0][block.rows] * shape[1], columns[0][block.columns])
        keys *= shape[2]
        if sheet.classes is not None:
            keys += place.take(block.take(sheet.classes))
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
