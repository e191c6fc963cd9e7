r"""Labels that few rows speak of, each in a basis of its own rows.

The weights of a label are a combination of the rows in which it weighs. With m of them, and
:math:`X_j X_j^\top = R R^\top` by Cholesky, R takes the place of the features: m x m instead of n x d, with the same
inner products, so that the penalty is the same as well. Weights are :math:`X_j^\top R^{-\top}` times the coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial.solvers._features import ResidentFeatures
from skpartial.solvers._logistic import LogisticProblem

__all__ = ["OwnRows", "groups_of_few_rows"]

_MAX_ROWS = 256
# Entries of the gathered rows of a group of labels.
_GROUP_ENTRIES = 1 << 23


def groups_of_few_rows(
    convex: LogisticProblem, features: ResidentFeatures, labels: Tensor
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Labels that are better solved by their own rows, in groups of about as many rows.

    Parameters
    ----------
    convex : LogisticProblem
        The data term.
    features : ResidentFeatures
        X, shape (n, d).
    labels : Tensor of int64
        Which labels to look at.

    Returns
    -------
    groups : list of tuple of labels (k,) and rows (k, m), both of int64
        Rows in which a label weighs nothing fill up what it has less than m.
    rest : Tensor of int64
        The other labels.
    """
    weighs = convex.s[labels] > 0
    count = weighs.sum(1)
    m = count.double()
    few = count <= min(_MAX_ROWS, features.n_features // 4)
    # A Gram matrix and some ten Hessians and factors of it, against some fifty pairs of products. All such labels or
    # none: a product for one label takes nearly as long as one for many.
    own = m**2 * features.n_features + 15 * m**3
    if bool(few.any()) and float(own[few].mean()) > 80 * features.n_rows * features.n_features:
        few = torch.zeros_like(few)
    chosen = torch.nonzero(few).squeeze(1)
    chosen = chosen[torch.argsort(count[chosen])]
    groups = []
    while len(chosen):
        entries = count[chosen] * features.n_features * torch.arange(1, len(chosen) + 1, device=count.device)
        size = max(1, int((entries <= _GROUP_ENTRIES).sum()))
        group, chosen = chosen[:size], chosen[size:]
        width = int(count[group[-1]])
        rows = torch.argsort((~weighs[group]).to(torch.int8), dim=1, stable=True)[:, :width]
        groups.append((labels[group], rows))
    return groups, labels[~few]


class OwnRows:
    """Features of some labels, for each label those of its own rows.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        All features.
    center : Tensor of float64, shape (d,)
        What is taken from every row.
    s : Tensor of shape (k, n)
        Weights of the entries; rows without weight are put to zero.
    rows : Tensor of int64, shape (k, m)
        The rows of each label.
    """

    def __init__(self, X: Tensor, center: Tensor, s: Tensor, rows: Tensor) -> None:
        valid = (s.gather(1, rows) > 0).to(X.dtype)[:, :, None]
        self.dtype = X.dtype
        # Rounded once, so that the rows and the intercept agree on it.
        self.center = center.to(X.dtype).double()
        self._rows = X[rows].sub_(center.to(X.dtype)).mul_(valid)
        gram = (self._rows @ self._rows.mT).double()
        # Rows that repeat each other, or fill up, make it singular, up to the rounding of the products.
        diagonal = gram.diagonal(dim1=1, dim2=2)
        diagonal += max(2 * torch.finfo(X.dtype).eps, 1e-13) * diagonal.mean(1, keepdim=True)
        self._root, info = torch.linalg.cholesky_ex(gram)
        #: Whether the arithmetic went well.
        self.usable = not bool(info.any()) and bool(torch.isfinite(self._root).all())
        self._narrow = self._root.to(X.dtype)
        #: With a column of ones for the intercept, shape (k, m, m + 1).
        self.bordered = torch.cat([self._narrow, torch.ones_like(self._narrow[:, :, :1])], dim=2)

    def forward(self, weights: Tensor) -> Tensor:
        """Scores (k, m) under weights (k, m)."""
        return (self._narrow @ weights[:, :, None])[:, :, 0]

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, m) weighted by scores (k, m)."""
        return (self._narrow.mT @ scores[:, :, None])[:, :, 0]

    def outer(self, parameters: Tensor) -> Tensor:
        """Parameters (k, d + 1) for the features as passed."""
        share = torch.linalg.solve_triangular(self._root.mT, parameters[:, :-1, None].double(), upper=True)
        weights = (self._rows.mT @ share.to(self.dtype))[:, :, 0].double()
        intercept = parameters[:, -1].double() - weights @ self.center
        return torch.cat([weights, intercept[:, None]], dim=1).to(self.dtype)

    def inner(self, parameters: Tensor) -> Tensor:
        """Coordinates (k, m + 1) with the same scores as parameters (k, d + 1) for the features as passed."""
        weights = parameters[:, :-1]
        scores = (self._rows @ weights[:, :, None]).double()
        inside = torch.linalg.solve_triangular(self._root, scores, upper=False)[:, :, 0]
        intercept = parameters[:, -1:].double() + weights.double() @ self.center[:, None]
        return torch.cat([inside, intercept], dim=1).to(self.dtype)
