"""The one sort behind the ranking metrics: where the present entries of many rankings stand, ties included.

Scores become integers that order as they do, and the label goes into the lowest bit. One in-place sort of these keys
then orders scores and labels together, which is several times faster than an argsort and a gather. Within equal
scores the present entries come last, so that the last of them closes the group: everything that a ranking metric
needs can be read off at the present entries alone.
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
    """Keys of any scores at all: their dense ranks. Slower; for what floats with a bit to spare cannot hold."""
    _, ranks = np.unique(scores, return_inverse=True)
    return ranks.reshape(scores.shape).astype(np.int64)


def _ordered_keys(scores: NDArray[Any]) -> NDArray[Any]:
    """Integers that order as the scores do and are equal where these are, of two bits less than their dtype holds."""
    low, high = scores.min(), scores.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("scores hold NaN or infinity; every entry that counts needs a finite score.")
    kind = _EXACT_FLOAT.get(scores.dtype)
    if kind is None:
        return _rank_keys(scores)
    # The bits of floats from 0 to 1 order as integers of two bits less. Dividing by a power of two brings the scores
    # there, and is exact unless some are so small that they leave the range of normal numbers.
    mantissa, exponent = math.frexp(max(float(high), -float(low)))
    exponent = max(0, exponent - (mantissa == 0.5))
    if exponent >= np.finfo(kind).maxexp // 2:
        return _rank_keys(scores)
    scaled = np.multiply(scores, kind.type(2.0**-exponent), dtype=kind)
    if exponent and not (scaled * kind.type(2.0**exponent) == scores).all():
        return _rank_keys(scores)
    scaled += kind.type(0)  # -0.0 becomes 0.0, the two being equal scores
    keys = scaled.view(_INTEGER[kind])
    if low < 0:
        # Floats are sign and magnitude: turn the magnitude of negative ones round.
        flip = keys >> (8 * keys.itemsize - 1)
        flip &= np.iinfo(keys.dtype).max
        keys ^= flip
    return keys


def _pack(scores: NDArray[Any], present: NDArray[np.bool_]) -> NDArray[Any]:
    """Sort keys of scores and labels: highest scores first, absent before present among equal ones."""
    if scores.size == 0:
        return np.empty(scores.shape, dtype=np.int64)
    keys = _ordered_keys(scores)
    np.invert(keys, out=keys)
    keys <<= 1
    keys |= present
    return keys


def _count_by_row(places: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """How many of some ascending flat indices fall into each row of a matrix of that shape."""
    return np.diff(np.searchsorted(places, np.arange(shape[0] + 1) * shape[1]))


class Ranking:
    """Where the present entries of b rankings of w entries stand, counted from the highest score.

    Parameters
    ----------
    scores : ndarray, shape (b, w)
        Finite where an entry counts. Contiguous rows are fastest.
    present : ndarray of bool, shape (b, w)
        Which entries are present; the others are absent.
    known : ndarray of bool, shape (b, w), or None
        Which entries count; None: all of them.

    Attributes
    ----------
    n_present, n_absent : ndarray of int64, shape (b,)
        Entries of each ranking that count.
    entries_at_least, present_at_least : ndarray of int64, shape (P,)
        For each present entry, ranking after ranking and from the highest score down: how many entries, and how many
        present ones, score at least as high as it.
    """

    def __init__(
        self, scores: NDArray[Any], present: NDArray[np.bool_], known: NDArray[np.bool_] | None = None
    ) -> None:
        if known is None:
            keys = _pack(scores, present)
            n_known = np.full(len(scores), scores.shape[1])
        else:
            # What is sorted is as small as what is known, and scores of unknown entries are never looked at. Flat
            # integer indices, because gathering and scattering with boolean masks takes several times as long.
            source = np.flatnonzero(known)
            n_known = _count_by_row(source, known.shape)
            packed = _pack(scores.ravel()[source], present.ravel()[source])
            behind_every_entry = np.iinfo(packed.dtype).max - 1  # even: not a present one
            keys = np.full((len(known), n_known.max()), behind_every_entry, dtype=packed.dtype)
            shift = np.arange(len(known)) * keys.shape[1] - (np.cumsum(n_known) - n_known)
            keys.ravel()[np.arange(len(source)) + np.repeat(shift, n_known)] = packed
        keys.sort(axis=1)
        self._keys = keys.ravel()
        # nonzero is several times faster on bool than on integers; the low byte is enough to tell the lowest bit
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
        """Present entries whose score the next one of the ranking has too; the last of each such run, and its size.

        The last entry of a run is not one of those, and not in its size. None: there are no ties.
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
        """For each present entry, how many absent ones of its ranking have the same score, shape (P,)."""
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
        """Sum values of the present entries over each ranking, shape (P,) to (b,)."""
        total = np.zeros(len(self.n_present), dtype=values.dtype)
        some = self.n_present > 0
        if some.any():
            total[some] = np.add.reduceat(values, self._starts[some])
        return total

    def highest_from_here(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The highest value at each present entry or at one that scores lower in its ranking, shape (P,)."""
        filled = np.arange(self.n_present.max(initial=0)) < self.n_present[:, None]
        padded = np.zeros(filled.shape)
        padded[filled] = values
        return np.maximum.accumulate(padded[:, ::-1], axis=1)[:, ::-1][filled]
