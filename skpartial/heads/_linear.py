"""The linear head."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from skpartial.heads._base import Head, HeadContext
from skpartial.heads._module import HeadModule

__all__ = ["Linear", "LinearModule"]


class LinearModule(HeadModule):
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

    @property
    def inner(self) -> nn.Module:
        return self

    @property
    def scale(self) -> float:
        return self.input_scale

    @property
    def penalty_scale(self) -> float:
        # Weights for features as they were passed are these times the scale.
        return self.input_scale**2

    def set_scale(self, scale: float) -> None:
        self.input_scale = scale

    @torch.no_grad()
    def set_prior(self, prior: Tensor) -> None:
        self.bias.copy_(prior)

    def fix(self, labels: Tensor, prior: Tensor) -> None:
        """Nothing yet: labels of a linear head share nothing, so that this can wait for the end."""

    @torch.no_grad()
    def settle(self, labels: Tensor, prior: Tensor) -> None:
        self.weight[labels] = 0
        self.bias[labels] = prior[labels].to(self.bias.dtype)

    def arrays(self) -> dict[str, NDArray[Any]]:
        found = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        found["weight"] *= found["weight"].dtype.type(self.input_scale)
        return found

    @torch.no_grad()
    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.load_state_dict({name: torch.as_tensor(value) for name, value in arrays.items()})
        self.weight.div_(self.input_scale)

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
    >>> from skpartial.heads import HeadContext, Linear
    >>> sum(p.numel() for p in Linear().build(HeadContext(n_features=4, n_labels=3)).parameters())
    15
    """

    draws = False
    keeps_units = True

    @override
    def build(self, context: HeadContext) -> nn.Module:
        return LinearModule(context.n_features, context.n_labels)
