"""Metrics of the k highest-scored labels per row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_choice, check_whole, wrong_value
from skpartial.metrics._counts import Counts, averaged_rates, check_zero_division, count, mean_known, rates
from skpartial.metrics._encode import Truth, Unknown, as_scores


class TopKScores(NamedTuple):
    """Result of :func:`top_k_scores`; all values are in [0, 1]."""

    precision: float
    recall: float
    f1: float
    overall_precision: float
    overall_recall: float
    overall_f1: float


def _check_k(k: Any, n_labels: int) -> None:
    what = f"an integer from 1 to the number of labels, {n_labels}"
    if check_whole(None, "k", k, 1, what) > n_labels:
        raise wrong_value(None, "k", what, k)


def _top_k(scores: Any, truth: Truth, k: int) -> Callable[[slice], NDArray[np.bool_]]:
    """Return a function from a slice of rows to a mask of the k highest scores in each row."""
    scores = as_scores(scores, truth.shape, names=truth.labels.names)
    n_labels = truth.shape[1]
    _check_k(k, n_labels)

    def predict(rows: slice) -> NDArray[np.bool_]:
        block = scores[rows]
        if not np.isfinite(block).all():
            raise ValueError("scores holds NaN or infinity, but every entry needs a finite score.")
        threshold = np.partition(block, n_labels - k, axis=1)[:, n_labels - k, None]
        chosen = block > threshold
        # Among labels tied with the k-th, the first ones are taken: exactly k per row, in a fixed order.
        tied = block == threshold
        room = k - np.count_nonzero(chosen, axis=1)[:, None]
        chosen |= tied & (np.cumsum(tied, axis=1) <= room)
        return chosen

    return predict


def top_k_scores(
    y_true: Any,
    scores: Any,
    k: int = 3,
    *,
    average: Literal["macro", "samples"] = "macro",
    unknown: Unknown = "ignore",
    zero_division: float = 0.0,
    sample_weight: Any = None,
) -> TopKScores:
    r"""Precision, recall and F1 if the k highest-scored labels of each row are predicted.

    By default these are the six numbers that the literature calls P-C, R-C, F1-C (per class) and P-O, R-O, F1-O
    (overall). For label c, let :math:`pred_c` be the number of rows with c in their top k, :math:`tp_c` the number of
    true positives among them, and :math:`pos_c` the number of positives:

    .. math::
        P_C = \frac1L \sum_c \frac{tp_c}{pred_c} \qquad R_C = \frac1L \sum_c \frac{tp_c}{pos_c} \qquad
        F1_C = \frac{2 P_C R_C}{P_C + R_C}

    and the overall ones are :math:`\sum_c tp_c / \sum_c pred_c`, :math:`\sum_c tp_c / \sum_c pos_c` and their harmonic
    mean.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L)
        Probabilities or logits, higher for positives. The k highest are chosen among all entries, known or not; among
        equal scores, the first labels are chosen.
    k : int, default=3
        Number of labels per row.
    average : {"macro", "samples"}, default="macro"
        "macro" is as above. With "samples", the first three numbers are means over rows of the precision, recall and F1
        of each row. Published top-3 tables use both, under the same names.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" counts known entries only: a chosen label that is unknown is neither correct nor incorrect. "absent"
        counts unknown entries as negative.
    zero_division : {0.0, 1.0, numpy.nan}, default=0.0
        The value of 0 / 0, such as the precision of a label in no row's top k; NaN leaves it out of the mean.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries, for weighted counts; with "samples" weights of rows. They do not affect the choice
        of the k highest.

    Returns
    -------
    TopKScores
        A named tuple of ``precision``, ``recall``, ``f1``, ``overall_precision``, ``overall_recall`` and
        ``overall_f1``.

    Raises
    ------
    ValueError
        If shapes or names differ, a score is not finite, `k` is not from 1 to L, or `unknown` is "ignore" and `y_true`
        has no known negative.

    References
    ----------
    Y. Gong, Y. Jia, T. Leung, A. Toshev, S. Ioffe. Deep Convolutional Ranking for Multilabel Image Annotation. ICLR
    2014 (per class and overall). H. Cevikalp, B. Benligiray, O. N. Gerek. Semi-Supervised Robust Deep
    Neural Networks for Multi-Label Image Classification. Pattern Recognition 2020 (its released code averages over
    rows, and the recall of a row without positives is 1).

    Examples
    --------
    >>> from skpartial.metrics import top_k_scores
    >>> y_true = [[1, -1, -1], [-1, 1, 1], [1, -1, 0]]
    >>> scores = [[0.9, 0.2, 0.4], [0.7, 0.6, 0.1], [0.3, 0.8, 0.9]]
    >>> result = top_k_scores(y_true, scores, k=2)
    >>> result.precision, result.overall_recall
    (0.3333333333333333, 0.5)
    """
    check_choice(None, "average", average, ("macro", "samples"))
    check_zero_division(zero_division)
    by_row = average == "samples"
    truth = Truth(y_true, unknown, sample_weight, rows_only=by_row)
    predict = _top_k(scores, truth, k)
    counts = count(truth, predict, axis=1 if by_row else 0)
    weights = truth.weights if by_row else None
    means = mean_known(rates(counts, zero_division), weights)
    if weights is not None:
        counts = Counts(*(weights * part for part in counts))
    overall = rates(counts.overall(), zero_division)[:, 0]
    mean_precision, mean_recall, mean_f1 = means.tolist()
    if average == "macro":
        total = mean_precision + mean_recall
        mean_f1 = 2 * mean_precision * mean_recall / total if total != 0 else 0.0
    return TopKScores(mean_precision, mean_recall, mean_f1, *overall.tolist())


def precision_at_k(
    y_true: Any,
    scores: Any,
    k: int = 1,
    *,
    unknown: Unknown = "ignore",
    zero_division: float = 0.0,
    sample_weight: Any = None,
) -> float:
    """Proportion of positives among the k highest-scored labels, averaged over rows.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L)
        Probabilities or logits, higher for positives; among equal scores, the first labels are chosen.
    k : int, default=1
        Number of labels per row.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" divides by the number of known labels among the k, "absent" by k.
    zero_division : {0.0, 1.0, numpy.nan}, default=0.0
        The precision of a row with no known label among the k; NaN leaves it out of the mean. A row without any known
        label is always left out.
    sample_weight : array-like, shape (n,), or None, default=None
        Weights of rows.

    Returns
    -------
    float
        Value in [0, 1].

    Raises
    ------
    ValueError
        See :func:`top_k_scores`.

    Examples
    --------
    >>> from skpartial.metrics import precision_at_k
    >>> precision_at_k([[1, -1, -1], [1, 0, -1]], [[0.9, 0.2, 0.4], [0.7, 0.6, 0.1]], k=2)
    0.75
    """
    check_zero_division(zero_division)
    truth = Truth(y_true, unknown, sample_weight, rows_only=True)
    return float(averaged_rates(truth, _top_k(scores, truth, k), "samples", zero_division)[0])


def recall_at_k(
    y_true: Any,
    scores: Any,
    k: int = 1,
    *,
    unknown: Unknown = "ignore",
    zero_division: float = 0.0,
    sample_weight: Any = None,
) -> float:
    """Proportion of positives that are among the k highest-scored labels, averaged over rows.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L)
        Probabilities or logits, higher for positives; among equal scores, the first labels are chosen.
    k : int, default=1
        Number of labels per row.
    unknown : {"ignore", "absent"}, default="ignore"
        Only affects which rows are left out: rows without a known label ("ignore"), or none ("absent").
    zero_division : {0.0, 1.0, numpy.nan}, default=0.0
        The recall of a row without positives; NaN leaves it out of the mean.
    sample_weight : array-like, shape (n,), or None, default=None
        Weights of rows.

    Returns
    -------
    float
        Value in [0, 1].

    Raises
    ------
    ValueError
        See :func:`top_k_scores`.

    Examples
    --------
    >>> from skpartial.metrics import recall_at_k
    >>> recall_at_k([[1, 1, -1], [1, 0, -1]], [[0.9, 0.2, 0.4], [0.7, 0.6, 0.1]], k=2)
    0.75
    """
    check_zero_division(zero_division)
    truth = Truth(y_true, unknown, sample_weight, rows_only=True)
    return float(averaged_rates(truth, _top_k(scores, truth, k), "samples", zero_division)[1])
