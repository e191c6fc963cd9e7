"""Which probability of being recorded says that a label is present, where only presences are recorded."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from skpartial._fit import FitPlan
from skpartial._task import features_options
from skpartial.features._choice import as_features
from skpartial.features._rows import take_rows
from skpartial.heads._module import rebuild_head
from skpartial.training._predict import predict_logits
from skpartial.training._problem import Solution

__all__ = ["recorded_threshold"]

# Rows that are held out, one in so many.
_HELD_OUT = 3
# The share of what recorded presences are given, from which on a label is called present. One half is where a label is
# as likely present as not; the F1 score, which most people look at, is best somewhat below.
_SHARE = 0.45


def recorded_threshold(plan: FitPlan, solution: Solution) -> float:
    r"""The probability of being recorded from which on a label is called present.

    If a presence is recorded with probability c, whatever the row, then the probability of being recorded is c times
    that of being present, and recorded presences are given c on average by a model that has not seen them: one that is
    trained on two thirds of the rows is asked about the others. All labels share c, so that rare ones do not depend on
    a handful of rows. Where a network is trained, which takes too long to be done again, its own rows are asked about.

    Parameters
    ----------
    plan : FitPlan
        What was fitted.
    solution : Solution
        What was found.

    Returns
    -------
    float
        In (0, 1); one half where no presence is recorded among the rows asked about.

    References
    ----------
    C. Elkan, K. Noto, "Learning Classifiers from Only Positive and Unlabeled Data", KDD 2008, section 2.
    """
    n_rows = plan.rows.target.labels.n_rows
    if plan.images is None and n_rows >= _HELD_OUT:
        # Always the same: a fit that draws nothing else shall have the same threshold without a seed.
        order = np.random.RandomState(0).permutation(n_rows)
        asked = np.sort(order[: n_rows // _HELD_OUT])
        logits = _held_out_logits(plan, np.sort(order[n_rows // _HELD_OUT :]), asked)
    else:
        asked = np.arange(n_rows)
        assert solution.predictor is not None
        logits = np.asarray(solution.predictor.logits(None))
    rows = plan.rows.take(asked) if plan.images is None else plan.rows
    present = np.asarray(rows.target.labels.toarray() == 1)
    weights = np.ones(len(present)) if rows.weights is None else rows.weights
    weights = np.broadcast_to(weights if weights.ndim == 2 else weights[:, None], present.shape)[present]
    if not weights.sum() > 0:
        return 0.5
    return float(_SHARE * np.average(expit(logits[present].astype(np.float64)), weights=weights))


def _held_out_logits(plan: FitPlan, fitted: NDArray[np.int64], asked: NDArray[np.int64]) -> NDArray[np.floating]:
    """Logits of some rows by the same fit on others."""
    stage, rows, estimator = plan.stages[-1], plan.rows.take(fitted), plan.estimator
    part = FitPlan.make(
        estimator,
        rows.rescaled(),
        seed=stage.problem.seed,
        solver=stage.solver,
        alpha=stage.problem.alpha,
        warns=False,
    )
    with warnings.catch_warnings():
        # Whatever there is to say was said of the fit itself.
        warnings.simplefilter("ignore")
        solution = part.solve(lambda record, parameters: False)
    head = rebuild_head(stage.problem.head, solution.head_context, solution.parameters)
    features = as_features(take_rows(plan.rows.X, asked), **features_options(estimator, plan.rows.X))
    head = head.to(device=features.device, dtype=features.dtype)
    return np.asarray(predict_logits(head, features).cpu().numpy())
