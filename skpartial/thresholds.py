"""Rules for the score above which a label is predicted, from knowledge beyond the recorded positives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from typing_extensions import override

from skpartial._checks import check_flag, check_number

__all__ = ["Prevalence", "Recall", "Threshold"]

Array = NDArray[np.float64]


class Threshold(BaseEstimator, ABC):
    """Base class of rules for the `threshold` of :class:`~skpartial.SinglePositiveClassifier`, which are value objects.

    To write your own rule, derive from this class and define `find`.
    """

    def check(self, n_labels: int | None = None) -> None:
        """Check the hyperparameters.

        Parameters
        ----------
        n_labels : int or None, default=None
            Number of labels, if known.

        Raises
        ------
        ValueError
            If a hyperparameter is invalid.
        """

    @abstractmethod
    def find(self, logits: Array, recorded: NDArray[np.bool_], weights: Array) -> float | Array:
        """Find the logits above which labels are predicted.

        Parameters
        ----------
        logits : ndarray of float64, shape (n, L)
            Logits of every row, by a model that was not trained on it.
        recorded : ndarray of bool, shape (n, L)
            Whether a label is recorded as positive.
        weights : ndarray of float64, shape (n, L)
            Weights of entries, at least 0.

        Returns
        -------
        float or ndarray of shape (L,)
            One threshold for all labels, or one per label.
        """


class Prevalence(Threshold):
    """Predict labels as often as a prevalence that is known, such as from a survey.

    Parameters
    ----------
    prevalence : float or array-like of shape (L,)
        Share of the training rows in which each label is positive, in (0, 1), for one threshold per label. Or one
        number, the share of all entries that are positive (the mean number of positive labels per row, divided by L),
        for one threshold for all labels.

    Examples
    --------
    >>> from skpartial import SinglePositiveClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import keep_single_positive
    >>> from skpartial.thresholds import Prevalence
    >>> scenes = make_digit_scenes(400, random_state=0)
    >>> X, seen = scenes.data, keep_single_positive(scenes.target)
    >>> clf = SinglePositiveClassifier(threshold=Prevalence(0.24)).fit(X, seen)
    >>> bool(0.2 < clf.predict(X).mean() < 0.3)
    True
    """

    def __init__(self, prevalence: Any) -> None:
        self.prevalence = prevalence

    @override
    def check(self, n_labels: int | None = None) -> None:
        per_entry = "the mean number of labels per row divided by the number of labels"
        what = f"a number in (0, 1), {per_entry}, or one per label"
        shares = np.asarray(self.prevalence)
        if shares.ndim == 0:
            check_number(self, "prevalence", self.prevalence, "(0, 1)", what)
            return
        if shares.ndim != 1 or shares.dtype.kind not in "iuf" or not ((shares > 0) & (shares < 1)).all():
            raise ValueError(f"Prevalence: prevalence must be {what}, got {self.prevalence!r}.")
        if n_labels is not None and len(shares) != n_labels:
            raise ValueError(f"Prevalence: prevalence has {len(shares)} numbers, but y has {n_labels} labels.")

    @override
    def find(self, logits: Array, recorded: NDArray[np.bool_], weights: Array) -> float | Array:
        shares = np.asarray(self.prevalence, dtype=np.float64)
        if shares.ndim == 0:
            return _cut_at_share(logits.ravel(), weights.ravel(), float(shares))
        return np.array([_cut_at_share(x, w, p) for x, w, p in zip(logits.T, weights.T, shares)])


class Recall(Threshold):
    """Predict labels so that a given share of the recorded positives is found, such as nine in ten.

    In species distribution models, this is known as the tenth percentile training presence threshold.

    Parameters
    ----------
    recall : float, default=0.9
        Smallest share of recorded positives that is predicted, in (0, 1].
    per_label : bool, default=True
        Whether each label has its own threshold, which takes some dozens of positives per label. Labels without a
        recorded positive get the threshold of all other labels together. False finds one threshold for all labels.

    Examples
    --------
    >>> from skpartial import SinglePositiveClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import keep_single_positive
    >>> from skpartial.thresholds import Recall
    >>> scenes = make_digit_scenes(400, random_state=0)
    >>> X, seen = scenes.data, keep_single_positive(scenes.target)
    >>> clf = SinglePositiveClassifier(threshold=Recall(0.8)).fit(X, seen)
    >>> bool(clf.predict(X)[seen == 1].mean() > 0.8)
    True
    """

    def __init__(self, recall: float = 0.9, *, per_label: bool = True) -> None:
        self.recall = recall
        self.per_label = per_label

    @override
    def check(self, n_labels: int | None = None) -> None:
        check_number(self, "recall", self.recall, "(0, 1]")
        check_flag(self, "per_label", self.per_label)

    @override
    def find(self, logits: Array, recorded: NDArray[np.bool_], weights: Array) -> float | Array:
        common = _cut_below(logits.ravel(), (weights * recorded).ravel(), self.recall)
        if not self.per_label:
            return common
        own = [_cut_below(x, w, self.recall, common) for x, w in zip(logits.T, (weights * recorded).T)]
        return np.array(own)


def _levels(scores: Array, weights: Array) -> tuple[Array, Array]:
    """Distinct scores from high to low, and the weight at or above each."""
    levels, where = np.unique(-scores, return_inverse=True)
    return -levels, np.cumsum(np.bincount(where.ravel(), weights=weights, minlength=len(levels)))


def _cut_after(levels: Array, n_above: int) -> float:
    """Cut midway between the first `n_above` levels and the rest; one logit away if there is no rest."""
    if n_above == 0:
        return float(levels[0] + 1)
    if n_above == len(levels):
        return float(levels[-1] - 1)
    return float((levels[n_above - 1] + levels[n_above]) / 2)


def _cut_at_share(scores: Array, weights: Array, share: float) -> float:
    """The cut whose share of the weight above is nearest to this share."""
    levels, above = _levels(scores, weights)
    shares = np.append(0.0, above / above[-1]) if above[-1] > 0 else np.zeros(1)
    return _cut_after(levels, int(np.argmin(np.abs(shares - share))))


def _cut_below(scores: Array, weights: Array, share: float, default: float = 0.0) -> float:
    """The highest cut above which at least this share of the weight lies."""
    levels, above = _levels(scores, weights)
    if not above[-1] > 0:
        return default
    return _cut_after(levels, 1 + int(np.argmax(above >= share * above[-1] * (1 - 1e-12))))
