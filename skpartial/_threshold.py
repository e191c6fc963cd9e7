"""The threshold of probabilities of being recorded, for data with recorded positives only."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.utils import gen_batches

from skpartial._fit import FitPlan
from skpartial._rows import Rows
from skpartial._state import Predictor
from skpartial._task import features_options, split_rows
from skpartial.features._choice import as_features
from skpartial.heads._module import rebuild_head
from skpartial.training._predict import HeadPredictor
from skpartial.training._problem import Solution

__all__ = ["logits_of_strangers", "recorded_mean", "recorded_threshold", "threshold_of"]

# Share of the rows that is held out, and how many rows there have to be.
_HELD_OUT, _LEAST_ROWS = 1 / 3, 3
# Entries whose logits are held at a time: with many labels, those of all rows may not fit in memory.
_ASKED_ENTRIES = 1 << 24
# Number of folds; each is predicted by a model of the others.
_FOLDS = 3
# A label is predicted from this share of the mean probability of recorded positives. At one half a label is as likely
# present as not; the F1 score, which most people look at, is best somewhat below.
_SHARE = 0.45


def recorded_threshold(plan: FitPlan, solution: Solution) -> NDArray[np.float64]:
    r"""The smallest fitted probability at which a label is predicted.

    Suppose that a positive is recorded with probability c, whatever the row. Then the probability of being recorded is
    c times that of being present, and a model gives recorded positives that it has not seen the probability c on
    average. So a model is trained on two thirds of the rows and predicts the others. All labels share c, so that rare
    ones do not depend on a handful of rows. Training a network twice would take too long: it predicts its own rows.

    Fitted probabilities p differ from those of being recorded, r, by class weights, of ratio w of positives to
    negatives, and by label smoothing, which gives entries that are never and always recorded the probabilities a and b:

    .. math:: p = \frac{w b r + a (1 - r)}{w r + 1 - r}, \quad r = \frac{p - a}{w b - a - (w - 1) p}

    The threshold is the p of 0.45 times the mean r of recorded positives.

    Parameters
    ----------
    plan : FitPlan
        The fit; its loss has the trait `recorded`.
    solution : Solution
        Its result.

    Returns
    -------
    ndarray of float64, shape () or (L,)
        In (0, 1); of shape (L,) with class weights. One half if no positive is recorded among the predicted rows.

    References
    ----------
    C. Elkan, K. Noto, "Learning Classifiers from Only Positive and Unlabeled Data", KDD 2008, section 2.
    """
    n_rows = plan.rows.target.labels.n_rows
    if plan.images is None and n_rows >= _LEAST_ROWS:
        # A fixed split: a fit without other random draws has the same threshold without a seed.
        fitted, held_out = split_rows(n_rows, _HELD_OUT, np.random.RandomState(0))
        if _has_weight(plan.rows, fitted):
            asked = plan.rows.take(held_out)
            predictor = _fit_on_others(plan, plan.rows.take(fitted).rescaled(), asked.X)
            return threshold_of(recorded_mean(plan, asked, predictor), plan)
    return threshold_of(recorded_mean(plan, plan.rows, _own_predictor(solution)), plan)


def _has_weight(rows: Rows, chosen: NDArray[np.int64]) -> bool:
    """Whether some of the chosen rows count, so that they can be fitted."""
    return rows.weights is None or bool(rows.weights[chosen].any())


def recorded_mean(plan: FitPlan, asked: Rows, predictor: Predictor) -> tuple[float, float]:
    """Sum of the predicted probabilities of recorded positives of some rows, and the sum of their weights.

    They are those of being recorded, as in `recorded_threshold`.
    """
    labels, weights = asked.target.labels, _entry_weights(asked)
    never, always, ratio = _of_recorded(plan)
    total = weight = 0.0
    for rows in gen_batches(labels.n_rows, max(1, _ASKED_ENTRIES // labels.n_labels)):
        present = labels.rows(rows) == 1
        logits = predictor.logits(torch.arange(rows.start, rows.stop)).cpu().numpy().astype(np.float64)
        p = expit(logits).clip(never, always)
        probabilities = (p - never) / (ratio * always - never - (ratio - 1) * p)
        counts = weights[rows][present]
        total += float(probabilities[present] @ counts)
        weight += float(counts.sum())
    return total, weight


def threshold_of(recorded: tuple[float, float], plan: FitPlan) -> NDArray[np.float64]:
    """The threshold for the result of `recorded_mean`, shape () or (L,)."""
    total, weight = recorded
    if weight == 0:
        return np.array(0.5)
    never, always, ratio = _of_recorded(plan)
    r = _SHARE * total / weight
    return np.asarray((ratio * always * r + never * (1 - r)) / (ratio * r + 1 - r))


def _of_recorded(plan: FitPlan) -> tuple[float, float, NDArray[np.float64]]:
    """Fitted probabilities of entries that are never and always recorded, and ratios of class weights, () or (L,)."""
    problem = plan.stages[-1].problem
    recorded = problem.loss.traits().recorded
    assert recorded is not None
    if problem.weights.by_class is None:
        return *recorded, np.ones(())
    negative, _, positive = problem.weights.by_class.cpu().numpy().astype(np.float64).T
    both = (negative > 0) & (positive > 0)
    return *recorded, np.where(both, positive, 1.0) / np.where(both, negative, 1.0)


def _own_predictor(solution: Solution) -> Predictor:
    """Predictions for the rows of the fit, by the fit itself."""
    assert solution.predictor is not None
    return solution.predictor


def _all_logits(predictor: Predictor) -> NDArray[np.float64]:
    return np.asarray(predictor.logits(None).cpu(), dtype=np.float64)


def logits_of_strangers(
    plan: FitPlan, solution: Solution
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Logits of all rows by models that have not seen them, for threshold rules.

    Each third of the rows is predicted by a fit on the others. If a network is trained, there are too few rows, or the
    others all have weight 0, the fit itself predicts all of them.

    Parameters
    ----------
    plan : FitPlan
        The fit.
    solution : Solution
        Its result.

    Returns
    -------
    logits : ndarray of float64, shape (n, L)
        Before any shift.
    recorded : ndarray of bool, shape (n, L)
        Whether a positive is recorded.
    weights : ndarray of float64, shape (n, L)
        Of the entries.
    """
    recorded, weights = plan.rows.target.labels.toarray() == 1, _entry_weights(plan.rows)
    # Always the same, as above.
    order = np.random.RandomState(0).permutation(len(recorded))
    folds = [(asked, np.setdiff1d(order, asked)) for asked in np.array_split(order, _FOLDS)]
    alone = plan.images is not None or len(recorded) < _LEAST_ROWS
    if alone or not all(_has_weight(plan.rows, fitted) for _, fitted in folds):
        return _all_logits(_own_predictor(solution)), recorded, weights
    logits = np.empty(recorded.shape)
    for asked, fitted in folds:
        others = plan.rows.take(fitted).rescaled()
        logits[asked] = _all_logits(_fit_on_others(plan, others, plan.rows.take(asked).X))
    return logits, recorded, weights


def _entry_weights(rows: Rows) -> NDArray[np.float64]:
    """What the entries of some rows count for, shape (n, L)."""
    shape = rows.target.labels.shape
    weights = np.ones(1) if rows.weights is None else np.asarray(rows.weights, dtype=np.float64)
    return np.broadcast_to(weights if weights.ndim == 2 else weights[:, None], shape)


def _fit_on_others(plan: FitPlan, fitted: Rows, X: Any) -> Predictor:
    """Predictions for rows X by the same fit on other rows."""
    stage, estimator = plan.stages[-1], plan.estimator
    part = FitPlan.make(
        estimator, fitted, seed=stage.problem.seed, solver=stage.solver, alpha=stage.problem.alpha, warns=False
    )
    with warnings.catch_warnings():
        # The fit itself has given the warnings.
        warnings.simplefilter("ignore")
        solution = part.solve(lambda record, parameters: False)
    features = as_features(X, **features_options(estimator, X))
    head = rebuild_head(stage.problem.head, solution.head_context, solution.parameters)
    return HeadPredictor(head.to(device=features.device, dtype=features.dtype), features)
