"""The surrogate of almost every loss: cross-entropy between logits and soft targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["cross_entropy", "cross_entropy_gradient"]


def cross_entropy(logits: Tensor, targets: Tensor, eps: float = 0.0) -> Tensor:
    r"""Cross-entropy of every entry, without reduction.

    .. math::

        \ell(x, t) = -t \log(\sigma(x) + \epsilon) - (1 - t) \log(\sigma(-x) + \epsilon)

    Parameters
    ----------
    logits : Tensor of shape (n, L)
        Real scores x.
    targets : Tensor of shape (n, L)
        Probabilities of presence t, in [0, 1].
    eps : float, default=0.0
        The constant inside the logarithm. At 0 the stable form in logits is used, exact up to 1e4 and beyond.

    Returns
    -------
    Tensor of shape (n, L)
        Differentiable in both arguments.
    """
    if eps == 0:
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    present, absent = torch.sigmoid(logits), torch.sigmoid(-logits)
    return -(targets * torch.log(present + eps) + (1 - targets) * torch.log(absent + eps))


def cross_entropy_gradient(logits: Tensor, targets: Tensor, eps: float = 0.0) -> Tensor:
    r"""Derivative of :func:`cross_entropy` in the logits.

    .. math::

        \frac{\partial \ell}{\partial x} = p (1 - p) \left[ \frac{1 - t}{1 - p + \epsilon} -
        \frac{t}{p + \epsilon} \right], \quad p = \sigma(x)

    which is :math:`p - t` at :math:`\epsilon = 0`.

    Parameters
    ----------
    logits, targets : Tensor of shape (n, L)
        As in :func:`cross_entropy`.
    eps : float, default=0.0
        The constant inside the logarithm.

    Returns
    -------
    Tensor of shape (n, L)
        A new tensor.
    """
    present = torch.sigmoid(logits)
    if eps == 0:
        return present.sub_(targets)
    absent = torch.sigmoid(-logits)
    return present * absent * ((1 - targets) / (absent + eps) - targets / (present + eps))
