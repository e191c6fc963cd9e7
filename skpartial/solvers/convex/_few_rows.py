r"""Labels that few rows speak of: products with the rows of each, or a basis of them.

The weights of a label are a combination of the rows in which it weighs. With m of them, and
:math:`X_j X_j^\top = R R^\top` by Cholesky, R takes the place of the features: m x m instead of n x d, with the same
inner products, so that the penalty is the same as well. Weights are :math:`X_j^\top R^{-\top}` times the coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial._devices import has_feature
from skpartial.features._matrix import ResidentFeatures
from skpartial.features._scaled import Standardized
from skpartial.solvers.convex._directions import DualNewton
from skpartial.solvers.convex._logistic import LogisticProblem

__all__ = ["KnownRows", "OwnRows", "groups_of_few_rows", "groups_of_known_rows"]

_MAX_ROWS = 256
# Rows among which the middle of the columns is looked for, from which products of rows lose few digits.
_MIDDLE_ROWS = 64
# What the passes over a logit cost that go with a product, in units of an entry of X in a product for one label.
_PASS = 12
# The cost of an entry of X in a product for many labels, in float32 and bfloat16, in units of that in a product for
# one: measured, by what the processor multiplies with.
_PRODUCT_COSTS = {"matrix units": (0.07, 0.02), "512 bits": (0.2, 0.06), "256 bits": (0.12, 0.12)}
# Entries of the gathered rows of a group of labels: so many, or as many as X has. What is done beside the products
# takes as long for few labels as for many.
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
    count = convex.count[labels]
    m = count.double()
    few = count <= min(_MAX_ROWS, features.n_features // 4)
    # A Gram matrix and some ten Hessians and factors of it, against some fifty pairs of products. All such labels or
    # none: a product for one label takes nearly as long as one for many.
    own = m**2 * features.n_features + 15 * m**3
    if bool(few.any()) and float(own[few].mean()) > 80 * features.n_rows * features.n_features:
        few = torch.zeros_like(few)
    return _grouped(convex, few, labels, features)


def groups_of_known_rows(
    convex: LogisticProblem, features: ResidentFeatures, labels: Tensor, *, narrow: bool
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Labels that weigh in so small a part of the rows that it pays to gather these.

    Products with rows of its own pass over them once for each label, at the pace of memory; what is saved are products
    with, and passes over, rows in which it weighs nothing.

    Parameters
    ----------
    convex, features, labels
        As for `groups_of_few_rows`.
    narrow : bool
        Whether products with all rows are made in bfloat16.

    Returns
    -------
    groups, rest
        As from `groups_of_few_rows`.
    """
    d = features.n_features
    share = (d * _product_cost(features.device, narrow=narrow) + _PASS) / (d + _PASS)
    return _grouped(convex, convex.count[labels] < share * features.n_rows, labels, features)


def _product_cost(device: torch.device, *, narrow: bool) -> float:
    """What an entry of X costs in a product for many labels, in units of what it costs in a product for one."""
    # Told by the processor's features, and not measured anew: a fit that is repeated is to take the same way.
    if device.type != "cpu" or has_feature("amx_bf16"):
        costs = _PRODUCT_COSTS["matrix units"]
    else:
        costs = _PRODUCT_COSTS["512 bits" if has_feature("avx512_f") else "256 bits"]
    return costs[narrow]


def _grouped(
    convex: LogisticProblem, few: Tensor, labels: Tensor, features: ResidentFeatures
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Groups of the chosen labels with the rows in which they weigh, and the other labels."""
    chosen = labels[few]
    chosen = chosen[torch.argsort(convex.count[chosen])]
    groups, limit = [], _group_entries(features)
    while len(chosen):
        count = convex.count[chosen]
        entries = count * features.n_features * torch.arange(1, len(chosen) + 1, device=count.device)
        size = max(1, int((entries <= limit).sum()))
        group, chosen = chosen[:size], chosen[size:]
        groups.append((group, _rows_of(convex.s[group] > 0, count[:size])))
    return groups, labels[~few]


def _group_entries(features: ResidentFeatures) -> int:
    """How many entries the gathered rows of a group of labels may have."""
    return max(_GROUP_ENTRIES, features.n_rows * features.n_features)


def _rows_of(weighs: Tensor, count: Tensor) -> Tensor:
    """Rows in which each label weighs, shape (k, m), filled up with one in which it does not."""
    label, row = torch.nonzero(weighs, as_tuple=True)
    position = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[label]
    rows = weighs.to(torch.int8).argmin(1)[:, None].repeat(1, int(count.max()))
    rows[label, position] = row
    return rows


def _scores_of_own(rows: Tensor, weights: Tensor) -> Tensor:
    """Scores (k, m) of the rows (k, m, d) of each label under its weights (k, d)."""
    # Batched products of matrices with single vectors take several times as long.
    scores = weights.new_empty(rows.shape[:2])
    for own, weight, score in zip(rows, weights, scores):
        torch.mv(own, weight, out=score)
    return scores


class KnownRows:
    """Standardised features of some labels, for each label those of the rows in which it weighs.

    Parameters
    ----------
    standard : Standardized
        All features, resident.
    rows : Tensor of int64, shape (k, m)
        The rows of each label.
    room : Tensor of shape (k * m or more, d)
        Where to put them: new memory takes longer to be had than to be filled.
    """

    def __init__(self, standard: Standardized, rows: Tensor, room: Tensor) -> None:
        features = standard.features
        assert isinstance(features, ResidentFeatures)
        self._standard = standard
        gathered = torch.index_select(features.X, 0, rows.flatten(), out=room[: rows.numel()])
        self._rows = gathered.view(*rows.shape, -1)

    def forward(self, weights: Tensor) -> Tensor:
        """Scores (k, m) under weights (k, d)."""
        weights, shift = self._standard.plain(weights)
        return self._products(weights).sub_(shift[:, None])

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d) weighted by scores (k, m)."""
        return self._standard.standardize(torch.bmm(scores[:, None], self._rows)[:, 0], scores)

    def scores(self, theta: Tensor) -> Tensor:
        """Scores (k, m) under parameters (k, d + 1) for the features as passed."""
        return self._products(theta[:, :-1]).add_(theta[:, -1:])

    def _products(self, weights: Tensor) -> Tensor:
        return _scores_of_own(self._rows, weights)


class OwnRows:
    """Features of some labels, for each label those of its own rows.

    Parameters
    ----------
    X : Tensor of shape (n, d)
        All features.
    s : Tensor of shape (k, n)
        Weights of the entries; rows without weight are put to zero.
    rows : Tensor of int64, shape (k, m)
        The rows of each label.
    """

    def __init__(self, X: Tensor, s: Tensor, rows: Tensor) -> None:
        valid = (s.gather(1, rows) > 0).to(X.dtype)[:, :, None]
        self.dtype = X.dtype
        some = rows.flatten()[:: max(1, rows.numel() // _MIDDLE_ROWS)]
        center = X[some].median(0).values
        self._center = center.double()
        self._rows = X.index_select(0, rows.flatten()).view(*rows.shape, -1).sub_(center).mul_(valid)
        gram = (self._rows @ self._rows.mT).double()
        # Rows that repeat each other, or fill up, make it singular, up to the rounding of the products.
        diagonal = gram.diagonal(dim1=1, dim2=2)
        diagonal += max(2 * torch.finfo(X.dtype).eps, 1e-13) * diagonal.mean(1, keepdim=True)
        self._root, info = torch.linalg.cholesky_ex(gram)
        #: Whether the arithmetic went well.
        self.usable = not bool(info.any()) and bool(torch.isfinite(self._root).all())
        self._narrow = self._root.to(X.dtype)
        self._gram = gram

    def newton(self) -> DualNewton:
        """Newton's method in these coordinates."""
        return DualNewton(self._root, self._gram)

    def forward(self, weights: Tensor) -> Tensor:
        """Scores (k, m) under weights (k, m)."""
        return (self._narrow @ weights[:, :, None])[:, :, 0]

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, m) weighted by scores (k, m)."""
        return (self._narrow.mT @ scores[:, :, None])[:, :, 0]

    def outer(self, parameters: Tensor) -> Tensor:
        """Parameters (k, d + 1) for the features as passed."""
        share = torch.linalg.solve_triangular(self._root.mT, parameters[:, :-1, None].double(), upper=True)
        weights = (share.mT.to(self.dtype) @ self._rows)[:, 0].double()
        intercept = parameters[:, -1].double() - weights @ self._center
        return torch.cat([weights, intercept[:, None]], dim=1).to(self.dtype)

    def inner(self, parameters: Tensor) -> Tensor:
        """Coordinates (k, m + 1) with the same scores as parameters (k, d + 1) for the features as passed."""
        scores = self._centered_scores(parameters[:, :-1])[:, :, None]
        inside = torch.linalg.solve_triangular(self._root, scores, upper=False)[:, :, 0]
        return torch.cat([inside, self._inner_intercept(parameters)], dim=1).to(self.dtype)

    def scores(self, theta: Tensor) -> Tensor:
        """Scores (k, m) under parameters (k, d + 1) for the features as passed."""
        return self._centered_scores(theta[:, :-1]).add_(self._inner_intercept(theta)).to(self.dtype)

    def _centered_scores(self, weights: Tensor) -> Tensor:
        if not bool(weights.any()):
            return self._center.new_zeros(self._rows.shape[:2])
        return _scores_of_own(self._rows, weights).double()

    def _inner_intercept(self, parameters: Tensor) -> Tensor:
        return parameters[:, -1:].double() + parameters[:, :-1].double() @ self._center[:, None]
