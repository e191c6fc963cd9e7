"""Average precision, ROC-AUC and label ranking loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_choice
from skpartial.metrics._encode import (
    Truth,
    Unknown,
    as_scores,
    for_each,
    label_blocks,
    row_blocks,
    transposed,
)
from skpartial.metrics._sorting import Ranking
from skpartial.metrics._weighted_sorting import WeightedRanking

Empty = Literal["skip", "zero", "nan"]
Interpolation = Literal["voc"] | None


def _per_label(
    y_true: Any,
    scores: Any,
    unknown: Unknown,
    sample_weight: Any,
    measure: Callable[[Ranking | WeightedRanking], NDArray[np.float64]],
) -> NDArray[np.float64]:
    truth = Truth(y_true, unknown, sample_weight)
    scores = as_scores(scores, truth.shape, stacked=True, names=truth.labels.names)
    candidates = scores if scores.ndim == 3 else scores[None]
    values = np.empty((len(candidates), truth.shape[1]))

    def score(labels: slice) -> None:
        present, known = truth.of_labels(labels)
        weights = truth.weights_of_labels(labels)
        for value, candidate in zip(values, candidates):
            rankings = transposed(candidate, labels)
            if weights is None:
                value[labels] = measure(Ranking(rankings, present, known))
            else:
                value[labels] = measure(WeightedRanking(rankings, present, known, weights))

    for_each(score, label_blocks(truth.shape))
    return values if scores.ndim == 3 else values[0]


def _mean(values: NDArray[np.float64], empty: Empty, needs: str) -> Any:
    """Mean over labels, the last axis; values are NaN for labels that cannot be scored."""
    unscored = np.isnan(values)
    if empty == "skip":
        if unscored.all(axis=-1).any():
            raise ValueError(
                f'No label can be scored: a label needs {needs}. Pass empty="zero" or empty="nan" to get a number '
                "anyway."
            )
        mean = np.where(unscored, 0.0, values).sum(axis=-1) / (~unscored).sum(axis=-1)
    elif empty == "zero":
        mean = np.where(unscored, 0.0, values).mean(axis=-1)
    else:
        mean = values.mean(axis=-1)
    return float(mean) if values.ndim == 1 else mean


def average_precision_per_label(
    y_true: Any,
    scores: Any,
    unknown: Unknown = "ignore",
    *,
    interpolation: Interpolation = None,
    sample_weight: Any = None,
) -> NDArray[np.float64]:
    r"""Average precision of each label.

    .. math:: \mathrm{AP} = \sum_n (R_n - R_{n-1}) P_n

    where :math:`P_n` and :math:`R_n` are precision and recall at the n-th highest distinct score. This is
    scikit-learn's :func:`~sklearn.metrics.average_precision_score`, without interpolation and with ties grouped.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L) or (K, n, L)
        Probabilities or logits, higher for positives, as a NumPy array, PyTorch tensor or other array-like. K matrices
        are the scores of K candidates on the same labels. Scores of entries that do not count may be NaN or infinite.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" scores the known entries; a label then needs a known positive and a known negative. "absent" counts
        unknown entries as negative; a label then needs a known positive.
    interpolation : {"voc"} or None, default=None
        "voc" replaces :math:`P_n` by the highest precision at a recall of at least :math:`R_n`, as in the Pascal VOC
        challenges since 2010.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries, for weighted precision and recall; entries of weight 0 are left out.

    Returns
    -------
    ndarray of float64, shape (L,) or (K, L)
        Values in [0, 1]; NaN for a label that cannot be scored.

    Raises
    ------
    ValueError
        If shapes or names differ, a score that counts is not finite, or `unknown` is "ignore" and `y_true` has no known
        negative: over known entries alone, every ranking of positive-only labels is perfect.

    References
    ----------
    M. Everingham, S. M. A. Eslami, L. Van Gool, C. Williams, J. Winn, A. Zisserman. The Pascal Visual Object Classes
    Challenge: A Retrospective. IJCV 2015 (interpolation).

    Examples
    --------
    >>> from skpartial.metrics import average_precision_per_label
    >>> y_true = [[1, -1, 0], [-1, 1, 1], [1, 1, 0], [0, -1, 1]]
    >>> scores = [[0.9, 0.4, 0.1], [0.6, 0.3, 0.8], [0.4, 0.8, 0.2], [0.8, 0.1, 0.7]]
    >>> average_precision_per_label(y_true, scores)
    array([0.83333333, 0.83333333,        nan])
    >>> average_precision_per_label(y_true, scores, unknown="absent")
    array([0.75      , 0.83333333, 1.        ])
    """
    check_choice(None, "interpolation", interpolation, (None, "voc"))

    def measure(ranking: Ranking | WeightedRanking) -> NDArray[np.float64]:
        precision = ranking.present_at_least / ranking.entries_at_least
        if interpolation == "voc":
            precision = ranking.highest_from_here(precision)
        scored = ranking.n_present > 0
        if unknown == "ignore":
            scored &= ranking.n_absent > 0
        return np.divide(ranking.sum(precision), ranking.n_present, out=np.full(len(scored), np.nan), where=scored)

    return _per_label(y_true, scores, unknown, sample_weight, measure)


def mean_average_precision(
    y_true: Any,
    scores: Any,
    unknown: Unknown = "ignore",
    empty: Empty = "skip",
    *,
    interpolation: Interpolation = None,
    sample_weight: Any = None,
) -> Any:
    """Average precision, averaged over labels.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L) or (K, n, L)
        Probabilities or logits, higher for positives; K matrices are the scores of K candidates on the same labels.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" scores the known entries, "absent" counts unknown entries as negative. Use "absent" for positive-only
        labels.
    empty : {"skip", "zero", "nan"}, default="skip"
        Treatment of labels that cannot be scored, because they have no known positive (or, with ``unknown="ignore"``,
        no known negative): "skip" leaves them out of the mean; "zero" counts them as 0, as in published results on
        single positive labels; "nan" makes the mean NaN.
    interpolation : {"voc"} or None, default=None
        See :func:`average_precision_per_label`.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries within each label; the mean over labels is unweighted.

    Returns
    -------
    float, or ndarray of float64, shape (K,)
        Value in [0, 1]; one mean per matrix of scores.

    Raises
    ------
    ValueError
        As in :func:`average_precision_per_label`, and if `empty` is "skip" and no label can be scored.

    References
    ----------
    E. Cole, O. Mac Aodha, T. Lorieul, P. Perona, D. Morris, N. Jojic. Multi-Label Learning from Single Positive
    Labels. CVPR 2021 (unknown entries count as negative; in the released code a label without positives counts as 0).

    Examples
    --------
    >>> from skpartial.metrics import mean_average_precision
    >>> y_true = [[1, -1, 0], [-1, 1, 1], [1, 1, 0], [0, -1, 1]]
    >>> scores = [[0.9, 0.4, 0.1], [0.6, 0.3, 0.8], [0.4, 0.8, 0.2], [0.8, 0.1, 0.7]]
    >>> round(mean_average_precision(y_true, scores), 4)
    0.8333
    >>> round(mean_average_precision(y_true, scores, empty="zero"), 4)
    0.5556
    >>> round(mean_average_precision(y_true, scores, unknown="absent"), 4)
    0.8611
    """
    check_choice(None, "empty", empty, ("skip", "zero", "nan"))
    options: dict[str, Any] = {"interpolation": interpolation, "sample_weight": sample_weight}
    values = average_precision_per_label(y_true, scores, unknown, **options)
    return _mean(values, empty, "a known positive" + (" and a known negative" if unknown == "ignore" else ""))


def roc_auc_per_label(
    y_true: Any, scores: Any, unknown: Unknown = "ignore", *, sample_weight: Any = None
) -> NDArray[np.float64]:
    r"""Area under the ROC curve of each label.

    It is the proportion of pairs of a positive and a negative entry of the label that the scores order correctly; ties
    count one half:

    .. math:: \mathrm{AUC} = \frac{1}{|P||N|} \sum_{i \in P} \sum_{j \in N} [s_i > s_j] + \tfrac12 [s_i = s_j]

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L) or (K, n, L)
        Probabilities or logits, higher for positives; K matrices are the scores of K candidates on the same labels.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" scores the known entries, "absent" counts unknown entries as negative.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries; the weight of a pair is the product of its weights.

    Returns
    -------
    ndarray of float64, shape (L,) or (K, L)
        Values in [0, 1]; NaN for a label without positives or without negatives.

    Raises
    ------
    ValueError
        If shapes or names differ, a score that counts is not finite, or `unknown` is "ignore" and `y_true` has no known
        negative.

    Examples
    --------
    >>> from skpartial.metrics import roc_auc_per_label
    >>> y_true = [[1, -1], [-1, 1], [1, 1], [0, -1]]
    >>> roc_auc_per_label(y_true, [[0.9, 0.4], [0.6, 0.3], [0.4, 0.8], [0.8, 0.3]])
    array([0.5  , 0.625])
    """

    def measure(ranking: Ranking | WeightedRanking) -> NDArray[np.float64]:
        # Twice the number of wrongly ordered pairs: pairs that score at least as high, plus pairs that score higher.
        at_least = ranking.entries_at_least - ranking.present_at_least
        wrong = ranking.sum(2 * at_least - ranking.tied_absent())
        pairs = ranking.n_present * ranking.n_absent
        return 1.0 - np.divide(wrong, 2 * pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)

    return _per_label(y_true, scores, unknown, sample_weight, measure)


def mean_roc_auc(
    y_true: Any, scores: Any, unknown: Unknown = "ignore", empty: Empty = "skip", *, sample_weight: Any = None
) -> Any:
    """Area under the ROC curve, averaged over labels.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L) or (K, n, L)
        Probabilities or logits, higher for positives; K matrices are the scores of K candidates on the same labels.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" scores the known entries, "absent" counts unknown entries as negative.
    empty : {"skip", "zero", "nan"}, default="skip"
        How a label without positives or without negatives counts: not at all, as 0 or as NaN.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries within each label; the mean over labels is unweighted.

    Returns
    -------
    float, or ndarray of float64, shape (K,)
        Value in [0, 1]; one mean per matrix of scores.

    Raises
    ------
    ValueError
        As in :func:`roc_auc_per_label`, and if `empty` is "skip" and no label can be scored.

    Examples
    --------
    >>> from skpartial.metrics import mean_roc_auc
    >>> y_true = [[1, -1], [-1, 1], [1, 1], [0, -1]]
    >>> mean_roc_auc(y_true, [[0.9, 0.4], [0.6, 0.3], [0.4, 0.8], [0.8, 0.3]])
    0.5625
    """
    check_choice(None, "empty", empty, ("skip", "zero", "nan"))
    kind = "a known" if unknown == "ignore" else "an assumed"
    values = roc_auc_per_label(y_true, scores, unknown, sample_weight=sample_weight)
    return _mean(values, empty, f"a known positive and {kind} negative")


def label_ranking_loss(
    y_true: Any,
    scores: Any,
    unknown: Unknown = "ignore",
    empty: Literal["zero", "skip"] = "zero",
    *,
    sample_weight: Any = None,
) -> float:
    r"""Proportion of wrongly ordered pairs of labels, averaged over rows.

    A pair is a positive and a negative label of one row; it is wrong if the negative one scores at least as high:

    .. math:: \frac{1}{n} \sum_i \frac{1}{|P_i||N_i|} \sum_{j \in P_i} \sum_{k \in N_i} [s_{ij} \le s_{ik}]

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like, shape (n, L)
        Probabilities or logits, higher for positives.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" takes pairs of known labels, "absent" counts unknown entries as negative.
    empty : {"zero", "skip"}, default="zero"
        Whether a row whose labels are all positive or all negative, and that has no pair, counts as 0, as in
        scikit-learn, or is left out. A row without known labels is always left out.
    sample_weight : array-like, shape (n,), or None, default=None
        Weights of rows.

    Returns
    -------
    float
        Value in [0, 1]; 0 is best.

    Raises
    ------
    ValueError
        If shapes or names differ, a score that counts is not finite, `unknown` is "ignore" and `y_true` has no known
        negative, or `empty` is "skip" and no row has a pair.

    Examples
    --------
    >>> from skpartial.metrics import label_ranking_loss
    >>> label_ranking_loss([[1, -1, 0], [1, -1, -1]], [[0.2, 0.8, 0.5], [0.6, 0.7, 0.1]])
    0.75
    """
    check_choice(None, "empty", empty, ("zero", "skip"))
    truth = Truth(y_true, unknown, sample_weight, rows_only=True)
    scores = as_scores(scores, truth.shape, names=truth.labels.names)

    def score(rows: slice) -> tuple[float, float]:
        ranking = Ranking(scores[rows], *truth.of_rows(rows))
        wrong = ranking.sum(ranking.entries_at_least - ranking.present_at_least)
        pairs = ranking.n_present * ranking.n_absent
        some = pairs > 0
        counted = some if empty == "skip" else ranking.n_present + ranking.n_absent > 0
        weights = np.ones(len(some)) if truth.weights is None else truth.weights[rows]
        return float((weights[some] * wrong[some] / pairs[some]).sum()), float(weights[counted].sum())

    totals, counts = zip(*for_each(score, row_blocks(truth.shape)))
    if sum(counts) == 0 and truth.weights is not None:
        raise ValueError("sample_weight is zero in every row that counts, so there is nothing to score.")
    if sum(counts) == 0:
        raise ValueError('No row has both a positive and a negative label to compare: pass empty="zero" to count 0.')
    return sum(totals) / sum(counts)
