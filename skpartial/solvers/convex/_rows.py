r"""Labels known in few rows: the gathered rows of each label, and a basis of these rows.

The weights of label j are a linear combination of the m rows :math:`X_j` in which its entries have non-zero weight.
With the Cholesky factorisation :math:`X_j X_j^\top = R R^\top`, R replaces the features: m x m instead of n x d, with
the same inner products, and therefore the same penalty. Weights are :math:`X_j^\top R^{-\top}` times the coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.features._base import row_sums
from skpartial.features._matrix import ResidentFeatures
from skpartial.features._scaled import ScaledColumns
from skpartial.solvers.convex._logistic import LogisticProblem

__all__ = ["BATCHED", "PRODUCTS", "GatheredColumns", "GatheredRows", "RowBasis", "cheapest_rows", "gathered_rows"]

#: Constants of the cost of a fit by all rows, by a label's gathered rows, or by a basis, counted in entries of gathered
#: rows that are read. PRODUCTS is the approximate number of products in a fit. BATCHED is how many times cheaper an
#: entry is in a product for many labels: between 5 and 50 in measurements.
PRODUCTS, BATCHED = 80, 16
# Maximal number of entries of the gathered rows of a group of labels: this many, or as many as X has. The overhead per
# group is the same for few and many labels.
_GROUP_ENTRIES = 1 << 23


def cheapest_rows(count: Tensor, n_rows: int, n_features: int, entries: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Choose labels to solve in a basis of their own rows, and other labels to solve on their own rows.

    Parameters
    ----------
    count : Tensor of int64, shape (k,)
        Number of rows in which each label has non-zero weight.
    n_rows, n_features : int
        Size of the features.
    entries : Tensor of int64, shape (k,), or None
        Equal numbers mark labels that share their rows; by default none do.

    Returns
    -------
    basis, own : Tensor of bool, shape (k,)
        Masks of these labels. For all others, using all rows is cheapest.
    """
    m, d = count.double(), n_features
    by_all, by_own = PRODUCTS * n_rows * d / BATCHED, PRODUCTS * m * d
    # Inner products of the rows, and a few factorisations of matrices of that size.
    by_basis = m**2 * (d / BATCHED + m)
    basis = by_basis < by_own.clamp(max=by_all)
    if entries is not None:
        _, which, sharing = entries.unique(return_inverse=True, return_counts=True)
        by_own = by_own / sharing[which].clamp(max=BATCHED)
    return basis, (by_own < by_all) & ~basis


class GatheredRows(NamedTuple):
    """Some labels, with the rows in which they have non-zero weight.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        Labels with the same rows are adjacent, with decreasing penalties.
    sharing : Tensor of int64, shape (g,)
        Number of labels that share each matrix.
    rows : Tensor of int64, shape (g, m)
        Indices of the rows; labels with fewer than m rows are padded with rows in which their weight is zero.
    X : Tensor of shape (g, m, d)
        These rows of the features.
    """

    labels: Tensor
    sharing: Tensor
    rows: Tensor
    X: Tensor

    def problem(self, problem: LogisticProblem) -> LogisticProblem:
        """The problem of these labels on their rows."""
        return problem.take_own_rows(self.labels, self.rows.repeat_interleave(self.sharing, 0))

    @property
    def first(self) -> Tensor:
        """The first label of each matrix."""
        return self.labels[self.sharing.cumsum(0) - self.sharing]

    def path(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """From strong to weak penalties: matrices, a label of each, and the label before it (the first: itself)."""
        start = self.sharing.cumsum(0) - self.sharing
        for place in range(int(self.sharing.max())):
            which = torch.nonzero(self.sharing > place).squeeze(1)
            yield which, self.labels[start[which] + place], self.labels[start[which] + max(place - 1, 0)]


def gathered_rows(problem: LogisticProblem, features: ResidentFeatures, labels: Tensor) -> Iterator[GatheredRows]:
    """Labels in groups with similar numbers of rows, with the rows in which they have non-zero weight.

    Parameters
    ----------
    problem : LogisticProblem
        The data terms.
    features : ResidentFeatures
        X, shape (n, d).
    labels : Tensor of int64
        The labels to group.

    Yields
    ------
    GatheredRows
        A group. The next group overwrites its matrices, because allocating memory takes longer than filling it.
    """
    X, buffer = features.X, features.X.new_empty(0)
    for key in (-problem.alpha, problem.entries, problem.count):
        labels = labels[torch.argsort(key[labels], stable=True)]
    _, sharing = problem.entries[labels].unique_consecutive(return_counts=True)
    while len(labels):
        first = labels[sharing.cumsum(0) - sharing]
        entries = problem.count[first] * X.shape[1] * torch.arange(1, len(first) + 1, device=labels.device)
        size = max(1, int((entries <= max(_GROUP_ENTRIES, X.numel())).sum()))
        first, shared, sharing = first[:size], sharing[:size], sharing[size:]
        group, labels = labels[: int(shared.sum())], labels[int(shared.sum()) :]
        rows = _padded_rows(problem.s[first] > 0, problem.count[first])
        if len(buffer) < rows.numel():
            buffer = X.new_empty(rows.numel(), X.shape[1])
        gathered = torch.index_select(X, 0, rows.flatten(), out=buffer[: rows.numel()])
        yield GatheredRows(group, shared, rows, gathered.view(*rows.shape, -1))


def _padded_rows(nonzero: Tensor, count: Tensor) -> Tensor:
    """Rows in which each label has non-zero weight, shape (k, m), padded with a row of weight zero."""
    label, row = torch.nonzero(nonzero, as_tuple=True)
    position = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[label]
    rows = nonzero.to(torch.int8).argmin(1)[:, None].repeat(1, int(count.max()))
    rows[label, position] = row
    return rows


def _products(matrices: Sequence[Tensor], vectors: Tensor, sharing: Sequence[int] | None = None) -> Tensor:
    """Products of matrices (p, q), each with the next few, or the next one, of vectors (k, q): shape (k, p)."""
    results = vectors.new_empty(len(vectors), matrices[0].shape[0])
    if sharing is not None and max(sharing) > 1:
        for matrix, block, result in zip(matrices, vectors.split(sharing), results.split(sharing)):
            torch.mm(block, matrix.T, out=result)
        return results
    # Batched products of matrices with single vectors would take several times as long.
    for matrix, vector, result in zip(matrices, vectors, results):
        torch.mv(matrix, vector, out=result)
    return results


class GatheredColumns:
    """Scaled columns for some labels, each on the rows in which it has non-zero weight.

    Parameters
    ----------
    columns : ScaledColumns
        Scaled columns of all rows.
    rows : sequence of Tensor of shape (m, d)
        Gathered rows.
    sharing : Tensor of int64
        Number of adjacent labels that share each matrix of rows.
    """

    def __init__(self, columns: ScaledColumns, rows: Sequence[Tensor], sharing: Tensor) -> None:
        self.columns, self.rows, self.to_features = columns, rows, columns.to_features
        self.sharing: list[int] = sharing.tolist()

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, m) for weights and intercepts (k, d + 1)."""
        return self.scores(self.to_features(theta))

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d + 1) weighted by scores (k, m)."""
        sums = _products([rows.T for rows in self.rows], scores, self.sharing)
        return self.columns.scale_sums(sums, row_sums(scores))

    def scores(self, theta: Tensor) -> Tensor:
        """Logits (k, m) for parameters in the units of the features as passed."""
        return _products(self.rows, theta[:, :-1], self.sharing).add_(theta[:, -1:])

    def take(self, labels: Tensor) -> GatheredColumns:
        """The columns of some labels, given as ascending indices, without a copy."""
        of_label = torch.arange(len(self.rows)).repeat_interleave(torch.tensor(self.sharing))
        which, sharing = of_label[labels.cpu()].unique_consecutive(return_counts=True)
        return GatheredColumns(self.columns, [self.rows[i] for i in which.tolist()], sharing)


class RowBasis:
    """Features of some labels in a basis of each label's rows, with a last column of ones.

    Parameters
    ----------
    rows : Tensor of shape (k, m, d)
        The gathered rows; changed in place.
    valid : Tensor of bool, shape (k, m)
        Rows in which a label has non-zero weight; the others are set to zero.

    Attributes
    ----------
    root : Tensor of float64, shape (k, m, m)
        R, which replaces the features of the rows of each label.
    gram : Tensor of float64, shape (k, m, m)
        Inner products of these rows.
    usable : bool
        Whether the factorisation succeeded.
    """

    def __init__(self, rows: Tensor, valid: Tensor) -> None:
        # After centring the columns, inner products of rows lose few digits.
        center = rows[-1].median(0).values
        self._center = center.double()
        self._rows: Sequence[Tensor] = rows.sub_(center).mul_(valid[:, :, None]).unbind()
        self.gram = (rows @ rows.mT).double()
        # Repeated and padding rows make it singular, up to the rounding of the products.
        diagonal = self.gram.diagonal(dim1=1, dim2=2)
        diagonal += max(2 * torch.finfo(rows.dtype).eps, 1e-13) * diagonal.mean(1, keepdim=True)
        self.root, info = torch.linalg.cholesky_ex(self.gram)
        self.usable = not bool(info.any()) and bool(torch.isfinite(self.root).all())
        self._root = self.root.to(rows.dtype)

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, m) for coordinates and intercepts (k, m + 1)."""
        return (self._root @ theta[:, :-1, None])[:, :, 0].add_(theta[:, -1:])

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, m + 1) weighted by scores (k, m)."""
        return torch.cat([(self._root.mT @ scores[:, :, None])[:, :, 0], scores.sum(1, keepdim=True)], dim=1)

    def take(self, labels: Tensor) -> RowBasis:
        """The basis of some labels, given as ascending indices."""
        if len(labels) == len(self.root):
            return self
        part = RowBasis.__new__(RowBasis)
        part._center, part.usable = self._center, self.usable
        part._rows = [self._rows[label] for label in labels.tolist()]
        for name in ("gram", "root", "_root"):
            setattr(part, name, getattr(self, name)[labels])
        return part

    def to_features(self, theta: Tensor) -> Tensor:
        """Parameters (k, d + 1) for the features as passed."""
        coefficients = torch.linalg.solve_triangular(self.root.mT, theta[:, :-1, None].double(), upper=True)
        weights = _products([rows.T for rows in self._rows], coefficients[:, :, 0].to(theta.dtype)).double()
        intercept = theta[:, -1].double() - weights @ self._center
        return torch.cat([weights, intercept[:, None]], dim=1).to(theta.dtype)

    def from_features(self, theta: Tensor) -> Tensor:
        """Coordinates (k, m + 1) with the same scores as parameters (k, d + 1) for the features as passed."""
        scores = _products(self._rows, theta[:, :-1]).double()[:, :, None]
        coordinates = torch.linalg.solve_triangular(self.root, scores, upper=False)[:, :, 0]
        return torch.cat([coordinates, self._intercept(theta)], dim=1).to(theta.dtype)

    def scores(self, theta: Tensor) -> Tensor:
        """Logits (k, m) for parameters (k, d + 1) in the units of the features as passed."""
        return _products(self._rows, theta[:, :-1]).double().add_(self._intercept(theta)).to(theta.dtype)

    def _intercept(self, theta: Tensor) -> Tensor:
        return theta[:, -1:].double() + theta[:, :-1].double() @ self._center[:, None]
