"""The best threshold of one label: every cut between two of its scores is tried, or some of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["OBJECTIVES", "Threshold", "best_threshold"]

Counts = NDArray[np.int64]


def _f1(right: Counts, wrong: Counts, n_present: int, n_absent: int) -> NDArray[np.float64]:
    return 2 * right / (n_present + right + wrong)


def _balanced_accuracy(right: Counts, wrong: Counts, n_present: int, n_absent: int) -> NDArray[np.float64]:
    return (right / n_present + (n_absent - wrong) / n_absent) / 2


def _accuracy(right: Counts, wrong: Counts, n_present: int, n_absent: int) -> NDArray[np.float64]:
    return (right + n_absent - wrong) / (n_present + n_absent)


#: From entries rightly and wrongly predicted present at every cut, and the numbers of present and absent ones.
OBJECTIVES: dict[str, Callable[[Counts, Counts, int, int], NDArray[np.float64]]] = {
    "f1": _f1,
    "balanced_accuracy": _balanced_accuracy,
    "accuracy": _accuracy,
}

Objective = str | Callable[[NDArray[np.int64], NDArray[np.int64]], Any]


class Threshold(NamedTuple):
    """A threshold, present being what scores above it, and the value of the objective there."""

    threshold: float
    value: float


def best_threshold(
    scores: NDArray[np.float64],
    present: NDArray[np.bool_],
    objective: Objective,
    *,
    default: float,
    n_candidates: int | None = None,
) -> Threshold | None:
    """Find the threshold that maximises an objective over the known entries of one label.

    Parameters
    ----------
    scores : ndarray of float64, shape (m,)
        Finite.
    present : ndarray of bool, shape (m,)
        The others are absent.
    objective : str or callable
        A name in `OBJECTIVES`, or from true and predicted labels in {0, 1} to a number.
    default : float
        Of equally good thresholds the one nearest to it is taken.
    n_candidates : int or None, default=None
        How many cuts a function is asked about at most, at least 2; None is all. Names in `OBJECTIVES` take one pass
        over all cuts.

    Returns
    -------
    Threshold or None
        Midway between two scores, or half the nearest gap beyond the highest or lowest one; None where there is nothing
        to choose: no present entry, no absent one, or all scores equal.
    """
    n_present = int(np.count_nonzero(present))
    n_absent = len(present) - n_present
    if n_present == 0 or n_absent == 0:
        return None
    order = np.argsort(scores)
    scores, present = scores[order], present[order]
    starts = np.flatnonzero(np.append(True, scores[1:] != scores[:-1]))
    levels = scores[starts]
    if len(levels) < 2:
        return None
    # Cut c: what stands at places[c] and behind it in ascending order is predicted present.
    places, thresholds = np.append(starts, len(scores)), _between(levels)
    if not isinstance(objective, str) and n_candidates is not None and n_candidates < len(places):
        chosen_cuts = _spaced(levels, n_candidates)
        places, thresholds = places[chosen_cuts], thresholds[chosen_cuts]
    if isinstance(objective, str):
        right = n_present - np.append(0, np.cumsum(present))[places]
        values = OBJECTIVES[objective](right, len(scores) - places - right, n_present, n_absent)
    else:
        truth, ranks = present.astype(np.int64), np.arange(len(scores))
        values = np.array([objective(truth, (ranks >= place).astype(np.int64)) for place in places], dtype=np.float64)
        if np.isnan(values).any():
            raise ValueError(f"scoring={objective!r} gave NaN for some threshold: give such predictions a number.")
    best = np.flatnonzero(values == values.max())
    chosen = best[np.argmin(np.abs(thresholds[best] - default))]
    return Threshold(float(thresholds[chosen]), float(values[chosen]))


def _spaced(levels: NDArray[np.float64], n_cuts: int) -> NDArray[np.intp]:
    """Cuts evenly spaced from below the lowest score to above the highest, up to so many."""
    # Halves, because the difference of two scores might overflow.
    low, high = levels[0] / 2, levels[-1] / 2
    spaced = 2 * np.linspace(low, high, n_cuts - 1) if n_cuts > 2 else levels[:1]
    return np.append(np.unique(np.searchsorted(levels, spaced)), len(levels))


def _between(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds below, between and above ascending scores, of which a score counts as present only if above it."""
    half = levels / 2  # halves, because the difference of two scores might overflow
    below = min(levels[0] - (half[1] - half[0]), np.nextafter(levels[0], -np.inf))
    # Between neighbouring floats there is none, and the lower one itself divides them.
    middle = np.clip(half[:-1] + half[1:], levels[:-1], np.nextafter(levels[1:], -np.inf))
    above = levels[-1] + (half[-1] - half[-2])
    return np.concatenate([[below], middle, [above]])
