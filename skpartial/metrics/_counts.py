"""Counts of correct and incorrect predictions per label or per row, and rates computed from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skpartial.metrics._encode import Truth, for_each, row_blocks

Average = Literal["macro", "micro", "samples"] | None


class Counts(NamedTuple):
    """Counts per label or per row: true positives, false positives, false negatives, and all entries that count.

    Whole numbers, or sums of weights if there are weights.
    """

    right: NDArray[Any]
    wrong: NDArray[Any]
    missed: NDArray[Any]
    known: NDArray[Any]

    def overall(self) -> Counts:
        """The counts of all labels or rows together, shape (1,)."""
        return Counts(*(counts.sum(keepdims=True) for counts in self))


def count(truth: Truth, predict: Callable[[slice], NDArray[np.bool_]], axis: int) -> Counts:
    """Count over a label matrix, row block after row block.

    Parameters
    ----------
    truth : Truth
        The true labels. Counts per label are weighted by their weights; counts per row are unweighted.
    predict : callable
        Maps a slice of rows to a mask of the entries that are predicted positive, shape (b, L).
    axis : {0, 1}
        0 counts per label, 1 per row.

    Returns
    -------
    Counts
        Counts of shape (L,) or (n,).
    """

    def count_block(rows: slice) -> NDArray[Any]:
        present, known = truth.of_rows(rows)
        predicted = predict(rows)
        if known is not None:
            predicted = predicted & known
        weights = truth.weights_of_rows(rows) if axis == 0 else None
        if weights is not None:
            # Sums of correct and incorrect entries, not differences, so that they are exactly 0 if there are none.
            counts = known if known is not None else np.ones_like(present)
            parts = (present & predicted, predicted & ~present, present & ~predicted, counts)
            return np.stack([(part * weights).sum(axis=0) for part in parts])
        right = np.count_nonzero(present & predicted, axis=axis)
        wrong = np.count_nonzero(predicted, axis=axis) - right
        missed = np.count_nonzero(present, axis=axis) - right
        if known is None:
            return np.stack([right, wrong, missed, np.full_like(right, present.shape[axis])])
        return np.stack([right, wrong, missed, np.count_nonzero(known, axis=axis)])

    found = for_each(count_block, row_blocks(truth.shape))
    return Counts(*(np.sum(found, axis=0) if axis == 0 else np.concatenate(found, axis=1)))


def check_zero_division(zero_division: Any) -> None:
    """Raise unless `zero_division` is 0, 1 or NaN."""
    number = isinstance(zero_division, (int, float, np.integer, np.floating)) and not isinstance(zero_division, bool)
    if not number or not (zero_division in (0, 1) or np.isnan(zero_division)):
        raise ValueError(f"zero_division must be 0.0, 1.0 or NaN, got {zero_division!r}.")


def rates(counts: Counts, zero_division: float) -> NDArray[np.float64]:
    """Precision, recall and F1 of each label or row, shape (3, m); NaN without known entries."""
    right, wrong, missed, known = counts

    def ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
        return np.divide(part, whole, out=np.full(len(whole), float(zero_division)), where=whole > 0)

    values = np.stack(
        [ratio(right, right + wrong), ratio(right, right + missed), ratio(2 * right, 2 * right + wrong + missed)]
    )
    values[:, known == 0] = np.nan
    return values


def mean_known(values: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Mean over the last axis without NaN, weighted by `weights`; NaN if all values are NaN."""
    counted = ~np.isnan(values)
    number = (counted if weights is None else counted * weights).sum(axis=-1)
    values = np.where(counted, values, 0.0)
    total = (values if weights is None else values * weights).sum(axis=-1)
    return np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)


def averaged_rates(
    truth: Truth, predict: Callable[[slice], NDArray[np.bool_]], average: Average, zero_division: float
) -> NDArray[np.float64]:
    """Precision, recall and F1 averaged by `average`, shape (3,), or (3, L) for None."""
    counts = count(truth, predict, axis=1 if average == "samples" else 0)
    if average == "micro":
        return rates(counts.overall(), zero_division)[:, 0]
    values = rates(counts, zero_division)
    return values if average is None else mean_known(values, truth.weights if average == "samples" else None)
