"""The squared error: the expansion of cross-entropy about logits of zero, with a minimum in closed form."""

from __future__ import annotations

from torch import Tensor

__all__ = ["squared_error", "squared_error_gradient"]


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    r"""Squared error of every entry, without reduction.

    .. math::

        \ell(x, t) = \tfrac18 \left[ x - 2 (2 t - 1) \right]^2 = 2 \left[ \tfrac12 + \tfrac{x}{4} - t \right]^2

    Up to a constant that depends only on the target, this is cross-entropy expanded to second order about x = 0, where
    the tangent replaces the sigmoid. A penalty has about the same effect with both.

    Parameters
    ----------
    logits : Tensor of shape (n, L)
        Real scores x; an entry with target 1 is drawn to 2, one with target 0 to -2.
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
