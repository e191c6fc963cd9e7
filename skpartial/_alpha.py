"""The penalty that stands for "auto"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skpartial import heads, losses
from skpartial.features._moments import unit_scale

if TYPE_CHECKING:
    from skpartial._task import Rows

__all__ = ["resolve_alpha"]

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
    relative = loss.traits().relative_alpha
    if head.keeps_units:
        return relative * rows.mean_squared_distance
    return relative * rows.mean_squared_distance * unit_scale(rows.X, rows.row_weight) ** 2
