"""The strength of the penalty: the value of alpha="auto", and the choice among values by their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from torch import Tensor

from skpartial import heads, losses
from skpartial._rows import Rows
from skpartial._warnings import warn
from skpartial.features._base import Features
from skpartial.features._maps import MapFeatures
from skpartial.features._moments import uneven_columns, unit_scale
from skpartial.labels import LabelMatrix

__all__ = ["choose_alpha", "resolve_alpha", "scored_folds", "share_known", "warn_if_uneven"]

# What "auto" stands for where a network learns its own features.
_ALPHA_OF_NETWORKS = 1e-4
# Losses give their penalties for this many rows, and penalties are proportional to this power of the number of rows. On
# five data sets of 100 to 16,000 rows the best power is -0.75 to -1.2; weights with a normal prior would need -1.
_ROWS, _POWER_OF_ROWS = 1000, -0.75
# The first part of a stream does not tell how many rows will follow: at least this many are assumed.
_ROWS_OF_STREAM = 10_000


def resolve_alpha(
    alpha: Any, loss: losses.Loss, head: heads.Head, rows: Rows, *, whole_network: bool, incremental: bool = False
) -> float:
    """The strength of the penalty: the given number, or for "auto" a value that suits the loss, features and rows.

    Parameters
    ----------
    alpha : float or "auto"
        Checked.
    loss : Loss
        Its traits give the penalty for 1,000 rows, relative to the mean squared distance of the features from their
        mean.
    head : Head
        A nonlinear head sees features scaled to a root mean square of 1; its alpha refers to these.
    rows : Rows
        Their features are held by a solver.
    whole_network : bool
        Whether a network learns its own features, which may take any scale.
    incremental : bool, default=False
        Whether the rows are one part of a stream.

    Returns
    -------
    float
        At least 0.
    """
    if not isinstance(alpha, str):
        return float(alpha)
    if whole_network:
        return _ALPHA_OF_NETWORKS
    traits = loss.traits()
    n_rows = max(rows.n_counted, _ROWS_OF_STREAM) if incremental else rows.n_counted
    relative = traits.relative_alpha * (max(n_rows, 1.0) / _ROWS) ** _POWER_OF_ROWS
    if traits.alpha_exponent:
        relative *= share_known(rows.target.labels, rows.weights) ** traits.alpha_exponent
    if head.keeps_units:
        return relative * rows.spread.mean_squared_distance
    if incremental and not isinstance(rows.X, MapFeatures):
        # By all parts so far, as the units of the head are.
        scale = rows.spread.units(rows.X.dtype, centered=False).scale
    else:
        scale = unit_scale(rows.X, rows.row_weight)
    return relative * rows.spread.mean_squared_distance * scale**2


def warn_if_uneven(features: Features, row_weight: Tensor | None) -> None:
    """Warn if columns have such different units that one penalty cannot suit all of them."""
    found = uneven_columns(features, row_weight)
    if found is not None:
        largest, quartile = found
        warn(
            f"A quarter of the columns of X have standard deviations of at most {quartile:.3g}, and one has "
            f"{largest:.3g}. If columns have different units, scale X first, such as by "
            "make_pipeline(StandardScaler(), ...): the penalty (alpha) that suits wide columns leaves narrow ones "
            "without effect."
        )


def share_known(labels: LabelMatrix, weights: NDArray[Any] | None) -> float:
    """Share of the total weight that lies on known entries.

    Parameters
    ----------
    labels : LabelMatrix
        Of shape (n, L).
    weights : ndarray of shape (n,) or (n, L), or None
        Weights of rows or entries.

    Returns
    -------
    float
        Above 0; 1 if no known entry has a positive weight.
    """
    if weights is None:
        share = labels.n_known / max(1, labels.n_rows * labels.n_labels)
    elif weights.ndim == 1:
        share = float(weights @ labels.proportion_known(axis=1) / weights.sum())
    else:
        share = float(sp.csr_array(labels.values).astype(bool).multiply(weights).sum() / weights.sum())
    return share if share > 0 else 1.0


def scored_folds(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The folds on which all candidates have a score."""
    return np.asarray(np.isfinite(scores).all(axis=0))


def choose_alpha(alphas: NDArray[np.float64], scores: NDArray[np.float64], auto: float) -> int | None:
    r"""Choose, among the penalties that score about as well as the best, the one nearest to the value of "auto".

    With means over K folds, b the best and :math:`d_{ak} = s_{bk} - s_{ak}`, about as well means

    .. math:: \bar{d}_a \le \frac{1}{\sqrt{K}} \operatorname{sd}_k(d_{ak})

    This is the one-standard-error rule of classification and regression trees, applied to paired differences: variation
    common to all penalties cancels. If few entries are known the scores are noisy, and the choice stays near "auto".

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        Penalties.
    scores : ndarray of shape (n_alphas, n_folds)
        Higher is better; folds with a NaN are left out.
    auto : float
        The value of "auto"; distances are logarithmic.

    Returns
    -------
    int or None
        Index of the penalty; None if there is no fold. Ties go to the better mean score.

    References
    ----------
    L. Breiman, J. Friedman, R. Olshen, C. Stone, "Classification and Regression Trees", 1984, section 3.4.3.
    """
    scores = scores[:, scored_folds(scores)]
    n_folds = scores.shape[1]
    if not n_folds:
        return None
    means = scores.mean(axis=1)
    behind = scores[np.argmax(means)] - scores
    error = behind.std(axis=1, ddof=1) / np.sqrt(n_folds) if n_folds > 1 else np.zeros(len(alphas))
    with np.errstate(divide="ignore"):
        distance = np.abs(np.log10(alphas) - np.log10(auto)).round(6)
    distance[behind.mean(axis=1) > error] = np.inf
    return int(np.lexsort((-means, distance))[0])
