"""Average precision against the number of known entries, and the reliability of probabilities."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_choice, check_whole
from skpartial.inspection._plotting import KnownScores, chosen_labels, single_axes
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import check_same_names
from skpartial.metrics._encode import Unknown
from skpartial.metrics._label_report import average_precision_interval

__all__ = ["AveragePrecisionDisplay", "ReliabilityDisplay"]

_MAX_NAMES = 30


class AveragePrecisionDisplay:
    """Average precision per label against its number of known entries: shows which labels need more annotations.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    average_precision : ndarray of float64, shape (L,)
        Average precision; NaN for labels that cannot be scored, which are not drawn.
    low, high : ndarray of float64, shape (L,)
        Interval of average precision, as in :func:`skpartial.metrics.label_report`.
    n_known : ndarray of int64, shape (L,)
        Number of entries of each label, on the x axis.
    count : {"known", "present"}
        Which entries `n_known` counts.
    label_names : list of str
        Names of the labels.

    Attributes
    ----------
    points_ : matplotlib Line2D
        One point per label.
    intervals_ : matplotlib LineCollection
        The intervals.
    ax_, figure_ : matplotlib Axes and Figure
        The axes and the figure.

    Examples
    --------
    >>> from skpartial.inspection import AveragePrecisionDisplay
    >>> y = [[1, -1, 0], [-1, 1, 1], [1, 1, 0], [0, -1, 1]]
    >>> scores = [[0.9, 0.4, 0.1], [0.6, 0.3, 0.8], [0.4, 0.8, 0.2], [0.8, 0.1, 0.7]]
    >>> display = AveragePrecisionDisplay.from_predictions(y, scores)
    >>> display.n_known, display.average_precision.round(2)
    (array([3, 4, 2]), array([0.83, 0.83,  nan]))
    """

    def __init__(
        self,
        average_precision: NDArray[np.float64],
        *,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        n_known: NDArray[np.int64],
        count: str,
        label_names: list[str],
    ) -> None:
        self.average_precision, self.low, self.high = average_precision, low, high
        self.n_known, self.count, self.label_names = n_known, count, label_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        y_train: Any = None,
        count: Literal["known", "present"] = "known",
        unknown: Unknown = "ignore",
        sample_weight: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the average precision of a fitted classifier.

        Parameters
        ----------
        estimator : estimator
            A fitted multi-label classifier, or a pipeline or search of one.
        X : array-like, shape (n, d)
            Rows to predict.
        y, y_train, count, unknown, sample_weight, ax
            As in `from_predictions`.

        Returns
        -------
        AveragePrecisionDisplay
            The display.
        """
        known = KnownScores.of(estimator, X, y, unknown, sample_weight, "auto")
        return cls._from_known(known, y_train, count).plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        scores: Any,
        *,
        y_train: Any = None,
        count: Literal["known", "present"] = "known",
        unknown: Unknown = "ignore",
        sample_weight: Any = None,
        label_names: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the average precision of scores.

        Parameters
        ----------
        y : array-like, DataFrame or sparse matrix, shape (n, L)
            Labels for scoring: 1 present, -1 absent, 0 unknown.
        scores : array-like, shape (n, L)
            Probabilities or decisions, higher for positives.
        y_train : array-like, DataFrame or sparse matrix, shape (m, L), or None, default=None
            Training labels, whose known entries are counted; None counts those of `y`.
        count : {"known", "present"}, default="known"
            What to count on the x axis: known entries, or known positives.
        unknown : {"ignore", "absent"}, default="ignore"
            "ignore" scores the known entries, "absent" counts unknown entries as negative.
        sample_weight : array-like, shape (n,) or (n, L), or None, default=None
            Weights of rows or entries of `y`.
        label_names : sequence of str or None, default=None
            Names of the labels; None takes those of `y`, else positions.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        AveragePrecisionDisplay
            The display.

        Raises
        ------
        ValueError
            If shapes or names differ.
        """
        return cls._from_known(KnownScores(y, scores, unknown, sample_weight, label_names), y_train, count).plot(ax=ax)

    @classmethod
    def _from_known(cls, known: KnownScores, y_train: Any, count: str) -> Self:
        check_choice(None, "count", count, ("known", "present"))
        counted = known.truth.labels if y_train is None else LabelMatrix.encode(y_train, name="y_train")
        if counted.n_labels != known.truth.shape[1]:
            raise ValueError(f"y_train has {counted.n_labels} labels, but y has {known.truth.shape[1]}.")
        check_same_names(known.truth.labels.names, counted.names, "y_train", "y")
        value, low, high = average_precision_interval(known.truth, known.scores)
        n_known = counted.count(1 if count == "present" else None, axis=0)
        return cls(value, low=low, high=high, n_known=n_known, count=count, label_names=known.names)

    def plot(self, ax: Any = None, **errorbar_kw: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        **errorbar_kw : dict
            Passed to matplotlib's `errorbar`.

        Returns
        -------
        self
            With `ax_`, `figure_`, `points_` and `intervals_`.
        """
        self.figure_, self.ax_ = single_axes(self, ax)
        drawn = ~np.isnan(self.average_precision) & (self.n_known > 0)
        across, value = self.n_known[drawn], self.average_precision[drawn]
        # Rounding may move an end of an interval past its middle.
        ends = np.maximum(0, [value - self.low[drawn], self.high[drawn] - value])
        style: dict[str, Any] = {"fmt": "o", "elinewidth": 1, "alpha": 0.8, **errorbar_kw}
        self.points_, _, (self.intervals_,) = self.ax_.errorbar(across, value, yerr=ends, **style)
        if drawn.sum() <= _MAX_NAMES:
            for j in np.flatnonzero(drawn):
                place = (self.n_known[j], self.average_precision[j])
                self.ax_.annotate(
                    self.label_names[j], place, xytext=(4, 4), textcoords="offset points", fontsize="small"
                )
        what = "entries known to be present" if self.count == "present" else "known entries"
        self.ax_.set(xscale="log", ylim=(-0.02, 1.02), xlabel=f"{what} of the label", ylabel="average precision")
        return self


class ReliabilityDisplay:
    r"""Reliability of probabilities: the proportion of positives against the predicted probability.

    Known entries are binned by their probability. The expected calibration error is the absolute difference between
    proportion of positives and mean probability of a bin, averaged over entries:

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \left| \bar y_b - \bar p_b \right|

    Make one with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    prob_true, prob_pred : ndarray of float64, shape (b,)
        Proportion of positives and mean probability of each non-empty bin.
    counts : ndarray of float64, shape (b,)
        Number of entries of each bin, or their total weight.
    ece : float
        Expected calibration error, in [0, 1].
    name : str or None, default=None
        Name in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        Proportion of positives against mean probability.
    ax_, figure_ : matplotlib Axes and Figure
        The axes and the figure.

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : The same for one completely known label.

    Notes
    -----
    If the chance of an entry being known depends on its label, as in positive-only labels, known entries are not a
    representative sample, and the proportions do not hold for all entries.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
       AAAI 2015 (expected calibration error).

    Examples
    --------
    >>> from skpartial.inspection import ReliabilityDisplay
    >>> display = ReliabilityDisplay.from_predictions([[1, -1], [0, 1], [-1, -1]], [[0.9, 0.1], [0.4, 0.7], [0.2, 0.6]],
    ...                                               n_bins=2)
    >>> display.prob_true.round(2), display.counts, round(display.ece, 2)
    (array([0.  , 0.67]), array([2., 3.]), 0.1)
    """

    def __init__(
        self,
        prob_true: NDArray[np.float64],
        prob_pred: NDArray[np.float64],
        *,
        counts: NDArray[np.float64],
        ece: float,
        name: str | None = None,
    ) -> None:
        self.prob_true, self.prob_pred, self.counts, self.ece, self.name = prob_true, prob_pred, counts, ece, name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        labels: Any = None,
        n_bins: int = 10,
        strategy: Literal["uniform", "quantile"] = "uniform",
        unknown: Unknown = "ignore",
        sample_weight: Any = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the reliability of the probabilities of a fitted classifier.

        Parameters
        ----------
        estimator : estimator
            A fitted multi-label classifier with `predict_proba`, or a pipeline or search of one.
        X : array-like, shape (n, d)
            Rows to predict.
        y, labels, n_bins, strategy, unknown, sample_weight, name, ax
            As in `from_predictions`; by default the name is the class name.

        Returns
        -------
        ReliabilityDisplay
            The display.
        """
        known = KnownScores.of(estimator, X, y, unknown, sample_weight, "predict_proba")
        return cls._from_known(known, labels, n_bins, strategy, type(estimator).__name__ if name is None else name, ax)

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        probabilities: Any,
        *,
        labels: Any = None,
        n_bins: int = 10,
        strategy: Literal["uniform", "quantile"] = "uniform",
        unknown: Unknown = "ignore",
        sample_weight: Any = None,
        label_names: Any = None,
        name: str | None = None,
        ax: Any = None,
    ) -> Self:
        """Draw the reliability of probabilities.

        Parameters
        ----------
        y : array-like, DataFrame or sparse matrix, shape (n, L)
            Labels: 1 present, -1 absent, 0 unknown.
        probabilities : array-like, shape (n, L)
            Probabilities in [0, 1].
        labels : sequence of int or str, int, str or None, default=None
            Labels whose entries are pooled, by position or name; None for all labels.
        n_bins : int, default=10
            Number of bins.
        strategy : {"uniform", "quantile"}, default="uniform"
            Whether bins have equal widths, or equal numbers of entries.
        unknown : {"ignore", "absent"}, default="ignore"
            "ignore" uses known entries, "absent" counts unknown entries as negative.
        sample_weight : array-like, shape (n,) or (n, L), or None, default=None
            Weights of rows or entries.
        label_names : sequence of str or None, default=None
            Names of the labels; None takes those of `y`, else positions.
        name : str or None, default=None
            Name in the legend.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        ReliabilityDisplay
            The display.

        Raises
        ------
        ValueError
            If shapes or names differ, or a probability that counts is not in [0, 1].
        """
        known = KnownScores(y, probabilities, unknown, sample_weight, label_names)
        return cls._from_known(known, labels, n_bins, strategy, name, ax)

    @classmethod
    def _from_known(
        cls, known: KnownScores, labels: Any, n_bins: int, strategy: str, name: str | None, ax: Any
    ) -> Self:
        """Bin the entries, and draw."""
        check_whole(None, "n_bins", n_bins, 1)
        check_choice(None, "strategy", strategy, ("uniform", "quantile"))
        entries = [known.of_label(int(j)) for j in chosen_labels(known.names, labels)]
        present = np.concatenate([present for present, _, _ in entries])
        p = np.concatenate([scores for _, scores, _ in entries]).astype(np.float64)
        weights = np.concatenate([np.ones(len(s)) if w is None else w for _, s, w in entries])
        if not ((p >= 0) & (p <= 1)).all():
            raise ValueError("probabilities must be in [0, 1]: pass the result of predict_proba, not decisions.")
        if not weights.any():
            raise ValueError("These labels have no known entries.")
        inner = np.arange(1, n_bins) / n_bins
        edges = inner if strategy == "uniform" else np.quantile(p, inner)
        bins = np.searchsorted(edges, p, side="right")
        counts, sum_true, sum_pred = (
            np.asarray(np.bincount(bins, weights=w, minlength=n_bins), dtype=np.float64)
            for w in (weights, weights * present, weights * p)
        )
        some = counts > 0
        counts, prob_true, prob_pred = counts[some], sum_true[some] / counts[some], sum_pred[some] / counts[some]
        ece = float(np.average(np.abs(prob_true - prob_pred), weights=counts))
        return cls(prob_true, prob_pred, counts=counts, ece=ece, name=name).plot(ax=ax)

    def plot(self, ax: Any = None, **line_kw: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw, such as `ax_` of another display; None makes a new figure.
        **line_kw : dict
            Passed to matplotlib's `plot`.

        Returns
        -------
        self
            With `ax_`, `figure_` and `line_`.
        """
        self.figure_, self.ax_ = single_axes(self, ax)
        label = f"{'' if self.name is None else self.name + ', '}ECE {self.ece:.3f}"
        if not self.ax_.lines:
            self.ax_.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1, label="reliable")
        (self.line_,) = self.ax_.plot(self.prob_pred, self.prob_true, **{"marker": "o", "label": label, **line_kw})
        self.ax_.set(
            xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="mean probability", ylabel="proportion of entries present"
        )
        self.ax_.legend(loc="upper left")
        return self
