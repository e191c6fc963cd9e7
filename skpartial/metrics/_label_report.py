"""The report of a classifier per label, to print after training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from skpartial._checks import check_number
from skpartial.labels import LabelMatrix
from skpartial.metrics._classification import precision_recall_f1
from skpartial.metrics._counts import mean_known
from skpartial.metrics._encode import (
    Truth,
    Unknown,
    as_predictions,
    as_scores,
    for_each,
    label_blocks,
    transposed,
)
from skpartial.metrics._ranking import average_precision_per_label, roc_auc_per_label

__all__ = ["LabelReport", "label_report"]

_COUNTS = ("known", "positive", "negative")
_INTERVAL = ("average_precision_low", "average_precision_high")
_SUMMARIES = ("macro", "weighted", "micro")


class LabelReport:
    """Table with one row per label. :func:`label_report` returns it if pandas is not installed.

    Its repr is the table as text; ``report[column]`` is a column as an array.

    Attributes
    ----------
    index : list of str
        Names of the rows: the labels, then the summaries.
    columns : list of str, or of (str, str)
        Names of the columns; for several classifiers, pairs of a column and a classifier.

    Examples
    --------
    >>> from skpartial.metrics import LabelReport
    >>> LabelReport(["cat", "dog"], {"known": [3, 4], "f1": [0.5, float("nan")]})
         known     f1
    cat      3  0.500
    dog      4      -
    """

    def __init__(self, index: Sequence[str], data: Mapping[Any, Any]) -> None:
        self.index = list(index)
        self._data = {name: np.asarray(values) for name, values in data.items()}

    @property
    def columns(self) -> list[Any]:
        """Names of the columns."""
        return list(self._data)

    def __getitem__(self, column: Any) -> NDArray[Any]:
        if column not in self._data:
            raise KeyError(f"{column!r} is not one of the columns {self.columns}.")
        return self._data[column]

    def __repr__(self) -> str:
        rows = ["", *self.index]
        table = [[*rows]]
        for name, values in self._data.items():
            head = name if isinstance(name, str) else " ".join(part for part in name if part)
            table.append([head, *map(_as_text, values.tolist())])
        widths = [max(map(len, cells)) for cells in table]
        lines = []
        for i in range(len(rows)):
            first = f"{table[0][i]:<{widths[0]}}"
            lines.append("  ".join([first, *(f"{c[i]:>{w}}" for c, w in zip(table[1:], widths[1:]))]))
        return "\n".join(lines)


def _as_text(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if np.isnan(value) else f"{value:.3f}"


def label_report(
    y: Any,
    scores: Any,
    *,
    y_pred: Any = None,
    unknown: Unknown = "ignore",
    sample_weight: Any = None,
    confidence_level: float = 0.95,
) -> Any:
    r"""Report the metrics of a classifier: one row per label, then summaries over all labels.

    pandas leaves out columns that do not fit the line: in a script, print ``report.to_string()``.

    The interval of average precision is the logit interval of Boyd, Eng and Page,

    .. math::
        \mathrm{logit}^{-1}\!\left(\mathrm{logit}(\mathrm{AP}) \pm
        \frac{z_{1 - a/2}}{\sqrt{n^+ \, \mathrm{AP} (1 - \mathrm{AP})}}\right)

    where :math:`n^+` is the number of positives that count (with weights, :math:`(\sum w)^2 / \sum w^2`) and a is 1 -
    `confidence_level`. It is wide if there are few positives. Since the logits of 0 and 1 are infinite, an AP closer to
    them than :math:`1 / (2 n^+)` is moved to that distance; an AP of 0 or 1 is itself an end of its interval.

    Parameters
    ----------
    y : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.
    scores : array-like of shape (n, L), or dict of str to array-like
        Results of `predict_proba` or `decision_function`. They are treated as probabilities if all are in [0, 1],
        else as decision values. A dict holds the scores of several classifiers, which are shown side by side.
    y_pred : array-like of shape (n, L), dict of str to array-like, or None, default=None
        Predicted labels, 1 present, 0 (or -1) absent; a dict if `scores` is one. None predicts a label where its
        probability is above 0.5, or its decision above 0, as the classifiers do.
    unknown : {"ignore", "absent"}, default="ignore"
        "ignore" scores the known entries, "absent" counts unknown entries as negative, for positive-only labels.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries.
    confidence_level : float in (0, 1), default=0.95
        Probability with which an interval should contain the average precision of a large sample.

    Returns
    -------
    DataFrame, or LabelReport if pandas is not installed
        The index holds the names of the labels, then "macro" (mean over labels), "weighted" (mean over labels,
        weighted by their number of positives) and "micro" (over all entries together). The columns:

        - ``known``, ``positive``, ``negative``: numbers of known entries of `y`, and of known positives and negatives;
        - ``average_precision``, ``average_precision_low``, ``average_precision_high``: with its interval. Summaries
          have no interval, because labels of the same rows depend on each other;
        - ``roc_auc``, ``precision``, ``recall``, ``f1``;
        - ``threshold``: the score above which a label is predicted; with `y_pred` the lowest score of a predicted
          label, or NaN if no threshold gives these predictions;
        - ``brier``: mean squared difference of probability and label, NaN if scores are decisions.

        Values that cannot be computed are NaN, and left out of means. For several classifiers, columns are pairs
        ``(column, classifier)``, so that ``report["f1"]`` compares them.

    Raises
    ------
    ValueError
        If shapes or names differ, a score that counts is not finite, or `unknown` is "ignore" and `y` has no known
        negative.

    See Also
    --------
    skpartial.labels.describe : Counts of known labels, before any classifier is trained.
    sklearn.metrics.classification_report : For complete labels.

    References
    ----------
    .. [1] K. Boyd, K. H. Eng, C. D. Page, "Area under the Precision-Recall Curve: Point Estimates and Confidence
       Intervals", ECML PKDD 2013, section 4 (logit interval).

    Examples
    --------
    >>> import pandas as pd
    >>> from skpartial.metrics import label_report
    >>> y = pd.DataFrame([[1, -1], [-1, 1], [1, 1], [0, -1]], columns=["cat", "dog"])
    >>> scores = [[0.9, 0.4], [0.6, 0.3], [0.4, 0.8], [0.8, 0.1]]
    >>> report = label_report(y, scores)
    >>> report[["known", "positive", "average_precision", "average_precision_low", "f1"]].round(2)
              known  positive  average_precision  average_precision_low    f1
    cat           3         2               0.83                   0.11  0.50
    dog           4         2               0.83                   0.11  0.67
    macro         7         4               0.83                    NaN  0.58
    weighted      7         4               0.83                    NaN  0.58
    micro         7         4               0.82                    NaN  0.57
    >>> both = label_report(y, {"old": scores, "new": [[0.9, 0.1], [0.1, 0.9], [0.8, 0.7], [0.5, 0.2]]})
    >>> both["f1"].round(2)
               old  new
    cat       0.50  1.0
    dog       0.67  1.0
    macro     0.58  1.0
    weighted  0.58  1.0
    micro     0.57  1.0
    """
    check_number(None, "confidence_level", confidence_level, "(0, 1)")
    truth = Truth(LabelMatrix.encode(y, name="y"), unknown, sample_weight)
    labels = truth.labels
    names = [str(j) for j in range(labels.n_labels)] if labels.names is None else [str(name) for name in labels.names]
    counts = {"known": labels.count(axis=0), "positive": labels.count(1, axis=0), "negative": labels.count(-1, axis=0)}
    found = {name: np.concatenate([values, np.full(len(_SUMMARIES), values.sum())]) for name, values in counts.items()}
    if not isinstance(scores, Mapping):
        if isinstance(y_pred, Mapping):
            raise ValueError("y_pred is a dict, but scores is not: pass scores as a dict with the same names.")
        return _as_table([*names, *_SUMMARIES], found | _columns(truth, scores, y_pred, confidence_level))
    if not scores or (y_pred is not None and not (isinstance(y_pred, Mapping) and set(y_pred) == set(scores))):
        raise ValueError(
            "scores must be a dict with at least one classifier, and y_pred None or a dict with the same names."
        )
    each = {
        str(name): _columns(truth, of_one, None if y_pred is None else y_pred[name], confidence_level)
        for name, of_one in scores.items()
    }
    side_by_side: dict[Any, NDArray[Any]] = {(name, ""): values for name, values in found.items()}
    for column in next(iter(each.values())):
        side_by_side |= {(column, name): columns[column] for name, columns in each.items()}
    return _as_table([*names, *_SUMMARIES], side_by_side)


def _as_table(index: list[str], data: dict[Any, NDArray[Any]]) -> Any:
    try:
        import pandas as pd
    except ImportError:
        return LabelReport(index, data)
    return pd.DataFrame(data, index=index)


def _columns(truth: Truth, scores: Any, y_pred: Any, confidence_level: float) -> dict[str, NDArray[np.float64]]:
    """The columns of one classifier: all labels, then the summaries."""
    scores = as_scores(scores, truth.shape, names=truth.labels.names)
    probabilities = bool(np.nanmin(scores) >= 0 and np.nanmax(scores) <= 1)
    if y_pred is None:
        threshold = 0.5 if probabilities else 0.0
        predicted, thresholds = LabelMatrix.encode(scores > threshold), np.full(truth.shape[1], threshold)
    else:
        predicted = as_predictions(y_pred, truth.shape, names=truth.labels.names)
        thresholds = _thresholds(scores, predicted)
    weight, effective = _presences(truth)

    per_label = _scored(truth.labels, scores, predicted, truth.unknown, truth.weights)
    if probabilities:
        per_label["brier"] = _brier(truth, scores)
    over_all = {name: values[0] for name, values in _micro(truth, scores, predicted, probabilities).items()}
    low, high = _logit_interval(per_label["average_precision"], effective, confidence_level)
    columns = {}
    nothing = np.full(len(_SUMMARIES), np.nan)
    for name in ("average_precision", *_INTERVAL, "roc_auc", "precision", "recall", "f1", "threshold", "brier"):
        if name in _INTERVAL or name == "threshold":
            values, summary = {"threshold": thresholds}.get(name, low if name == _INTERVAL[0] else high), nothing
        elif name == "brier" and not probabilities:
            values, summary = np.full(truth.shape[1], np.nan), nothing
        else:
            values = per_label[name]
            summary = np.array([mean_known(values), mean_known(values, weight), over_all[name]])
        columns[name] = np.concatenate([values, summary])
    return columns


def _scored(
    labels: LabelMatrix, scores: NDArray[Any], predicted: LabelMatrix, unknown: Unknown, weights: Any
) -> dict[str, NDArray[np.float64]]:
    """The package's metrics of each label."""
    rates = precision_recall_f1(labels, predicted, average=None, unknown=unknown, sample_weight=weights)
    return {
        "average_precision": average_precision_per_label(labels, scores, unknown, sample_weight=weights),
        "roc_auc": roc_auc_per_label(labels, scores, unknown, sample_weight=weights),
        **dict(zip(("precision", "recall", "f1"), rates)),
    }


def _micro(
    truth: Truth, scores: NDArray[Any], predicted: LabelMatrix, probabilities: bool
) -> dict[str, NDArray[np.float64]]:
    """The metrics of all entries that count, as if they belonged to one label."""
    unknown = truth.unknown
    weights = None if truth.weights is None else truth.weights if truth.weights.ndim == 2 else truth.weights[:, None]
    if truth.labels.is_sparse and unknown == "ignore":
        rows, columns = truth.labels.values.nonzero()
        y = np.asarray(truth.labels.values[rows, columns])
        present = np.asarray(predicted.values[rows, columns])
        scores = scores[rows, columns]
        weights = None if weights is None else np.broadcast_to(weights, truth.shape)[rows, columns]
    else:
        whole = slice(None)
        weights = None if weights is None else np.broadcast_to(weights, truth.shape)
        y, present = truth.labels.rows(whole), predicted.rows(whole)
    column = [array.reshape(-1, 1) for array in (y, scores, present)]
    weights = None if weights is None else weights.reshape(-1)
    labels = LabelMatrix.encode(column[0])
    values = _scored(labels, column[1], LabelMatrix.encode(column[2]), unknown, weights)
    if probabilities:
        values["brier"] = _brier(Truth(labels, unknown, weights), column[1])
    return values


def _presences(truth: Truth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per label, the total weight of its positives and their effective number, shape (L,) each."""

    def of_block(labels: slice) -> NDArray[np.float64]:
        present, _ = truth.of_labels(labels)
        weights = truth.weights_of_labels(labels)
        weighed = present.astype(np.float64) if weights is None else present * weights
        return np.stack([weighed.sum(axis=1), (weighed**2).sum(axis=1)])

    total, squares = np.concatenate(for_each(of_block, label_blocks(truth.shape)), axis=1)
    return total, np.divide(total**2, squares, out=np.zeros_like(total), where=squares > 0)


def _brier(truth: Truth, scores: NDArray[Any]) -> NDArray[np.float64]:
    """Mean squared difference of probability and label over the entries that count, shape (L,)."""

    def of_block(labels: slice) -> NDArray[np.float64]:
        present, known = truth.of_labels(labels)
        weights = truth.weights_of_labels(labels)
        counted = np.ones(present.shape) if known is None else known.astype(np.float64)
        counted = counted if weights is None else counted * weights
        squared = (transposed(scores, labels).astype(np.float64) - present) ** 2
        total = counted.sum(axis=1)
        # Scores of entries that do not count may be NaN.
        lost = np.where(counted > 0, squared, 0.0) * counted
        return np.divide(lost.sum(axis=1), total, out=np.full(len(total), np.nan), where=total > 0)

    return np.concatenate(for_each(of_block, label_blocks(truth.shape)))


def _thresholds(scores: NDArray[Any], predicted: LabelMatrix) -> NDArray[np.float64]:
    """Lowest score of a predicted positive per label, shape (L,); NaN if a predicted negative scores as high."""
    lowest, highest = np.full(predicted.n_labels, np.inf), np.full(predicted.n_labels, -np.inf)
    for start in range(0, predicted.n_rows, 1 << 14):
        rows = slice(start, start + (1 << 14))
        present, block = predicted.rows(rows) == 1, scores[rows].astype(np.float64)
        lowest = np.fmin(lowest, np.where(present, block, np.inf).min(axis=0))
        highest = np.fmax(highest, np.where(present, -np.inf, block).max(axis=0))
    return np.where(np.isfinite(lowest) & (lowest > highest), lowest, np.nan)


def average_precision_interval(
    truth: Truth, scores: NDArray[Any], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Average precision of each label and both ends of its interval, shape (L,) each."""
    values = average_precision_per_label(truth.labels, scores, truth.unknown, sample_weight=truth.weights)
    return values, *_logit_interval(values, _presences(truth)[1], level)


def _logit_interval(
    values: NDArray[np.float64], n_presences: NDArray[np.float64], level: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Interval of average precisions from these numbers of positives; 0 and 1 are ends of their own intervals."""
    some = ~np.isnan(values) & (n_presences > 0)
    half = np.divide(0.5, n_presences, out=np.full(len(values), np.nan), where=some)
    inner = np.clip(values, np.minimum(half, 0.5), np.maximum(1 - half, 0.5))
    with np.errstate(invalid="ignore"):
        spread = norm.ppf(0.5 + level / 2) / np.sqrt(n_presences * inner * (1 - inner), where=some, out=half.copy())
    low, high = expit(logit(inner) - spread), expit(logit(inner) + spread)
    return np.where(values == 0, 0.0, low), np.where(values == 1, 1.0, high)
