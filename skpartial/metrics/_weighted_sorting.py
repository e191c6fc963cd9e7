"""Rankings whose entries weigh differently: what :class:`~skpartial.metrics._sorting.Ranking` says, in weights.

Weights do not fit into the keys by which unweighted rankings are sorted in place: each takes an argsort of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class WeightedRanking:
    """Where the present entries of b rankings stand, counted in weights from the highest score.

    It answers to what `Ranking` does, so that a metric is written once: with weights that are whole numbers it is the
    ranking in which each entry is repeated as often.

    Parameters
    ----------
    scores : ndarray, shape (b, w)
        Finite where an entry counts.
    present : ndarray of bool, shape (b, w)
        Which entries are present; the others are absent.
    known : ndarray of bool, shape (b, w), or None
        Which entries count; None: all of them.
    weights : ndarray of float64, shape (b, w) or (1, w)
        At least 0; an entry of weight 0 does not count.

    Attributes
    ----------
    n_present, n_absent : ndarray of float64, shape (b,)
        Weight of the entries of each ranking that count.
    entries_at_least, present_at_least : ndarray of float64, shape (P,)
        For each present entry that counts, ranking after ranking and from the highest score down: the weight of all
        entries, and of the present ones, that score at least as high as it.
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
        """For each present entry, the weight of the absent ones of its ranking with the same score, shape (P,)."""
        return self._tied_absent

    def sum(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Sum values of the present entries, times their weights, over each ranking, shape (P,) to (b,)."""
        total: Any = np.bincount(self._row, weights=values * self._weights, minlength=len(self.n_present))
        return np.asarray(total, dtype=np.float64)

    def highest_from_here(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The highest value at each present entry or at one that scores lower in its ranking, shape (P,)."""
        highest = values.copy()
        for row in np.split(highest, np.flatnonzero(np.diff(self._row)) + 1):
            row[:] = np.maximum.accumulate(row[::-1])[::-1]
        return highest


def _closing_weights(
    scores: NDArray[Any], present: NDArray[np.bool_], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of the present entries of a ranking, from the highest score down, four rows.

    Their weight; the weights of present and of absent entries that score at least as high; the weight of the absent
    ones that score the same. Present and absent are added up apart, so that neither has the other's rounding.
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity; every entry that counts needs a finite score.")
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
