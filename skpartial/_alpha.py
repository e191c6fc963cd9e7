"""The penalty that stands for "auto"."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial import heads, losses
from skpartial._rows import Rows
from skpartial.features._moments import unit_scale
from skpartial.labels import LabelMatrix

__all__ = ["resolve_alpha", "share_known"]

# What "auto" stands for where a network learns its own features.
_ALPHA_OF_NETWORKS = 1e-4
# The number of rows for which losses name their strengths, and the power of it with which the best penalties fall:
# between 100 and 16,000 rows of five data sets, by about 0.75 to 1.2, and by 1 if weights have a normal prior.
_ROWS, _POWER_OF_ROWS = 1000, -0.75
# A part of a stream does not tell how many rows are yet to come: so many at least.
_ROWS_OF_STREAM = 10_000


def resolve_alpha(
    alpha: Any, loss: losses.Loss, head: heads.Head, rows: Rows, *, whole_network: bool, incremental: bool = False
) -> float:
    """The strength of the penalty: the number that was given, or for "auto" what suits loss, features and rows.

    Parameters
    ----------
    alpha : float or "auto"
        Checked.
    loss : Loss
        Says which strength suits it for 1,000 rows, relative to the mean squared distance of the features from their
        mean.
    head : Head
        One that is not linear sees features scaled to a root mean square of 1, for which its alpha is meant.
    rows : Rows
        With features as a solver holds them.
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
        return relative * rows.mean_squared_distance
    return relative * rows.mean_squared_distance * unit_scale(rows.X, rows.row_weight) ** 2


def share_known(labels: LabelMatrix, weights: NDArray[Any] | None) -> float:
    """Of the weight of all entries the part that lies on known ones.

    Parameters
    ----------
    labels : LabelMatrix
        Of shape (n, L).
    weights : ndarray of shape (n,) or (n, L), or None
        Of rows or entries.

    Returns
    -------
    float
        Above 0; 1 where nothing that is known weighs anything.
    """
    if weights is None:
        share = labels.n_known / max(1, labels.n_rows * labels.n_labels)
    elif weights.ndim == 1:
        share = float(weights @ labels.proportion_known(axis=1) / weights.sum())
    else:
        share = float(sp.csr_array(labels.values).astype(bool).multiply(weights).sum() / weights.sum())
    return share if share > 0 else 1.0
