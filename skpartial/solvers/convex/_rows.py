r"""Labels that are known in few rows: the rows of each, gathered, and a basis of them.

The weights of a label are a combination of the rows in which it weighs. With m of them, and
:math:`X_j X_j^\top = R R^\top` by Cholesky, R takes the place of the features: m x m instead of n x d, with the same
inner products, so that the penalty is the same as well. Weights are :math:`X_j^\top R^{-\top}` times the coordinates.
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

#: What a fit costs by all rows, by the gathered rows of a label, and by a basis of them, is told in entries of gathered
#: rows that are read. A fit makes about so many products, and an entry costs so many times less in a product for many
# labels, whatever the processor: measured between 5 and 50.
PRODUCTS, BATCHED = 80, 16
# Entries of the gathered rows of a group of labels: so many, or as many as X has. What is done beside the products
# takes as long for few labels as for many.
_GROUP_ENTRIES = 1 << 23


def cheapest_rows(count: Tensor, n_rows: int, n_features: int, entries: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Which labels are solved best in a basis of their own rows, and which of the others by these rows.

    Parameters
    ----------
    count : Tensor of int64, shape (k,)
        In how many rows each label weighs.
    n_rows, n_features : int
        Of all labels.
    entries : Tensor of int64, shape (k,), or None
        The same number for labels that share their rows; by default none do.

    Returns
    -------
    basis, own : Tensor of bool, shape (k,)
        For the other labels all rows are cheapest.
    """
    m, d = count.double(), n_features
    by_all, by_own = PRODUCTS * n_rows * d / BATCHED, PRODUCTS * m * d
    # Inner products of the rows, and a few factors of matrices of that size.
    by_basis = m**2 * (d / BATCHED + m)
    basis = by_basis < by_own.clamp(max=by_all)
    if entries is not None:
        _, which, sharing = entries.unique(return_inverse=True, return_counts=True)
        by_own = by_own / sharing[which].clamp(max=BATCHED)
    return basis, (by_own < by_all) & ~basis


class GatheredRows(NamedTuple):
    """Some labels, with the rows in which they weigh.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        Those with the same rows follow each other, by falling penalties.
    sharing : Tensor of int64, shape (g,)
        How many labels share each matrix.
    rows : Tensor of int64, shape (g, m)
        Rows in which a label weighs nothing fill up what it has less than m.
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
        """From strong penalties to weak ones: matrices, a label of each, and the one before it, or else itself."""
        start = self.sharing.cumsum(0) - self.sharing
        for place in range(int(self.sharing.max())):
            which = torch.nonzero(self.sharing > place).squeeze(1)
            yield which, self.labels[start[which] + place], self.labels[start[which] + max(place - 1, 0)]


def gathered_rows(problem: LogisticProblem, features: ResidentFeatures, labels: Tensor) -> Iterator[GatheredRows]:
    """Labels in groups of about as many rows, with the rows in which they weigh.

    Parameters
    ----------
    problem : LogisticProblem
        The data terms.
    features : ResidentFeatures
        X, shape (n, d).
    labels : Tensor of int64
        Which labels to take.

    Yields
    ------
    GatheredRows
        A group, whose matrices are overwritten by the next one, since new memory takes longer to be had than to be
        filled.
    """
    X, room = features.X, features.X.new_empty(0)
    for key in (-problem.alpha, problem.entries, problem.count):
        labels = labels[torch.argsort(key[labels], stable=True)]
    _, sharing = problem.entries[labels].unique_consecutive(return_counts=True)
    while len(labels):
        first = labels[sharing.cumsum(0) - sharing]
        entries = problem.count[first] * X.shape[1] * torch.arange(1, len(first) + 1, device=labels.device)
        size = max(1, int((entries <= max(_GROUP_ENTRIES, X.numel())).sum()))
        first, shared, sharing = first[:size], sharing[:size], sharing[size:]
        group, labels = labels[: int(shared.sum())], labels[int(shared.sum()) :]
        rows = _rows_of(problem.s[first] > 0, problem.count[first])
        if len(room) < rows.numel():
            room = X.new_empty(rows.numel(), X.shape[1])
        gathered = torch.index_select(X, 0, rows.flatten(), out=room[: rows.numel()])
        yield GatheredRows(group, shared, rows, gathered.view(*rows.shape, -1))


def _rows_of(weighs: Tensor, count: Tensor) -> Tensor:
    """Rows in which each label weighs, shape (k, m), filled up with one in which it does not."""
    label, row = torch.nonzero(weighs, as_tuple=True)
    position = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[label]
    rows = weighs.to(torch.int8).argmin(1)[:, None].repeat(1, int(count.max()))
    rows[label, position] = row
    return rows


def _products(matrices: Sequence[Tensor], vectors: Tensor, sharing: Sequence[int] | None = None) -> Tensor:
    """Matrices (p, q), each times the next few of vectors (k, q), or times one: shape (k, p)."""
    results = vectors.new_empty(len(vectors), matrices[0].shape[0])
    if sharing is not None and max(sharing) > 1:
        for matrix, few, result in zip(matrices, vectors.split(sharing), results.split(sharing)):
            torch.mm(few, matrix.T, out=result)
        return results
    # Batched products of matrices with single vectors take several times as long.
    for matrix, vector, result in zip(matrices, vectors, results):
        torch.mv(matrix, vector, out=result)
    return results


class GatheredColumns:
    """Scaled columns of some labels, for each label of the rows in which it weighs.

    Parameters
    ----------
    columns : ScaledColumns
        Of all rows.
    rows : sequence of Tensor of shape (m, d)
        Gathered rows.
    sharing : Tensor of int64
        How many labels share each of them, one after the other.
    """

    def __init__(self, columns: ScaledColumns, rows: Sequence[Tensor], sharing: Tensor) -> None:
        self.columns, self.rows, self.to_features = columns, rows, columns.to_features
        self.sharing: list[int] = sharing.tolist()

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, m) of weights and intercepts (k, d + 1)."""
        return self.scores(self.to_features(theta))

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d + 1) weighted by scores (k, m)."""
        sums = _products([rows.T for rows in self.rows], scores, self.sharing)
        return self.columns.scale_sums(sums, row_sums(scores))

    def scores(self, theta: Tensor) -> Tensor:
        """Logits (k, m) under parameters for the features as passed."""
        return _products(self.rows, theta[:, :-1], self.sharing).add_(theta[:, -1:])

    def take(self, labels: Tensor) -> GatheredColumns:
        """Those of some of the labels, given as rising indices, without a copy."""
        of_label = torch.arange(len(self.rows)).repeat_interleave(torch.tensor(self.sharing))
        which, sharing = of_label[labels.cpu()].unique_consecutive(return_counts=True)
        return GatheredColumns(self.columns, [self.rows[i] for i in which.tolist()], sharing)


class RowBasis:
    """Features of some labels in a basis of the rows of each, with a last column of ones.

    Parameters
    ----------
    rows : Tensor of shape (k, m, d)
        The gathered rows; changed in place.
    valid : Tensor of bool, shape (k, m)
        Rows in which a label weighs; the others are put to zero.

    Attributes
    ----------
    root : Tensor of float64, shape (k, m, m)
        R, the features of the rows of each label.
    gram : Tensor of float64, shape (k, m, m)
        Inner products of these rows.
    usable : bool
        Whether the arithmetic went well.
    """

    def __init__(self, rows: Tensor, valid: Tensor) -> None:
        # From the middle of the columns inner products of rows lose few digits.
        center = rows[-1].median(0).values
        self._center = center.double()
        self._rows: Sequence[Tensor] = rows.sub_(center).mul_(valid[:, :, None]).unbind()
        self.gram = (rows @ rows.mT).double()
        # Rows that repeat each other, or fill up, make it singular, up to the rounding of the products.
        diagonal = self.gram.diagonal(dim1=1, dim2=2)
        diagonal += max(2 * torch.finfo(rows.dtype).eps, 1e-13) * diagonal.mean(1, keepdim=True)
        self.root, info = torch.linalg.cholesky_ex(self.gram)
        self.usable = not bool(info.any()) and bool(torch.isfinite(self.root).all())
        self._root = self.root.to(rows.dtype)

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, m) of coordinates and intercepts (k, m + 1)."""
        return (self._root @ theta[:, :-1, None])[:, :, 0].add_(theta[:, -1:])

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, m + 1) weighted by scores (k, m)."""
        return torch.cat([(self._root.mT @ scores[:, :, None])[:, :, 0], scores.sum(1, keepdim=True)], dim=1)

    def take(self, labels: Tensor) -> RowBasis:
        """Those of some of the labels, given as rising indices."""
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
        share = torch.linalg.solve_triangular(self.root.mT, theta[:, :-1, None].double(), upper=True)
        weights = _products([rows.T for rows in self._rows], share[:, :, 0].to(theta.dtype)).double()
        intercept = theta[:, -1].double() - weights @ self._center
        return torch.cat([weights, intercept[:, None]], dim=1).to(theta.dtype)

    def from_features(self, theta: Tensor) -> Tensor:
        """Coordinates (k, m + 1) with the same scores as parameters (k, d + 1) for the features as passed."""
        scores = _products(self._rows, theta[:, :-1]).double()[:, :, None]
        inside = torch.linalg.solve_triangular(self.root, scores, upper=False)[:, :, 0]
        return torch.cat([inside, self._intercept(theta)], dim=1).to(theta.dtype)

    def scores(self, theta: Tensor) -> Tensor:
        """Logits (k, m) under parameters (k, d + 1) for the features as passed."""
        return _products(self._rows, theta[:, :-1]).double().add_(self._intercept(theta)).to(theta.dtype)

    def _intercept(self, theta: Tensor) -> Tensor:
        return theta[:, -1:].double() + theta[:, :-1].double() @ self._center[:, None]
