"""Displays of training: its history, and the losses of true and false assumed negatives."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skpartial._sklearn_compat import callbacks_of
from skpartial.inspection._plotting import ABSENT, PRESENT, axes_grid, single_axes
from skpartial.labels import LabelMatrix

__all__ = ["HistoryDisplay", "LossTrace", "LossTraceDisplay"]

_NOT_DRAWN = ("epoch", "iteration", "seconds")


class HistoryDisplay:
    """The records in `history_`, one panel per quantity, by epoch (or step).

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    history : list of dict
        Records, one per epoch or step.
    quantities : list of str
        Keys of the records to draw.
    best_epoch : int or None, default=None
        The epoch chosen by validation, drawn as a dashed line.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The curve of each quantity.
    ax_ : ndarray of matplotlib Axes, shape (m,)
        The panels.
    figure_ : matplotlib Figure
        The figure.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.inspection import HistoryDisplay
    >>> scenes = make_digit_scenes(100, random_state=0)
    >>> display = HistoryDisplay.from_estimator(PartialLabelClassifier().fit(scenes.data, scenes.target))
    >>> display.quantities
    ['objective', 'relative_gap']
    """

    def __init__(self, history: list[dict[str, Any]], *, quantities: list[str], best_epoch: int | None = None) -> None:
        self.history, self.quantities, self.best_epoch = history, quantities, best_epoch

    @classmethod
    def from_estimator(cls, estimator: Any, *, quantities: Any = None, ax: Any = None) -> Self:
        """Draw the history of a fitted classifier.

        Parameters
        ----------
        estimator : estimator
            A fitted classifier of this package, or a pipeline or search of one.
        quantities : sequence of str, str or None, default=None
            Keys of the records, such as "loss" or "validation_score"; None for all numbers except epochs and seconds.
        ax : array of matplotlib Axes or None, default=None
            One per quantity; None makes a new figure.

        Returns
        -------
        HistoryDisplay
            The display.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the classifier is not fitted.
        ValueError
            If it has no history, or the history lacks a quantity.
        """
        check_is_fitted(estimator)
        fitted = _with_history(estimator)
        history = list(fitted.history_)
        numbers: dict[str, None] = {}
        for record in history:
            numbers |= dict.fromkeys(key for key, value in record.items() if isinstance(value, int | float | np.number))
        if quantities is None:
            chosen = [key for key in numbers if key not in _NOT_DRAWN]
        else:
            chosen = [quantities] if isinstance(quantities, str) else list(quantities)
        missing = [key for key in chosen if key not in numbers]
        if missing or not chosen:
            raise ValueError(
                f"history_ holds no {missing[0]!r}: it has {', '.join(numbers)}."
                if missing
                else "history_ holds no quantity to draw."
            )
        return cls(history, quantities=chosen, best_epoch=getattr(fitted, "best_epoch_", None)).plot(ax=ax)

    def values(self, quantity: str) -> NDArray[np.float64]:
        """The values of a quantity by record, NaN where it was not recorded.

        Parameters
        ----------
        quantity : str
            Key of the quantity.

        Returns
        -------
        ndarray of float64, shape (n_records,)
            The values.
        """
        return np.array([record.get(quantity, np.nan) for record in self.history], dtype=np.float64)

    def plot(self, ax: Any = None, *, n_columns: int = 3, **line_kw: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : array of matplotlib Axes or None, default=None
            One per quantity; None makes a new figure.
        n_columns : int, default=3
            Panels side by side in a new figure.
        **line_kw : dict
            Passed to matplotlib's `plot`.

        Returns
        -------
        self
            With `ax_`, `figure_` and `lines_`.
        """
        self.figure_, self.ax_ = axes_grid(self, ax, len(self.quantities), n_columns, (3.6, 2.8))
        across = np.arange(1, len(self.history) + 1)
        stages = [record.get("stage") for record in self.history]
        changes = [i for i in range(1, len(stages)) if stages[i] != stages[i - 1]]
        # With several stages, the best epoch is in the last one.
        best = None if self.best_epoch is None else self.best_epoch + (changes[-1] if changes else 0)
        self.lines_ = {}
        for axes, quantity in zip(self.ax_, self.quantities):
            style = {"marker": "." if len(across) < 50 else "", **line_kw}
            (self.lines_[quantity],) = axes.plot(across, self.values(quantity), **style)
            for change in changes:
                axes.axvline(change + 0.5, color="0.6", linestyle=":", linewidth=1)
            if best is not None:
                axes.axvline(best, color="0.4", linestyle="--", linewidth=1)
            axes.set(title=quantity.replace("_", " "), xlabel="epoch" if "iteration" not in self.history[0] else "step")
        return self


def _with_history(estimator: Any) -> Any:
    """The classifier with a history in an estimator: itself, the best one of a search or a pipeline's last step."""
    if hasattr(estimator, "history_"):
        return estimator
    for name in ("best_estimator_", "estimator_"):
        if hasattr(estimator, name):
            return _with_history(getattr(estimator, name))
    if hasattr(estimator, "steps"):
        return _with_history(estimator.steps[-1][1])
    raise ValueError(f"{type(estimator).__name__} has no history_: pass a fitted classifier of skpartial.")


class LossTrace:
    r"""Callback that records the losses of true and of false assumed negatives.

    It needs labels that training does not see, from a simulation or a second annotation. If unknown entries of `y` are
    assumed negative, the ones that are -1 in `y_true` are true negatives, and the ones that are 1 are false negatives.
    Set the callback with `set_callbacks`, fit, and draw it with :class:`LossTraceDisplay`.

    Parameters
    ----------
    X : array-like
        The training rows.
    y : array-like, DataFrame or sparse matrix, shape (n, L)
        The training labels.
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        True labels: 1 present, -1 absent; entries of 0 are left out.

    Attributes
    ----------
    true_negative_, false_negative_ : list of float
        Mean loss of assumed negatives, :math:`\log(1 + e^x)` of the logit x, after every epoch of the last fit.

    References
    ----------
    .. [1] Y. Kim, J. M. Kim, Z. Akata, J. Lee, "Large Loss Matters in Weakly Supervised Multi-Label Classification",
       CVPR 2022, figure 1.

    Examples
    --------
    >>> from skpartial import SinglePositiveClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.inspection import LossTrace, LossTraceDisplay
    >>> from skpartial.labels import keep_single_positive
    >>> from skpartial.solvers import Minibatch
    >>> scenes = make_digit_scenes(100, random_state=0)
    >>> Y = keep_single_positive(scenes.target)
    >>> trace = LossTrace(scenes.data, Y, scenes.target)
    >>> clf = SinglePositiveClassifier("an", solver=Minibatch(max_epochs=3)).set_callbacks(trace)
    >>> display = LossTraceDisplay.from_estimator(clf.fit(scenes.data, Y))
    >>> display.false_negative.shape
    (3,)
    """

    def __init__(self, X: Any, y: Any, y_true: Any) -> None:
        self.X, self.y, self.y_true = X, y, y_true

    def setup(self, estimator: Any, context: Any) -> None:
        """Before a fit: forget the previous fit, and find the true and false negatives.

        Parameters
        ----------
        estimator, context
            As in scikit-learn's callbacks.
        """
        self._masks = _negatives(self.y, self.y_true)
        self.true_negative_: list[float] = []
        self.false_negative_: list[float] = []

    def teardown(self, estimator: Any, context: Any) -> None:
        """After a fit: do nothing.

        Parameters
        ----------
        estimator, context
            As in scikit-learn's callbacks.
        """

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Before an epoch: do nothing.

        Parameters
        ----------
        estimator, context
            As in scikit-learn's callbacks.
        """

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> None:
        """After an epoch: record the losses.

        Parameters
        ----------
        estimator, context, fitted_estimator
            As in scikit-learn's callbacks.
        """
        if context.task_name == "epoch":
            true, false = _mean_losses(fitted_estimator.decision_function(self.X), self._masks)
            self.true_negative_.append(true)
            self.false_negative_.append(false)


def _negatives(y: Any, y_true: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the unknown entries that are truly negative, and truly positive."""
    labels, truth = LabelMatrix.encode(y), LabelMatrix.encode(y_true, name="y_true")
    if labels.shape != truth.shape:
        raise ValueError(f"y_true has shape {truth.shape}, but y has shape {labels.shape}.")
    whole = slice(None)
    unknown, known_better = labels.rows(whole) == 0, truth.rows(whole)
    true, false = unknown & (known_better == -1), unknown & (known_better == 1)
    if not true.any() or not false.any():
        raise ValueError("y_true must have both -1 and 1 among the unknown entries of y.")
    return true, false


def _mean_losses(logits: NDArray[Any], masks: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> tuple[float, float]:
    cost = np.logaddexp(0.0, np.asarray(logits, dtype=np.float64))
    return float(cost[masks[0]].mean()), float(cost[masks[1]].mean())


class LossTraceDisplay:
    """Losses of true and of false assumed negatives, by epoch.

    The losses of false negatives rise while the classifier learns, and fall once it memorises them.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    true_negative, false_negative : array-like of shape (n_epochs,)
        Mean losses.
    name : str or None, default=None
        Name in the legend.

    Attributes
    ----------
    true_line_, false_line_ : matplotlib Line2D
        The two curves.
    ax_, figure_ : matplotlib Axes and Figure
        The axes and the figure.

    See Also
    --------
    LossTrace : Records the losses.

    Examples
    --------
    >>> from skpartial.inspection import LossTraceDisplay
    >>> logits = [[[2.0, -1.0]], [[2.0, -3.0]]]                                       # two epochs of one row
    >>> display = LossTraceDisplay.from_predictions(logits, [[0, 0]], [[1, -1]])
    >>> display.false_negative.round(2), display.true_negative.round(2)
    (array([2.13, 2.13]), array([0.31, 0.05]))
    """

    def __init__(self, true_negative: Any, false_negative: Any, *, name: str | None = None) -> None:
        self.true_negative = np.asarray(true_negative, dtype=np.float64)
        self.false_negative = np.asarray(false_negative, dtype=np.float64)
        self.name = name

    @classmethod
    def from_estimator(cls, estimator: Any, *, name: str | None = None, ax: Any = None, **line_kw: Any) -> Self:
        """Draw the record of a :class:`LossTrace` that was set as a callback of a fitted classifier.

        Parameters
        ----------
        estimator : estimator
            A fitted classifier with a `LossTrace` among its callbacks.
        name, ax, **line_kw
            As in `plot`.

        Returns
        -------
        LossTraceDisplay
            The display.

        Raises
        ------
        ValueError
            If there is no such callback.
        """
        traces = [callback for callback in callbacks_of(estimator) if isinstance(callback, LossTrace)]
        if not traces or not getattr(traces[-1], "true_negative_", None):
            raise ValueError(
                "estimator has no LossTrace callback that recorded an epoch: call "
                "estimator.set_callbacks(LossTrace(X, y, y_true)) before fit."
            )
        return cls(traces[-1].true_negative_, traces[-1].false_negative_, name=name).plot(ax=ax, **line_kw)

    @classmethod
    def from_predictions(
        cls, logits: Any, y: Any, y_true: Any, *, name: str | None = None, ax: Any = None, **line_kw: Any
    ) -> Self:
        """Draw the losses from recorded logits.

        Parameters
        ----------
        logits : array-like, shape (n_epochs, n, L)
            Decisions on the training rows after every epoch.
        y, y_true : array-like, DataFrame or sparse matrix, shape (n, L)
            As in :class:`LossTrace`.
        name, ax, **line_kw
            As in `plot`.

        Returns
        -------
        LossTraceDisplay
            The display.

        Raises
        ------
        ValueError
            If shapes differ, or no unknown entry is truly negative, or none is truly positive.
        """
        masks = _negatives(y, y_true)
        logits = np.asarray(logits)
        if logits.ndim != 3 or logits.shape[1:] != masks[0].shape:
            raise ValueError(
                f"logits must have shape (n_epochs, {', '.join(map(str, masks[0].shape))}), got {logits.shape}."
            )
        true, false = zip(*(_mean_losses(epoch, masks) for epoch in logits))
        return cls(true, false, name=name).plot(ax=ax, **line_kw)

    def plot(self, ax: Any = None, **line_kw: Any) -> Self:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw, such as `ax_` of another display to compare with; None makes a new figure.
        **line_kw : dict
            Passed to matplotlib's `plot` for both curves, such as ``linestyle``.

        Returns
        -------
        self
            With `ax_`, `figure_`, `true_line_` and `false_line_`.
        """
        self.figure_, self.ax_ = single_axes(self, ax)
        epochs = np.arange(1, len(self.true_negative) + 1)
        suffix = "" if self.name is None else f", {self.name}"
        curves = (self.true_negative, ABSENT, "truly absent"), (self.false_negative, PRESENT, "truly present")
        self.true_line_, self.false_line_ = (
            self.ax_.plot(epochs, values, **{"color": colour, "label": what + suffix, **line_kw})[0]
            for values, colour, what in curves
        )
        self.ax_.set(xlabel="epoch", ylabel="mean loss of unknown entries, treated as absent", yscale="log")
        self.ax_.legend(fontsize="small")
        return self
