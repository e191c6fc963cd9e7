"""The one sort behind the ranking metrics: positions of the positives in many rankings, with ties.

Scores are mapped to integers in the same order, with the label in the lowest bit. One in-place sort of these keys then
orders scores and labels together, which is several times faster than an argsort and a gather. Among equal scores the
positives come last, so the last positive closes the group: a ranking metric only needs values at the positives.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

# dtypes of scores that a float of the given width holds exactly
_EXACT_FLOAT = {
    np.dtype(name): np.dtype(kind)
    for kind, names in {"f4": ("f2", "f4"), "f8": ("f8", "?", "i1", "u1", "i2", "u2", "i4", "u4")}.items()
    for name in names
}
_INTEGER = {np.dtype("f4"): np.dtype("i4"), np.dtype("f8"): np.dtype("i8")}


def _rank_keys(scores: NDArray[Any]) -> NDArray[Any]:
    """Keys of any scores: their dense ranks. Slower; for scores that floats with a spare bit cannot represent."""
    _, ranks = np.unique(scores, return_inverse=True)
    return ranks.reshape(scores.shape).astype(np.int64)


def _ordered_keys(scores: NDArray[Any]) -> NDArray[Any]:
    """Integers in the order of the scores, equal for equal scores, with two bits fewer than their dtype."""
    low, high = scores.min(), scores.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("scores holds NaN or infinity, but every entry that counts needs a finite score.")
    kind = _EXACT_FLOAT.get(scores.dtype)
    if kind is None:
        return _rank_keys(scores)
    # The bits of floats in [0, 1] order like integers with two bits fewer. Dividing by a power of two brings the scores
    # into this range, exactly unless some become subnormal.
    mantissa, exponent = math.frexp(max(float(high), -float(low)))
    exponent = max(0, exponent - (mantissa == 0.5))
    if exponent >= np.finfo(kind).maxexp // 2:
        return _rank_keys(scores)
    scaled = np.multiply(scores, kind.type(2.0**-exponent), dtype=kind)
    if exponent and not (scaled * kind.type(2.0**exponent) == scores).all():
        return _rank_keys(scores)
    scaled += kind.type(0)  # -0.0 becomes 0.0, an equal score
    keys = scaled.view(_INTEGER[kind])
    if low < 0:
        # Floats are sign and magnitude: flip the magnitude of negative ones.
        flip = keys >> (8 * keys.itemsize - 1)
        flip &= np.iinfo(keys.dtype).max
        keys ^= flip
    return keys


def _pack(scores: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[Any]:
    """Sort keys of scores and labels: highest scores first, negatives before positives among equal scores."""
    if scores.size == 0:
        return np.empty(scores.shape, dtype=np.int64)
    keys = _ordered_keys(scores)
    np.invert(keys, out=keys)
    keys <<= 1
    keys |= present
    return keys


def _count_by_row(places: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Count the ascending flat indices that fall into each row of a matrix of this shape."""
    return np.diff(np.searchsorted(places, np.arange(shape[0] + 1) * shape[1]))


class Ranking:
    """Positions of the positives in b rankings of w entries, counted from the highest score.

    Parameters
    ----------
    scores : ndarray, shape (b, w)
        Finite where an entry counts. Contiguous rows are fastest.
    present : ndarray of bool, shape (b, w)
        Mask of the positives; all others are negative.
    known : ndarray of bool, shape (b, w), or None
        Mask of the entries that count; None if all count.

    Attributes
    ----------
    n_present, n_absent : ndarray of int64, shape (b,)
        Positives and negatives of each ranking that count.
    entries_at_least, present_at_least : ndarray of int64, shape (P,)
        For each positive, ranking after ranking and from the highest score down: the numbers of entries, and of
        positives, with at least its score.
    """

    def __init__(
        self, scores: NDArray[Any], present: NDArray[np.bool_], known: NDArray[np.bool_] | None = None
    ) -> None:
        if known is None:
            keys = _pack(scores, present)
            n_known = np.full(len(scores), scores.shape[1])
        else:
            # Only known entries are sorted, and scores of unknown entries are never read. Flat integer indices, because
            # gathering and scattering with boolean masks takes several times as long.
            source = np.flatnonzero(known)
            n_known = _count_by_row(source, known.shape)
            packed = _pack(scores.ravel()[source], present.ravel()[source])
            behind_every_entry = np.iinfo(packed.dtype).max - 1  # even: not a positive
            keys = np.full((len(known), n_known.max()), behind_every_entry, dtype=packed.dtype)
            shift = np.arange(len(known)) * keys.shape[1] - (np.cumsum(n_known) - n_known)
            keys.ravel()[np.arange(len(source)) + np.repeat(shift, n_known)] = packed
        keys.sort(axis=1)
        self._keys = keys.ravel()
        # nonzero is several times faster on bool than on integers; the low byte contains the lowest bit
        self._places = np.flatnonzero((self._keys.astype(np.int8) & 1).view(np.bool_))
        self._row_starts = np.arange(len(keys)) * keys.shape[1]
        self.n_present = _count_by_row(self._places, keys.shape)
        self.n_absent = n_known - self.n_present
        self._ends = np.cumsum(self.n_present)
        self._starts = self._ends - self.n_present

        entries = self._places - np.repeat(self._row_starts - 1, self.n_present)
        hits = np.arange(1, len(self._places) + 1) - np.repeat(self._starts, self.n_present)
        self._ties = self._tied_runs()
        if self._ties is not None:
            tied, ends, sizes = self._ties
            closing = np.repeat(ends, sizes)
            entries[tied], hits[tied] = entries[closing], hits[closing]
        self.entries_at_least = entries
        self.present_at_least = hits

    def _tied_runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None:
        """Positives with the same score as the next positive of the ranking; the last of each such run, and its size.

        The last positive of a run is neither listed nor counted in its size. None if there are no ties.
        """
        keys = self._keys[self._places]
        tied_with_next = np.zeros(len(keys), dtype=bool)
        np.equal(keys[1:], keys[:-1], out=tied_with_next[:-1])
        tied_with_next[self._ends[self.n_present > 0] - 1] = False
        tied = np.flatnonzero(tied_with_next)
        if len(tied) == 0:
            return None
        before_last = np.flatnonzero(np.diff(tied, append=-1) != 1)
        return tied, tied[before_last] + 1, np.diff(before_last, prepend=-1)

    def tied_absent(self) -> NDArray[np.int64]:
        """For each positive, the number of negatives of its ranking with the same score, shape (P,)."""
        if len(self._places) == 0:
            return self._places
        scores = self._keys >> 1
        opens = np.ones(len(scores), dtype=bool)
        np.not_equal(scores[1:], scores[:-1], out=opens[1:])
        opens[self._row_starts] = True
        group_start = np.maximum.accumulate(np.where(opens, np.arange(len(scores)), 0))[self._places]
        group_end = self.entries_at_least + np.repeat(self._row_starts, self.n_present)
        present_in_group = np.ones(len(self._places), dtype=np.int64)
        if self._ties is not None:
            tied, ends, sizes = self._ties
            present_in_group[tied] += np.repeat(sizes, sizes)
            present_in_group[ends] += sizes
        return group_end - group_start - present_in_group

    def sum(self, values: NDArray[Any]) -> NDArray[Any]:
        """Sum the values of the positives over each ranking, shape (P,) to (b,)."""
        total = np.zeros(len(self.n_present), dtype=values.dtype)
        some = self.n_present > 0
        if some.any():
            total[some] = np.add.reduceat(values, self._starts[some])
        return total

    def highest_from_here(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The highest value at each positive or at a lower-scored one of its ranking, shape (P,)."""
        filled = np.arange(self.n_present.max(initial=0)) < self.n_present[:, None]
        padded = np.zeros(filled.shape)
        padded[filled] = values
        return np.maximum.accumulate(padded[:, ::-1], axis=1)[:, ::-1][filled]
