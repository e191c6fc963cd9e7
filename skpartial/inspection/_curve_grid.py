"""Precision-recall and ROC curves per label, over known entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve
from typing_extensions import override

from skpartial.inspection._plotting import KnownScores, axes_grid, chosen_labels
from skpartial.metrics import average_precision_per_label, roc_auc_per_label
from skpartial.metrics._encode import Unknown

__all__ = ["PrecisionRecallGridDisplay", "ROCGridDisplay"]

_MAX_PANELS = 20


class _CurveGridDisplay(ABC):
    """One panel with a curve per label."""

    _axes: ClassVar[tuple[str, str]]
    _score_name: ClassVar[str]

    label_names: list[str]

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        labels: Any = None,
        unknown: Unknown = "ignore",
        sample_weight: Any = None,
        response_method: str = "auto",
        ax: Any = None,
    ) -> Self:
        """Draw the curves of a fitted classifier.

        Parameters
        ----------
        estimator : estimator
            A fitted multi-label classifier, or a pipeline or search of one.
        X : array-like, shape (n, d)
            Rows to predict.
        y, labels, unknown, sample_weight, ax
            As in `from_predictions`.
        response_method : {"auto", "decision_function", "predict_proba"}, default="auto"
            Method for the scores; "auto" takes decisions if available.

        Returns
        -------
        display
            The display.
        """
        known = KnownScores.of(estimator, X, y, unknown, sample_weight, response_method)
        return cls._from_known(known, labels).plot(ax=ax)

    @classmethod
    def from_predictions(
        cls,
        y: Any,
        scores: Any,
        *,
        labels: Any = None,
        unknown: Unknown = "ignore",
        sample_weight: Any = None,
        label_names: Any = None,
        ax: Any = None,
    ) -> Self:
        """Draw the curves of scores.

        Parameters
        ----------
        y : array-like, DataFrame or sparse matrix, shape (n, L)
            Labels: 1 present, -1 absent, 0 unknown.
        scores : array-like, shape (n, L)
            Probabilities or decisions, higher for positives.
        labels : sequence of int or str, int, str or None, default=None
            Which labels, by position or name. None takes all labels that can be scored, but of more than 20 only the 20
            with the most positives.
        unknown : {"ignore", "absent"}, default="ignore"
            "ignore" uses the known entries, "absent" counts unknown entries as negative.
        sample_weight : array-like, shape (n,) or (n, L), or None, default=None
            Weights of rows or entries.
        label_names : sequence of str or None, default=None
            Names of the labels; None takes those of `y`, else positions.
        ax : array of matplotlib Axes or None, default=None
            One per label; None makes a new figure.

        Returns
        -------
        display
            The display.

        Raises
        ------
        ValueError
            If shapes or names differ, a requested label cannot be scored, or no label can be.
        """
        return cls._from_known(KnownScores(y, scores, unknown, sample_weight, label_names), labels).plot(ax=ax)

    @classmethod
    def _from_known(cls, known: KnownScores, labels: Any) -> Self:
        values = cls._values(known)
        scored = ~np.isnan(values)
        n_present = known.truth.labels.count(1, axis=0)
        if labels is None:
            chosen = np.flatnonzero(scored)
            if len(chosen) == 0:
                raise ValueError("No label can be drawn: a label needs positives and negatives that count.")
            chosen = np.sort(chosen[np.argsort(-n_present[chosen], kind="stable")[:_MAX_PANELS]])
        else:
            chosen = chosen_labels(known.names, labels)
            if not scored[chosen].all():
                name = known.names[int(chosen[~scored[chosen]][0])]
                raise ValueError(f"Label {name!r} cannot be drawn: it needs positives and negatives that count.")
        return cls._of_labels(
            [known.names[j] for j in chosen], values[chosen], [known.of_label(int(j)) for j in chosen]
        )

    @classmethod
    @abstractmethod
    def _values(cls, known: KnownScores) -> NDArray[np.float64]:
        """The value in the title of each label, NaN if it cannot be scored."""

    @classmethod
    @abstractmethod
    def _of_labels(cls, names: list[str], values: NDArray[np.float64], entries: list[tuple[Any, Any, Any]]) -> Self:
        """The display for the entries of labels."""

    @abstractmethod
    def _curve(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The x and y values of a label's curve."""

    @abstractmethod
    def _chance(self, i: int) -> tuple[list[float], list[float]]:
        """The curve of a random classifier."""

    def plot(self, ax: Any = None, *, n_columns: int = 4, **line_kw: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : array of matplotlib Axes or None, default=None
            One per label, such as `ax_` of another display to compare with; None makes a new figure.
        n_columns : int, default=4
            Number of panels side by side in a new figure.
        **line_kw : dict
            Passed to matplotlib's `plot` for the curves, such as ``label`` or ``color``.

        Returns
        -------
        self
            With `ax_`, `figure_`, `lines_` and `chance_lines_`.
        """
        again = ax is not None
        self.figure_, self.ax_ = axes_grid(self, ax, len(self.label_names), n_columns, (2.4, 2.4))
        values = getattr(self, self._score_name.replace(" ", "_"))
        self.lines_, self.chance_lines_ = [], []
        style = {"drawstyle": "steps-post"} if self._axes == ("recall", "precision") else {}
        for i, axes in enumerate(self.ax_):
            (line,) = axes.plot(*self._curve(i), **{**style, **line_kw})
            (chance,) = axes.plot(*self._chance(i), color="0.6", linestyle=":", linewidth=1)
            self.lines_.append(line)
            self.chance_lines_.append(chance)
            title = f"{self.label_names[i]}  {values[i]:.2f}"
            earlier = axes.get_title()
            axes.set_title(f"{earlier}, {values[i]:.2f}" if again and earlier else title, fontsize="medium")
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        self.figure_.supxlabel(self._axes[0])
        self.figure_.supylabel(self._axes[1])
        return self


class PrecisionRecallGridDisplay(_CurveGridDisplay):
    """Precision-recall curves over known entries, one panel per label.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    precision, recall : list of ndarray
        The curve of each label, as from :func:`sklearn.metrics.precision_recall_curve`.
    average_precision : ndarray of float64, shape (m,)
        Values in the titles.
    prevalence : ndarray of float64, shape (m,)
        Proportion of positives among the entries that count: the precision of random scores, drawn dotted.
    label_names : list of str
        Names of the m labels.

    Attributes
    ----------
    lines_, chance_lines_ : list of matplotlib Line2D
        The curves, and the dotted lines.
    ax_ : ndarray of matplotlib Axes, shape (m,)
        The panels.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    ROCGridDisplay : ROC curves.
    skpartial.metrics.label_report : The same as numbers.

    Examples
    --------
    >>> from skpartial.inspection import PrecisionRecallGridDisplay
    >>> y = [[1, -1, 0], [-1, 1, 1], [1, 1, 0], [0, -1, 1]]
    >>> scores = [[0.9, 0.4, 0.1], [0.6, 0.3, 0.8], [0.4, 0.8, 0.2], [0.8, 0.1, 0.7]]
    >>> display = PrecisionRecallGridDisplay.from_predictions(y, scores, label_names=["cat", "dog", "bird"])
    >>> display.label_names
    ['cat', 'dog']
    """

    _axes = ("recall", "precision")
    _score_name = "average precision"

    def __init__(
        self,
        precision: list[NDArray[np.float64]],
        recall: list[NDArray[np.float64]],
        *,
        average_precision: NDArray[np.float64],
        prevalence: NDArray[np.float64],
        label_names: list[str],
    ) -> None:
        self.precision, self.recall = precision, recall
        self.average_precision, self.prevalence, self.label_names = average_precision, prevalence, label_names

    @override
    @classmethod
    def _values(cls, known: KnownScores) -> NDArray[np.float64]:
        truth = known.truth
        return average_precision_per_label(truth.labels, known.scores, truth.unknown, sample_weight=truth.weights)

    @override
    @classmethod
    def _of_labels(cls, names: list[str], values: NDArray[np.float64], entries: list[tuple[Any, Any, Any]]) -> Self:
        curves = [precision_recall_curve(present, scores, sample_weight=w) for present, scores, w in entries]
        prevalence = np.array([np.average(present, weights=w) for present, _, w in entries])
        precision, recall = [curve[0] for curve in curves], [curve[1] for curve in curves]
        return cls(precision, recall, average_precision=values, prevalence=prevalence, label_names=names)

    @override
    def _curve(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.recall[i], self.precision[i]

    @override
    def _chance(self, i: int) -> tuple[list[float], list[float]]:
        return [0.0, 1.0], [float(self.prevalence[i])] * 2


class ROCGridDisplay(_CurveGridDisplay):
    """ROC curves over known entries, one panel per label.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    fpr, tpr : list of ndarray
        False and true positive rates of each label, as from :func:`sklearn.metrics.roc_curve`.
    roc_auc : ndarray of float64, shape (m,)
        Values in the titles.
    label_names : list of str
        Names of the m labels.

    Attributes
    ----------
    lines_, chance_lines_ : list of matplotlib Line2D
        The curves, and the dotted diagonals.
    ax_ : ndarray of matplotlib Axes, shape (m,)
        The panels.
    figure_ : matplotlib Figure
        The figure.

    See Also
    --------
    PrecisionRecallGridDisplay : Precision-recall curves, which are more informative about rare labels.

    Examples
    --------
    >>> from skpartial.inspection import ROCGridDisplay
    >>> display = ROCGridDisplay.from_predictions([[1, -1], [-1, 1], [1, 1], [0, -1]],
    ...                                           [[0.9, 0.4], [0.6, 0.3], [0.4, 0.8], [0.8, 0.3]])
    >>> display.roc_auc
    array([0.5  , 0.625])
    """

    _axes = ("false positive rate", "true positive rate")
    _score_name = "roc auc"

    def __init__(
        self,
        fpr: list[NDArray[np.float64]],
        tpr: list[NDArray[np.float64]],
        *,
        roc_auc: NDArray[np.float64],
        label_names: list[str],
    ) -> None:
        self.fpr, self.tpr, self.roc_auc, self.label_names = fpr, tpr, roc_auc, label_names

    @override
    @classmethod
    def _values(cls, known: KnownScores) -> NDArray[np.float64]:
        truth = known.truth
        return roc_auc_per_label(truth.labels, known.scores, truth.unknown, sample_weight=truth.weights)

    @override
    @classmethod
    def _of_labels(cls, names: list[str], values: NDArray[np.float64], entries: list[tuple[Any, Any, Any]]) -> Self:
        curves = [roc_curve(present, scores, sample_weight=weights) for present, scores, weights in entries]
        return cls([curve[0] for curve in curves], [curve[1] for curve in curves], roc_auc=values, label_names=names)

    @override
    def _curve(self, i: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return self.fpr[i], self.tpr[i]

    @override
    def _chance(self, i: int) -> tuple[list[float], list[float]]:
        return [0.0, 1.0], [0.0, 1.0]
