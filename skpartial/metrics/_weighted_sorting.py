"""Rankings of weighted entries: :class:`~skpartial.metrics._sorting.Ranking` with sums of weights for counts.

Weights do not fit into the keys by which unweighted rankings are sorted in place, so each ranking takes an argsort.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class WeightedRanking:
    """Positions of the positives in b rankings, in total weight counted from the highest score.

    It has the interface of `Ranking`, so that each metric is written once. Whole-number weights are equivalent to
    repeating each entry that often.

    Parameters
    ----------
    scores : ndarray, shape (b, w)
        Finite where an entry counts.
    present : ndarray of bool, shape (b, w)
        Mask of the positives; all others are negative.
    known : ndarray of bool, shape (b, w), or None
        Mask of the entries that count; None if all count.
    weights : ndarray of float64, shape (b, w) or (1, w)
        Weights of at least 0; entries of weight 0 do not count.

    Attributes
    ----------
    n_present, n_absent : ndarray of float64, shape (b,)
        Total weight of the positives and negatives of each ranking that count.
    entries_at_least, present_at_least : ndarray of float64, shape (P,)
        For each positive that counts, ranking after ranking and from the highest score down: the total weight of all
        entries, and of the positives, with at least its score.
    """

    def __init__(
        self,
        scores: NDArray[Any],
        present: NDArray[np.bool_],
        known: NDArray[np.bool_] | None,
        weights: NDArray[np.float64],
    ) -> None:
        weights = np.broadcast_to(weights, scores.shape)
        counted = weights > 0 if known is None else known & (weights > 0)
        found = [
            _closing_weights(row[use], is_present[use], weight[use])
            for row, is_present, weight, use in zip(scores, present, weights, counted)
        ]
        self._weights, self.present_at_least, absent, self._tied_absent = np.concatenate(found, axis=1)
        self.entries_at_least = self.present_at_least + absent
        self._row = np.repeat(np.arange(len(scores)), [values.shape[1] for values in found])
        self.n_present = np.where(counted & present, weights, 0.0).sum(axis=1)
        self.n_absent = np.where(counted & ~present, weights, 0.0).sum(axis=1)

    def tied_absent(self) -> NDArray[np.float64]:
        """For each positive, the total weight of the negatives of its ranking with the same score, shape (P,)."""
        return self._tied_absent

    def sum(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum the values of the positives, times their weights, over each ranking, shape (P,) to (b,)."""
        total: Any = np.bincount(self._row, weights=values * self._weights, minlength=len(self.n_present))
        return np.asarray(total, dtype=np.float64)

    def highest_from_here(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The highest value at each positive or at a lower-scored one of its ranking, shape (P,)."""
        highest = values.copy()
        for row in np.split(highest, np.flatnonzero(np.diff(self._row)) + 1):
            row[:] = np.maximum.accumulate(row[::-1])[::-1]
        return highest


def _closing_weights(
    scores: NDArray[Any], present: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Four rows of values at the positives of a ranking, from the highest score down.

    Their weights; the total weights of positives and of negatives with at least that score; the total weight of
    negatives with the same score. Positives and negatives are summed separately, to keep their rounding errors apart.
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores holds NaN or infinity, but every entry that counts needs a finite score.")
    order = np.argsort(scores, kind="stable")[::-1]
    scores, present, weights = scores[order], present[order], weights[order]
    opens = np.ones(len(scores), dtype=bool)
    np.not_equal(scores[1:], scores[:-1], out=opens[1:])
    group = np.cumsum(opens) - 1
    n_groups = int(group[-1]) + 1 if len(group) else 0
    in_group = [
        np.bincount(group, weights=np.where(chosen, weights, 0.0), minlength=n_groups) for chosen in (present, ~present)
    ]
    of_present = group[present]
    return np.stack(
        [
            weights[present],
            np.cumsum(in_group[0])[of_present],
            np.cumsum(in_group[1])[of_present],
            in_group[1][of_present],
        ]
    )
