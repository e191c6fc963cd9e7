"""The linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from typing_extensions import override

from skpartial._checks import check_number
from skpartial.heads._base import Head, HeadContext
from skpartial.heads._module import AffineInput

__all__ = ["Linear", "LinearModule", "dropout_variance"]


class LinearModule(AffineInput):
    """Affine map that also accepts sparse COO batches.

    Parameters
    ----------
    n_features, n_labels : int
        Width of the features and number of labels.
    dropout : float, default=0.0
        Share of the features of a row that are dropped in training.
    """

    def __init__(self, n_features: int, n_labels: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout) if dropout > 0 else None
        # Start at zero: for most losses the problem is convex in the weights, so a random start would only add noise.
        self.weight = nn.Parameter(torch.zeros(n_labels, n_features))
        self.bias = nn.Parameter(torch.zeros(n_labels))

    @property
    def input_weights(self) -> list[Tensor]:
        return [self.weight]

    @property
    def intercepts(self) -> list[Tensor]:
        return [self.bias]

    @property
    def mean_weight(self) -> Tensor:
        """Weights (L, d) of the logits that `forward` returns."""
        return self.weight

    @torch.no_grad()
    def set_prior(self, prior: Tensor) -> None:
        self.bias.copy_(prior)

    def fix(self, labels: Tensor, prior: Tensor) -> None:
        """Do nothing: labels of a linear head share no parameters, so `settle` can fix them at the end."""

    @torch.no_grad()
    def settle(self, labels: Tensor, prior: Tensor) -> None:
        self.weight[labels] = 0
        self.bias[labels] = prior[labels].to(self.bias.dtype)

    def arrays(self) -> dict[str, NDArray[Any]]:
        found = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        found["weight"] *= found["weight"].dtype.type(self.input_scale)
        found["bias"] -= self.shift(found["weight"])
        return found

    @torch.no_grad()
    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.load_state_dict({name: torch.as_tensor(value) for name, value in arrays.items()})
        self.bias.add_(torch.as_tensor(self.shift(np.asarray(arrays["weight"]))).to(self.bias))
        self.weight.div_(self.input_scale)

    def _dropped(self, features: Tensor) -> Tensor:
        """Features after dropout."""
        if self.dropout is None:
            return features
        if not features.is_sparse:
            dropped: Tensor = self.dropout(features)
            return dropped
        features = features.coalesce()
        # Zeros stay zero.
        indices, values = features.indices(), self.dropout(features.values())
        return torch.sparse_coo_tensor(indices, values, features.shape, is_coalesced=True, check_invariants=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch."""
        return self.affine(self._dropped(features), self.weight, self.bias)

    def affine(self, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The affine map of a batch by some weights and intercepts, in the units of the head."""
        if features.is_sparse:
            return torch.add(bias, self.product(features, weight), alpha=self.input_scale)
        return torch.addmm(bias, self.centered(features), weight.T, alpha=self.input_scale)


class Linear(Head):
    r"""Logits as an affine map of the features, :math:`x = W f + b`, started at zero.

    The parameters of the module are `weight` (L, d) and `bias` (L,).

    Parameters
    ----------
    dropout : float, default=0.0
        Share of the features of each row, in [0, 1), that are dropped in training, drawn anew in every step; the others
        are divided by 1 - dropout. Predictions use all features. Above 0, dropout needs ``solver=Minibatch()``.

    Examples
    --------
    >>> from skpartial.heads import HeadContext, Linear
    >>> sum(p.numel() for p in Linear().build(HeadContext(n_features=4, n_labels=3)).parameters())
    15
    """

    keeps_units = True

    def __init__(self, dropout: float = 0.0) -> None:
        self.dropout = dropout

    @property
    def draws(self) -> bool:  # type: ignore[override]  # of a value object
        """Whether the head draws from PyTorch's global generator."""
        return self.dropout > 0

    @override
    def build(self, context: HeadContext) -> nn.Module:
        rate = check_number(self, "dropout", self.dropout, "[0, 1)")
        return LinearModule(context.n_features, context.n_labels, rate)


def dropout_variance(features: Tensor, weight: Tensor, rate: float) -> Tensor:
    r"""Exact variance of the logits of a linear head under dropout of the inputs.

    .. math::

        \mathrm{Var}(x_{ij}) = \frac{r}{1 - r} \sum_k (w_{jk} f_{ik})^2

    Parameters
    ----------
    features : Tensor of shape (b, d)
        Rows, dense or sparse COO.
    weight : Tensor of shape (L, d)
        Weights of the labels.
    rate : float
        Share r of dropped inputs, in [0, 1).

    Returns
    -------
    Tensor of shape (b, L)
        In squared logits.
    """
    squares = weight.square().T * (rate / (1 - rate))
    if features.is_sparse:
        return torch.sparse.mm((features * features).coalesce(), squares)
    return features.square() @ squares
