"""Metrics of predicted labels: precision, recall, F1, exact match and Hamming loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from skpartial._checks import check_choice
from skpartial.metrics._counts import Average, Counts, averaged_rates, check_zero_division, count
from skpartial.metrics._encode import Truth, Unknown, as_predictions


def precision_recall_f1(
    y_true: Any,
    y_pred: Any,
    *,
    average: Average = "macro",
    unknown: Unknown = "ignore",
    zero_division: float = 0.0,
    sample_weight: Any = None,
) -> tuple[Any, Any, Any]:
    r"""Precision, recall and F1 of predicted labels.

    With the numbers of true positives (TP), false positives (FP) and false negatives (FN):

    .. math::
        P = \frac{TP}{TP + FP} \qquad R = \frac{TP}{TP + FN} \qquad F_1 = \frac{2 TP}{2 TP + FP + FN}

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    y_pred : array-like, DataFrame or sparse matrix, shape (n, L)
        Predicted labels: 1 present, 0 (or -1) absent.
    average : {"macro", "micro", "samples"} or None, default="macro"
        "macro" is the mean over labels, "micro" counts all entries together, "samples" is the mean over rows,
        and None returns one value per label.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" counts known entries only, "absent" counts unknown entries as negative.
    zero_division : {0.0, 1.0, numpy.nan}, default=0.0
        The value of 0 / 0, such as the recall of a label without known positives. NaN leaves such labels (or rows) out
        of the mean, separately for each of the three metrics. Labels and rows without known entries are always left
        out.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries, for weighted counts; with "samples" weights of rows, for a weighted mean over rows.

    Returns
    -------
    precision, recall, f1 : float, or ndarray of float64, shape (L,)
        Values in [0, 1]; NaN for a label without any known entry, or where `zero_division` is NaN.

    Raises
    ------
    ValueError
        If shapes or names differ, `y_pred` does not hold labels, or `unknown` is "ignore" and `y_true`
        has no known negative.

    See Also
    --------
    sklearn.metrics.precision_recall_fscore_support : The same for complete labels in {0, 1}.

    Examples
    --------
    >>> from skpartial.metrics import precision_recall_f1
    >>> y_true = [[1, -1, 1], [1, 1, 0], [-1, -1, 1]]
    >>> y_pred = [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    >>> precision_recall_f1(y_true, y_pred, average=None)
    (array([0.5, 0.5, 1. ]), array([0.5, 1. , 0.5]), array([0.5       , 0.66666667, 0.66666667]))
    >>> precision_recall_f1(y_true, y_pred, average="micro")
    (0.6, 0.6, 0.6)
    """
    check_choice(None, "average", average, ("macro", "micro", "samples", None))
    check_zero_division(zero_division)
    truth = Truth(y_true, unknown, sample_weight, rows_only=average == "samples")
    predicted = as_predictions(y_pred, truth.shape, names=truth.labels.names)
    values = averaged_rates(truth, lambda rows: predicted.rows(rows) == 1, average, zero_division)
    if average is None:
        return values[0], values[1], values[2]
    return float(values[0]), float(values[1]), float(values[2])


def precision(
    y_true: Any,
    y_pred: Any,
    *,
    average: Average = "macro",
    unknown: Unknown = "ignore",
    zero_division: float = 0.0,
    sample_weight: Any = None,
) -> Any:
    """Proportion of predicted positives that are true positives.

    Parameters
    ----------
    y_true, y_pred, average, unknown, zero_division, sample_weight
        See :func:`precision_recall_f1`.

    Returns
    -------
    float, or ndarray of float64, shape (L,)
        Values in [0, 1].

    Raises
    ------
    ValueError
        See :func:`precision_recall_f1`.

    Examples
    --------
    >>> from skpartial.metrics import precision
    >>> precision([[1, -1], [0, 1]], [[1, 1], [1, 1]], average=None)
    array([1. , 0.5])
    """
    return precision_recall_f1(
        y_true, y_pred, average=average, unknown=unknown, zero_division=zero_division, sample_weight=sample_weight
    )[0]


def recall(
    y_true: Any,
    y_pred: Any,
    *,
    average: Average = "macro",
    unknown: Unknown = "ignore",
    zero_division: float = 0.0,
    sample_weight: Any = None,
) -> Any:
    """Proportion of positives that are predicted.

    Parameters
    ----------
    y_true, y_pred, average, unknown, zero_division, sample_weight
        See :func:`precision_recall_f1`.

    Returns
    -------
    float, or ndarray of float64, shape (L,)
        Values in [0, 1].

    Raises
    ------
    ValueError
        See :func:`precision_recall_f1`.

    Examples
    --------
    >>> from skpartial.metrics import recall
    >>> recall([[1, -1], [1, 1]], [[1, 1], [0, 1]], average=None)
    array([0.5, 1. ])
    """
    return precision_recall_f1(
        y_true, y_pred, average=average, unknown=unknown, zero_division=zero_division, sample_weight=sample_weight
    )[1]


def f1(
    y_true: Any,
    y_pred: Any,
    *,
    average: Average = "macro",
    unknown: Unknown = "ignore",
    zero_division: float = 0.0,
    sample_weight: Any = None,
) -> Any:
    """Harmonic mean of precision and recall.

    The "macro" average is the mean of the F1 of each label, not the F1 of mean precision and mean recall, which
    :func:`top_k_scores` returns.

    Parameters
    ----------
    y_true, y_pred, average, unknown, zero_division, sample_weight
        See :func:`precision_recall_f1`.

    Returns
    -------
    float, or ndarray of float64, shape (L,)
        Values in [0, 1].

    Raises
    ------
    ValueError
        See :func:`precision_recall_f1`.

    Examples
    --------
    >>> from skpartial.metrics import f1
    >>> f1([[1, -1], [1, 1]], [[1, 1], [0, 1]])
    0.6666666666666666
    """
    return precision_recall_f1(
        y_true, y_pred, average=average, unknown=unknown, zero_division=zero_division, sample_weight=sample_weight
    )[2]


def _count(truth: Truth, y_pred: Any, axis: int) -> Counts:
    predicted = as_predictions(y_pred, truth.shape, names=truth.labels.names)
    return count(truth, lambda rows: predicted.rows(rows) == 1, axis=axis)


def _nothing_weighs() -> ValueError:
    return ValueError("sample_weight is zero for all known labels, so there is nothing to score.")


def exact_match(y_true: Any, y_pred: Any, unknown: Unknown = "ignore", *, sample_weight: Any = None) -> float:
    """Proportion of rows with all known labels predicted correctly.

    Rows without a known label are left out. For complete labels it is scikit-learn's subset accuracy.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    y_pred : array-like, DataFrame or sparse matrix, shape (n, L)
        Predicted labels: 1 present, 0 (or -1) absent.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" compares known entries only, "absent" counts unknown entries as negative.
    sample_weight : array-like, shape (n,), or None, default=None
        Weights of rows.

    Returns
    -------
    float
        Value in [0, 1].

    Raises
    ------
    ValueError
        If shapes or names differ, `y_pred` does not hold labels, or `unknown` is "ignore" and `y_true`
        has no known negative.

    Examples
    --------
    >>> from skpartial.metrics import exact_match
    >>> exact_match([[1, 0, -1], [1, -1, 1], [0, 0, 0]], [[1, 1, 0], [1, 1, 1], [0, 1, 0]])
    0.5
    """
    truth = Truth(y_true, unknown, sample_weight, rows_only=True)
    counts = _count(truth, y_pred, axis=1)
    scored = counts.known > 0
    right = (counts.wrong + counts.missed == 0)[scored]
    weights = None if truth.weights is None else truth.weights[scored]
    if weights is not None and not weights.any():
        raise _nothing_weighs()
    return float(np.average(right, weights=weights))


def hamming_loss(y_true: Any, y_pred: Any, unknown: Unknown = "ignore", *, sample_weight: Any = None) -> float:
    """Proportion of known entries that are predicted incorrectly.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    y_pred : array-like, DataFrame or sparse matrix, shape (n, L)
        Predicted labels: 1 present, 0 (or -1) absent.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" compares known entries only, "absent" counts unknown entries as negative.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries.

    Returns
    -------
    float
        Value in [0, 1]; 0 is best.

    Raises
    ------
    ValueError
        If shapes or names differ, `y_pred` does not hold labels, or `unknown` is "ignore" and `y_true`
        has no known negative.

    Examples
    --------
    >>> from skpartial.metrics import hamming_loss
    >>> hamming_loss([[1, 0, -1], [1, -1, 0]], [[1, 1, 0], [1, 1, 1]])
    0.25
    """
    counts = _count(Truth(y_true, unknown, sample_weight), y_pred, axis=0).overall()
    if not counts.known[0] > 0:
        raise _nothing_weighs()
    return float(((counts.wrong + counts.missed) / counts.known)[0])
