"""Shared parts of the displays: matplotlib on first use, axes, and scores of an estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_choice, check_whole
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import check_label_names, column_names, fitted_label_names, names_or_positions
from skpartial.metrics._encode import Truth, Unknown, as_scores

__all__ = ["KnownScores", "axes_grid", "chosen_labels", "pyplot", "response", "single_axes"]

PRESENT, ABSENT, UNKNOWN = "tab:blue", "tab:red", "0.9"


def pyplot(display: object) -> Any:
    """matplotlib.pyplot, or an error that says how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise ImportError(
            f'{type(display).__name__}.plot needs matplotlib: pip install matplotlib, or "skpartial[plots]".'
        ) from None
    return plt


def single_axes(display: object, ax: Any) -> tuple[Any, Any]:
    """The figure and the axes to draw on: the given ones, or new ones."""
    plt = pyplot(display)
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    return ax.figure, ax


def axes_grid(display: object, ax: Any, n_panels: int, n_columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """The figure and the axes of the panels, row by row: the given ones, or new ones of this size each."""
    plt = pyplot(display)
    if ax is not None:
        axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
        if len(axes) != n_panels:
            raise ValueError(f"ax must be an array of {n_panels} axes, one per panel, got {len(axes)}.")
        return axes[0].figure, axes
    n_columns = min(check_whole(None, "n_columns", n_columns, 1), n_panels)
    n_rows = -(-n_panels // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(size[0] * n_columns, size[1] * n_rows), squeeze=False, layout="constrained"
    )
    for spare in axes.ravel()[n_panels:]:
        spare.remove()
    return figure, axes.ravel()[:n_panels]


def response(estimator: Any, X: Any, method: str = "auto") -> NDArray[Any]:
    """Scores of a fitted classifier, (n, L): by the given method, or decisions, else probabilities."""
    check_choice(None, "response_method", method, ("auto", "decision_function", "predict_proba"))
    if method == "auto":
        method = "decision_function" if hasattr(estimator, "decision_function") else "predict_proba"
    scores = getattr(estimator, method)(X)
    if isinstance(scores, list) or np.ndim(scores) != 2:
        raise ValueError(
            f"{method} of {type(estimator).__name__} must return an array of shape (n, L): this display is for "
            "multi-label classifiers; for two classes use a display of scikit-learn, such as RocCurveDisplay."
        )
    return np.asarray(scores)


def chosen_labels(names: list[str], labels: Any) -> NDArray[np.int64]:
    """Positions of labels given by name or position; None for all."""
    if labels is None:
        return np.arange(len(names))
    single = isinstance(labels, str) or np.ndim(labels) == 0
    chosen = np.asarray([labels] if single else labels, dtype=object).tolist()
    if not chosen:
        raise ValueError("labels is empty: name at least one label, or pass None for all.")
    found = []
    for label in chosen:
        if isinstance(label, int | np.integer) and not isinstance(label, bool) and 0 <= label < len(names):
            found.append(int(label))
        elif isinstance(label, str) and label in names:
            found.append(names.index(label))
        else:
            raise ValueError(
                f"labels holds {label!r}, which is neither an index below {len(names)} nor one of label_names_."
            )
    return np.asarray(found, dtype=np.int64)


class KnownScores:
    """Labels and their scores, for a display of the entries that count.

    Parameters
    ----------
    y, scores, unknown, sample_weight
        As for the metrics.
    names : array-like of str or None, default=None
        Names of the labels; None takes those of `y`, else positions.
    """

    def __init__(self, y: Any, scores: Any, unknown: Unknown, sample_weight: Any = None, names: Any = None) -> None:
        self.truth = Truth(LabelMatrix.encode(y, name="y"), unknown, sample_weight)
        own = self.truth.labels.names
        self.scores = as_scores(scores, self.truth.shape, names=own)
        self.names = names_or_positions(own if names is None else names, self.truth.shape[1], "y")

    @classmethod
    def of(cls, estimator: Any, X: Any, y: Any, unknown: Unknown, sample_weight: Any, method: str) -> KnownScores:
        """Labels with the scores of a fitted estimator."""
        names = fitted_label_names(estimator)
        check_label_names(names, column_names(y), "y")
        return cls(y, response(estimator, X, method), unknown, sample_weight, names)

    def of_label(self, label: int) -> tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.float64] | None]:
        """For the entries of a label that count: mask of the positives, scores, and weights."""
        one = slice(label, label + 1)
        present, known = self.truth.of_labels(one)
        weights = self.truth.weights_of_labels(one)
        counted = np.ones(len(self.scores), dtype=bool) if known is None else known[0]
        if weights is not None:  # entries of weight 0 may have any score
            counted = counted & (weights[0] > 0)
        return present[0, counted], self.scores[counted, label], None if weights is None else weights[0, counted]
