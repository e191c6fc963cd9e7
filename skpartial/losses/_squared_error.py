"""The squared error in place of cross-entropy: its expansion about logits of zero, with a minimum in closed form."""

from __future__ import annotations

from torch import Tensor

__all__ = ["squared_error", "squared_error_gradient"]


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Squared error of every entry, without reduction.

    .. math::

        \ell(x, t) = \tfrac18 \left[ x - 2 (2 t - 1) \right]^2 = 2 \left[ \tfrac12 + \tfrac{x}{4} - t \right]^2

    Up to a constant that depends on the target alone, it is cross-entropy expanded to second order about x = 0: the
    sigmoid is replaced by its tangent there. Penalties mean about the same for both.

    Parameters
    ----------
    logits : Tensor of shape (n, L)
        Real scores x; an entry that is certainly present is drawn to 2, one that is certainly absent to -2.
    targets : Tensor of shape (n, L)
        Probabilities of presence t, in [0, 1].

    Returns
    -------
    Tensor of shape (n, L)
        A new tensor.
    """
    return (0.25 * logits).add_(0.5).sub_(targets).square_().mul_(2)


def squared_error_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Derivative of :func:`squared_error` in the logits, :math:`1/2 + x/4 - t`.

    Parameters
    ----------
    logits, targets : Tensor of shape (n, L)
        As in :func:`squared_error`.

    Returns
    -------
    Tensor of shape (n, L)
        A new tensor.
    """
    return (0.25 * logits).add_(0.5).sub_(targets)
