"""Thresholds of all labels from scores of an estimator, shrunk towards a common threshold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.labels import LabelMatrix
from skpartial.model_selection._threshold_search import (
    Objective,
    Threshold,
    best_threshold,
    between_thresholds,
    value_at,
)

__all__ = ["DEFAULT_THRESHOLD", "AskForScores", "Tuning", "scores_of"]

# Most entries used for the common threshold; of more, only every second, third and so on is used.
_COMMON_ENTRIES = 1 << 20

#: Untuned thresholds by method.
DEFAULT_THRESHOLD = {"predict_proba": 0.5, "decision_function": 0.0}


class AskForScores:
    """Result of a fold: the method used, the scores of the test rows, and the estimator if it is kept."""

    def __init__(self, response_method: str, *, binary: bool, keep: bool) -> None:
        self.response_method = response_method
        self.binary = binary
        self.keep = keep

    def __call__(self, estimator: Any, X: Any) -> tuple[str, NDArray[np.float64], Any]:
        method, scores = scores_of(estimator, X, self.response_method, binary=self.binary)
        return method, scores, estimator if self.keep else None


def scores_of(estimator: Any, X: Any, response_method: str, *, binary: bool) -> tuple[str, NDArray[np.float64]]:
    """The method used and its scores, (n, L), or (n, 1) after a fit on 1-D y."""
    if response_method == "auto":
        response_method = "predict_proba" if hasattr(estimator, "predict_proba") else "decision_function"
    answer = getattr(estimator, response_method)(X)
    scores = None if isinstance(answer, list) else np.asarray(answer, dtype=np.float64)
    if scores is None or scores.ndim > 2:
        raise ValueError(
            f"{response_method} of {type(estimator).__name__} returns a {type(answer).__name__}: TunedThresholdsCV "
            "needs one score per row and label, in an array of shape (n, L)."
        )
    if binary and response_method == "predict_proba":
        scores = scores[:, 1]
    if not np.isfinite(scores).all():
        raise ValueError(f"{response_method} of {type(estimator).__name__} returns NaN or infinity.")
    return response_method, scores[:, None] if scores.ndim == 1 else scores


class Tuning(NamedTuple):
    """The choice of thresholds, as documented in :class:`TunedThresholdsCV`."""

    scoring: Objective
    unknown: Literal["ignore", "absent"]
    n_candidates: int | None
    shrinkage: float

    def thresholds(
        self, labels: LabelMatrix, scores: NDArray[np.float64], method: str
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Choose a threshold for every label.

        Parameters
        ----------
        labels : LabelMatrix
            Labels, shape (n, L).
        scores : ndarray of float64, shape (n, L)
            Finite scores.
        method : str
            The method that returned them, a key of `DEFAULT_THRESHOLD`.

        Returns
        -------
        thresholds, values : ndarray of float64, shape (L,)
            Thresholds, and the objective there; NaN for labels without their own threshold.
        """
        default = DEFAULT_THRESHOLD[method]
        common = self._common(labels, scores, default)
        thresholds = np.full(labels.n_labels, default if common is None else common)
        values = np.full(labels.n_labels, np.nan)
        for label, column in enumerate(_columns(labels)):
            counts = slice(None) if self.unknown == "absent" else np.flatnonzero(column)
            own_scores, present = scores[counts, label], column[counts] == 1
            found = self._best(own_scores, present, default)
            if found is None:
                continue
            threshold, value = found
            if common is not None:
                n_present = int(present.sum())
                fewer = min(n_present, len(present) - n_present)
                share = fewer / (fewer + self.shrinkage)
                threshold = between_thresholds(threshold, common, share, probabilities=method == "predict_proba")
                value = value_at(threshold, own_scores, present, self.scoring)
            thresholds[label], values[label] = threshold, value
        return thresholds, values

    def _best(self, scores: NDArray[np.float64], present: NDArray[np.bool_], default: float) -> Threshold | None:
        return best_threshold(scores, present, self.scoring, default=default, n_candidates=self.n_candidates)

    def _common(self, labels: LabelMatrix, scores: NDArray[np.float64], default: float) -> float | None:
        """The best threshold over the entries of all labels together, if labels are shrunk towards it."""
        if self.shrinkage == 0 or labels.n_labels == 1:
            return None
        present, of_label = [], []
        n_counted = scores.size if self.unknown == "absent" else labels.n_known
        step = -(-n_counted // _COMMON_ENTRIES)
        for label, column in enumerate(_columns(labels)):
            counts = (np.arange(len(column)) if self.unknown == "absent" else np.flatnonzero(column))[::step]
            of_label.append(scores[counts, label])
            present.append(column[counts] == 1)
        found = self._best(np.concatenate(of_label), np.concatenate(present), default)
        return None if found is None else found.threshold


def _columns(labels: LabelMatrix) -> Iterable[NDArray[np.int8]]:
    """The labels one after the other, shape (n,)."""
    if not labels.is_sparse:
        yield from np.ascontiguousarray(labels.values.T)
        return
    by_label = sp.csc_array(labels.values)
    for label in range(labels.n_labels):
        yield by_label[:, [label]].toarray()[:, 0]
