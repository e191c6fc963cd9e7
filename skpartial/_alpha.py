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


def resolve_alpha(alpha: Any, loss: losses.Loss, head: heads.Head, rows: Rows, *, whole_network: bool) -> float:
    """The strength of the penalty: the number that was given, or for "auto" what suits loss and features.

    Parameters
    ----------
    alpha : float or "auto"
        Checked.
    loss : Loss
        Says which strength suits it, relative to the mean squared distance of the features from their mean.
    head : Head
        One that is not linear sees features scaled to a root mean square of 1, for which its alpha is meant.
    rows : Rows
        With features as a solver holds them.
    whole_network : bool
        Whether a network learns its own features, which may take any scale.

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
    relative = traits.relative_alpha
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
