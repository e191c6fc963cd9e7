"""The linear head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from skpartial.heads._base import Head

__all__ = ["Linear", "LinearModule"]


class LinearModule(nn.Module):
    """Affine map that also takes sparse COO batches.

    Parameters
    ----------
    n_features, n_labels : int
        Width of the features and number of labels.

    Attributes
    ----------
    input_scale : float
        The features are multiplied by this number on their way in, at no cost.
    """

    input_scale: float = 1.0

    def __init__(self, n_features: int, n_labels: int) -> None:
        super().__init__()
        # From zero: the linear problem is convex in the weights for most losses, so a random start adds noise only.
        self.weight = nn.Parameter(torch.zeros(n_labels, n_features))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch."""
        if features.is_sparse:
            return torch.sparse.mm(features, self.weight.T) * self.input_scale + self.bias
        return torch.addmm(self.bias, features, self.weight.T, alpha=self.input_scale)


class Linear(Head):
    r"""Logits as an affine map of the features, :math:`x = W f + b`, started at zero.

    The parameters of the module are `weight` (L, d) and `bias` (L,).

    Examples
    --------
    >>> from skpartial.heads import Linear
    >>> sum(p.numel() for p in Linear().build(n_features=4, n_labels=3).parameters())
    15
    """

    @override
    def build(self, n_features: int, n_labels: int) -> nn.Module:
        return LinearModule(n_features, n_labels)
