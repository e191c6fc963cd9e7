"""Rows, or whole groups of them, dealt out to parts: each part gets its share of what is known of every label."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.random import RandomState
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from skpartial.labels import LabelMatrix
from skpartial.labels._forms import plain
from skpartial.model_selection._folds import is_vector

__all__ = ["deal_out", "indicators"]

# How far from "the largest first" groups may be taken: without some chance all random splits would be the same one.
_JITTER = 0.3

# Rounds in which groups move to where they fit better, and the share of them that must have moved for another round.
_MAX_ROUNDS = 10
_WORTH_IT = 0.02


def indicators(y: Any) -> sp.csr_array:
    """What is to be divided of each row, as columns of 0 and 1, of which no dense copy is made.

    Parameters
    ----------
    y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
        Labels in {-1, 0, 1}, or classes.

    Returns
    -------
    csr_array of shape (n, n_columns)
        The present entries of every label and its absent ones, or the classes; then the row itself.
    """
    if is_vector(y):
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
    """What the parts hold so far, and where a group fits best.

    The parts are to minimise the sum over columns c and parts p of (n_cp - s_p T_c)^2 / (s_p T_c^2): n of the T entries
    of a column are in a part that is to have the share s. That is what a group adds to it, up to a constant, which
    for the next group of a sequence is Webster's rule of apportionment.
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
        """What a group would add to each part; `now` is the part that it is in."""
        columns, proportions = self._group(group)
        own = proportions @ proportions
        costs: NDArray[np.float64] = proportions @ self.held[columns] + own / 2
        if now is not None:
            costs[now] -= own
        return costs * self.weights

    def move(self, group: int, part: int, sign: int = 1) -> None:
        """Put a group into a part, or take it out (-1)."""
        columns, proportions = self._group(group)
        self.held[columns, part] += sign * proportions
        self.n_groups[part] += sign


def _in_order(counts: sp.csr_array, rng: RandomState) -> NDArray[np.intp]:
    """The groups, those of the rarest column first and among them about the largest first."""
    totals = np.asarray(counts.sum(axis=0))[counts.indices]
    starts = counts.indptr[:-1]
    rarest = np.minimum.reduceat(totals, starts)
    of_rarest = totals == np.repeat(rarest, np.diff(counts.indptr))
    sizes = np.maximum.reduceat(np.where(of_rarest, counts.data, 0), starts)
    return np.lexsort([-sizes * np.exp(_JITTER * rng.normal(size=len(sizes))), rarest])


def deal_out(counts: Any, shares: NDArray[np.float64], rng: RandomState, *, n_required: int) -> NDArray[np.intp]:
    """Deal out whole groups to parts, so that each gets about its share of every column.

    The groups are taken in turn, those with the rarest column first, and each goes where it fits best; afterwards
    they move, one at a time, for as long as that helps.

    Parameters
    ----------
    counts : sparse matrix of shape (n_groups, n_columns)
        How much each group holds of what is to be divided: known presences and absences of every label, rows. Every
        group holds something.
    shares : ndarray of float64, shape (n_parts,)
        Proportions of the parts, above 0.
    rng : RandomState
        Decides about what is equally good, and within limits about the order.
    n_required : int
        The first so many parts get a group in any case; there must be as many groups.

    Returns
    -------
    ndarray of int, shape (n_groups,)
        The part of each group.
    """
    counts = sp.csr_array(counts)
    parts = _Parts(counts, shares)
    found = np.empty(counts.shape[0], dtype=np.intp)
    # Parts that differ by rounding only are equally good.
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
    """Give a group to each of the first parts that has none, of the part with the most."""
    for part in np.flatnonzero(parts.n_groups[:n_required] == 0):
        group = int(rng.choice(np.flatnonzero(found == parts.n_groups.argmax())))
        _move(parts, found, group, int(part))


def _move(parts: _Parts, found: NDArray[np.intp], group: int, part: int) -> None:
    parts.move(group, int(found[group]), -1)
    parts.move(group, part)
    found[group] = part


def _improve(parts: _Parts, found: NDArray[np.intp], n_required: int, rng: RandomState) -> int:
    """Move each group to where it fits best; how many moved."""
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
