"""Stratified assignment of rows, or of groups of rows, to parts, by the known entries of every label."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from skpartial.labels import LabelMatrix
from skpartial.labels._forms import plain
from skpartial.model_selection._folds import is_one_dimensional

__all__ = ["deal_out", "indicators"]

# How far the order may deviate from "largest group first": without randomness all splits would be the same.
_JITTER = 0.3

# Most rounds of moving groups to better parts, and the share of groups that must move to start another round.
_MAX_ROUNDS = 10
_WORTH_IT = 0.02


def indicators(y: Any) -> sp.csr_array:
    """Indicators to stratify by, as sparse columns of 0 and 1.

    Parameters
    ----------
    y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
        Labels in {-1, 0, 1}, or classes.

    Returns
    -------
    csr_array of shape (n, n_columns)
        The positives and the negatives of every label, or the classes; then a column of ones for the row itself.
    """
    if is_one_dimensional(y):
        check_classification_targets(y)
        classes, found = np.unique(plain(y, "y"), return_inverse=True)
        ends = np.arange(len(found) + 1)
        counts = sp.csr_array((np.ones(len(found), np.int32), found, ends), shape=(len(found), len(classes)))
    else:
        known = sp.csr_array(LabelMatrix.encode(y).values)
        n_rows, n_labels = known.shape
        columns = known.indices + n_labels * (known.data < 0)
        counts = sp.csr_array((np.ones(len(columns), np.int32), columns, known.indptr), shape=(n_rows, 2 * n_labels))
    rows = sp.csr_array(np.ones((counts.shape[0], 1), dtype=np.int32))
    return sp.csr_array(sp.hstack([counts, rows], format="csr"))


class _Parts:
    """Contents of the parts so far, and the cost of adding a group.

    The objective is the sum over columns c and parts p of (n_cp - s_p T_c)^2 / (s_p T_c^2), where n_cp of the T_c
    entries of the column are in the part with the share s_p. The cost of a group is its increase of the objective, up
    to a constant. For the next group of a sequence this is Webster's rule of apportionment.
    """

    def __init__(self, counts: sp.csr_array, shares: NDArray[np.float64]) -> None:
        self.indptr, self.columns = counts.indptr, counts.indices
        totals = np.asarray(counts.sum(axis=0), dtype=np.float64)
        self.proportions = counts.data / totals[counts.indices]
        self.held = np.zeros((counts.shape[1], len(shares)))
        self.n_groups = np.zeros(len(shares), dtype=np.int64)
        self.weights = 1 / shares

    def _group(self, group: int) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
        entries = slice(self.indptr[group], self.indptr[group + 1])
        return self.columns[entries], self.proportions[entries]

    def costs(self, group: int, now: int | None = None) -> NDArray[np.float64]:
        """Cost of a group in each part; `now` is its current part."""
        columns, proportions = self._group(group)
        own = proportions @ proportions
        costs: NDArray[np.float64] = proportions @ self.held[columns] + own / 2
        if now is not None:
            costs[now] -= own
        return costs * self.weights

    def move(self, group: int, part: int, sign: int = 1) -> None:
        """Add a group to a part, or remove it (-1)."""
        columns, proportions = self._group(group)
        self.held[columns, part] += sign * proportions
        self.n_groups[part] += sign


def _in_order(counts: sp.csr_array, rng: RandomState) -> NDArray[np.intp]:
    """The groups, rarest column first, and within a column roughly the largest first."""
    totals = np.asarray(counts.sum(axis=0))[counts.indices]
    starts = counts.indptr[:-1]
    rarest = np.minimum.reduceat(totals, starts)
    of_rarest = totals == np.repeat(rarest, np.diff(counts.indptr))
    sizes = np.maximum.reduceat(np.where(of_rarest, counts.data, 0), starts)
    return np.lexsort([-sizes * np.exp(_JITTER * rng.normal(size=len(sizes))), rarest])


def deal_out(counts: Any, shares: NDArray[np.float64], rng: RandomState, *, n_required: int) -> NDArray[np.intp]:
    """Assign groups to parts, so that each part gets about its share of every column.

    Groups are assigned in turn, rarest column first, each to the part where it fits best. Then they are moved, one at a
    time, while that improves the objective.

    Parameters
    ----------
    counts : sparse matrix of shape (n_groups, n_columns)
        Counts to divide: known positives and negatives of every label, and rows, per group. No group is empty.
    shares : ndarray of float64, shape (n_parts,)
        Proportions of the parts, above 0.
    rng : RandomState
        Breaks ties, and partly determines the order.
    n_required : int
        Number of leading parts that must get at least one group; there must be as many groups.

    Returns
    -------
    ndarray of int, shape (n_groups,)
        The part of each group.
    """
    counts = sp.csr_array(counts)
    parts = _Parts(counts, shares)
    found = np.empty(counts.shape[0], dtype=np.intp)
    # Costs that differ only by rounding are ties.
    chance = 1 + 1e-9 * rng.uniform(size=(counts.shape[0], len(shares)))
    for group in _in_order(counts, rng).tolist():
        part = int((parts.costs(group) * chance[group]).argmin())
        parts.move(group, part)
        found[group] = part
    _fill(parts, found, n_required, rng)
    for _ in range(_MAX_ROUNDS):
        if _improve(parts, found, n_required, rng) < _WORTH_IT * len(found):
            break
    return found


def _fill(parts: _Parts, found: NDArray[np.intp], n_required: int, rng: RandomState) -> None:
    """Move a group from the largest part to each required part that is empty."""
    for part in np.flatnonzero(parts.n_groups[:n_required] == 0):
        group = int(rng.choice(np.flatnonzero(found == parts.n_groups.argmax())))
        _move(parts, found, group, int(part))


def _move(parts: _Parts, found: NDArray[np.intp], group: int, part: int) -> None:
    parts.move(group, int(found[group]), -1)
    parts.move(group, part)
    found[group] = part


def _improve(parts: _Parts, found: NDArray[np.intp], n_required: int, rng: RandomState) -> int:
    """Move each group to its best part, and return the number of groups moved."""
    n_moved = 0
    for group in rng.permutation(len(found)).tolist():
        now = int(found[group])
        costs = parts.costs(group, now)
        best = int(costs.argmin())
        leaves_none = now < n_required and parts.n_groups[now] == 1
        if costs[best] < costs[now] * (1 - 1e-9) and not leaves_none:
            _move(parts, found, group, best)
            n_moved += 1
    return n_moved
