"""Metrics of the k labels of each row that score highest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_choice, check_whole, wrong_value
from skpartial.metrics._counts import Counts, averaged_rates, check_zero_division, count, mean_known, rates
from skpartial.metrics._encode import Truth, Unknown, as_scores


class TopKScores(NamedTuple):
    """What :func:`top_k_scores` returns; all in [0, 1]."""

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
    """Return a function from a slice of rows to which of their entries are among the k highest of their row."""
    scores = as_scores(scores, truth.shape, names=truth.labels.names)
    n_labels = truth.shape[1]
    _check_k(k, n_labels)

    def predict(rows: slice) -> NDArray[np.bool_]:
        block = scores[rows]
        if not np.isfinite(block).all():
            raise ValueError("scores hold NaN or infinity; every entry needs a finite score.")
        threshold = np.partition(block, n_labels - k, axis=1)[:, n_labels - k, None]
        chosen = block > threshold
        # Of the labels that score as high as the k-th, the first ones fill up: exactly k a row, in a fixed order.
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
    r"""Precision, recall and F1 where the k highest scores of each row are taken as its present labels.

    By default the six numbers that the literature calls P-C, R-C, F1-C (per class) and P-O, R-O, F1-O (overall). Of
    label c, with :math:`tp_c` right among the :math:`pred_c` rows that have it in their top k, and :math:`pos_c` rows
    that it is present in:

    .. math::
        P_C = \frac1L \sum_c \frac{tp_c}{pred_c} \qquad R_C = \frac1L \sum_c \frac{tp_c}{pos_c} \qquad
        F1_C = \frac{2 P_C R_C}{P_C + R_C}

    and the overall ones are :math:`\sum_c tp_c / \sum_c pred_c`, :math:`\sum_c tp_c / \sum_c pos_c` and their
    harmonic mean.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L)
        Probabilities or logits, the higher the more present. Every entry takes part in the choice of the k highest,
        known or not; of equal scores, the labels that come first are chosen.
    k : int, default=3
        How many labels of each row.
    average : {"macro", "samples"}, default="macro"
        "macro" as above. "samples" gives, as the first three numbers, means over the rows of the precision, recall
        and F1 of each row; published top-3 tables hold both kinds, under the same names.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" counts known entries only, so that a label chosen but unknown is neither right nor wrong; "absent"
        counts unknown entries as absent.
    zero_division : {0.0, 1.0, numpy.nan}, default=0.0
        The value of 0 / 0, such as the precision of a label that is in no row's top k; NaN leaves it out of the mean.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or of entries, by which the counts are sums; for "samples" of rows. They play no part in the
        choice of the k highest.

    Returns
    -------
    TopKScores
        A named tuple of ``precision``, ``recall``, ``f1``, ``overall_precision``, ``overall_recall`` and
        ``overall_f1``.

    Raises
    ------
    ValueError
        If shapes or names differ, a score is not finite, `k` is not from 1 to L, or `unknown` is "ignore" and nothing
        in `y_true` is known to be absent.

    References
    ----------
    Y. Gong, Y. Jia, T. Leung, A. Toshev, S. Ioffe. Deep Convolutional Ranking for Multilabel Image Annotation. ICLR
    2014 (per class and overall). H. Cevikalp, B. Benligiray, O. N. Gerek. Semi-Supervised Robust Deep
    Neural Networks for Multi-Label Image Classification. Pattern Recognition 2020 (its released code averages over
    rows, the recall of a row without a present label being 1).

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
    """Mean over the rows of the proportion of present labels among the k that score highest.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L)
        Probabilities or logits, the higher the more present; of equal scores, the labels that come first are chosen.
    k : int, default=1
        How many labels of each row.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" divides by how many of the k are known, "absent" by k.
    zero_division : {0.0, 1.0, numpy.nan}, default=0.0
        The precision of a row of whose k labels none is known; NaN leaves it out of the mean. A row without any known
        label is left out always.
    sample_weight : array-like, shape (n,), or None, default=None
        Weights of rows.

    Returns
    -------
    float
        In [0, 1].

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
    """Mean over the rows of the proportion of their present labels that are among the k that score highest.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L)
        Probabilities or logits, the higher the more present; of equal scores, the labels that come first are chosen.
    k : int, default=1
        How many labels of each row.
    unknown : {"ignore", "absent"}, default="ignore"
        Makes no difference but to which rows are left out: those without a known label, or none.
    zero_division : {0.0, 1.0, numpy.nan}, default=0.0
        The recall of a row without a present label; NaN leaves it out of the mean.
    sample_weight : array-like, shape (n,), or None, default=None
        Weights of rows.

    Returns
    -------
    float
        In [0, 1].

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
