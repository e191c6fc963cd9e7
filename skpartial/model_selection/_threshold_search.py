"""The best threshold of one label, among all cuts between two of its scores, or some of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

__all__ = ["OBJECTIVES", "Threshold", "best_threshold", "between_thresholds", "value_at"]

# Probabilities are clipped to this distance from 0 and 1.
_CERTAIN = 1e-6

Counts = NDArray[np.int64]


def _f1(right: Counts, wrong: Counts, n_present: int, n_absent: int) -> NDArray[np.float64]:
    return 2 * right / (n_present + right + wrong)


def _balanced_accuracy(right: Counts, wrong: Counts, n_present: int, n_absent: int) -> NDArray[np.float64]:
    return (right / n_present + (n_absent - wrong) / n_absent) / 2


def _accuracy(right: Counts, wrong: Counts, n_present: int, n_absent: int) -> NDArray[np.float64]:
    return (right + n_absent - wrong) / (n_present + n_absent)


#: Functions of the true and false positives at every cut, and of the numbers of positives and negatives.
OBJECTIVES: dict[str, Callable[[Counts, Counts, int, int], NDArray[np.float64]]] = {
    "f1": _f1,
    "balanced_accuracy": _balanced_accuracy,
    "accuracy": _accuracy,
}

Objective = str | Callable[[NDArray[np.int64], NDArray[np.int64]], Any]


class Threshold(NamedTuple):
    """A threshold, above which scores predict positive, and the value of the objective there."""

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
        Finite scores.
    present : ndarray of bool, shape (m,)
        Mask of the positives; all others are negative.
    objective : str or callable
        A name in `OBJECTIVES`, or a function from true and predicted labels in {0, 1} to a number.
    default : float
        Ties go to the threshold nearest to this one.
    n_candidates : int or None, default=None
        Largest number of cuts at which a function is called, at least 2; None is all. Names in `OBJECTIVES` take one
        pass over all cuts.

    Returns
    -------
    Threshold or None
        Midway between two scores, or half the nearest gap beyond the highest or lowest score. None if there is no
        choice: no positive, no negative, or all scores equal.
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
    # Cut c: scores at places[c] and beyond in ascending order are predicted positive.
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
            raise ValueError(f"scoring={objective!r} returned NaN for some threshold: it must return a number.")
    best = np.flatnonzero(values == values.max())
    chosen = best[np.argmin(np.abs(thresholds[best] - default))]
    return Threshold(float(thresholds[chosen]), float(values[chosen]))


def value_at(threshold: float, scores: NDArray[np.float64], present: NDArray[np.bool_], objective: Objective) -> float:
    """The objective at a threshold, for at least one positive and one negative.

    Parameters
    ----------
    threshold : float
        Scores above it predict positive.
    scores, present, objective
        As for `best_threshold`.

    Returns
    -------
    float
        Value of the objective.
    """
    predicted = scores > threshold
    if callable(objective):
        return float(objective(present.astype(np.int64), predicted.astype(np.int64)))
    right, wrong = (np.array([np.count_nonzero(predicted & sign)]) for sign in (present, ~present))
    n_present = int(np.count_nonzero(present))
    return float(OBJECTIVES[objective](right, wrong, n_present, len(present) - n_present)[0])


def between_thresholds(own: float, common: float, share: float, *, probabilities: bool) -> float:
    """Weighted mean of two thresholds: in log odds for probabilities, directly for decision values.

    Parameters
    ----------
    own, common : float
        Thresholds; thresholds of probabilities outside [0, 1] are clipped.
    share : float
        Weight of `own`, in [0, 1].
    probabilities : bool
        Whether the thresholds are for probabilities.

    Returns
    -------
    float
        A threshold.
    """
    if share == 1 or own == common:
        return own
    if not probabilities:
        return share * own + (1 - share) * common
    own, common = np.clip([own, common], _CERTAIN, 1 - _CERTAIN)
    return float(expit(share * logit(own) + (1 - share) * logit(common)))


def _spaced(levels: NDArray[np.float64], n_cuts: int) -> NDArray[np.intp]:
    """Up to `n_cuts` cuts, evenly spaced from below the lowest score to above the highest."""
    # Halves, because the difference of two scores might overflow.
    low, high = levels[0] / 2, levels[-1] / 2
    spaced = 2 * np.linspace(low, high, n_cuts - 1) if n_cuts > 2 else levels[:1]
    return np.append(np.unique(np.searchsorted(levels, spaced)), len(levels))


def _between(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Thresholds below, between and above ascending scores; a score must be above a threshold to count as positive."""
    half = levels / 2  # halves, because the difference of two scores might overflow
    below = min(levels[0] - (half[1] - half[0]), np.nextafter(levels[0], -np.inf))
    # There is nothing between neighbouring floats: the lower one itself separates them.
    middle = np.clip(half[:-1] + half[1:], levels[:-1], np.nextafter(levels[1:], -np.inf))
    above = levels[-1] + (half[-1] - half[-2])
    return np.concatenate([[below], middle, [above]])
