r"""Ridge regressions for labels with the same row weights: one matrix for all these labels and all penalties.

Let :math:`M = V^{1/2} \tilde{F}` be the centred features with rows multiplied by the square roots of their weights. The
matrix B is :math:`M^\top M`, or :math:`M M^\top` if that is smaller. The regressions need products with :math:`(B +
\alpha I)^{-1}`, and the diagonal of the hat matrix :math:`M (M^\top M + \alpha I)^{-1} M^\top = M M^\top (M M^\top +
\alpha I)^{-1}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from skpartial.features._base import Features, overflow_error
from skpartial.features._matrix import ResidentFeatures

__all__ = ["MANY_ALPHAS", "Gram"]

#: Number of penalties from which eigenvectors pay off: a further penalty then costs next to nothing.
MANY_ALPHAS = 5
# Number of rows per block, whose features are converted to float64.
_BLOCK_ROWS = 2048


class Gram:
    """The matrix B of centred features with row weights.

    Parameters
    ----------
    features : Features
        X, shape (n, d).
    rows : Tensor of int64, shape (m,), or None
        Rows to use; None means all.
    v : Tensor of float64, shape (m,)
        Row weights; not all zero.

    Attributes
    ----------
    center : Tensor of float64, shape (d,)
        Weighted mean of the rows.
    total : Tensor of float64, shape ()
        Sum of v.
    """

    def __init__(self, features: Features, rows: Tensor | None, v: Tensor) -> None:
        self.features, self.rows, self.v, self.total = features, rows, v, v.sum()
        d = features.n_features
        self._dual = len(v) < d
        sums = torch.zeros(d, dtype=torch.float64, device=v.device)
        for part, X in self._blocks():
            sums += v[part] @ X
        self.center = sums / self.total
        if self._dual:
            self._root = torch.cat([self._weighted(part, X) for part, X in self._blocks()])
            self._matrix = self._root @ self._root.T
        else:
            self._matrix = torch.zeros(d, d, dtype=torch.float64, device=v.device)
            for part, X in self._blocks():
                root = self._weighted(part, X)
                self._matrix.addmm_(root.T, root)
        if not bool(torch.isfinite(self._matrix.diagonal()).all()):
            raise overflow_error(features.dtype)
        self._eigenpairs: tuple[Tensor, Tensor] | None = None
        self._factors: dict[float, Tensor] = {}

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of the rows with their dense features in float64, which must not be modified."""
        index = torch.arange(self.features.n_rows, device=self.v.device) if self.rows is None else self.rows
        X = self.features.X if isinstance(self.features, ResidentFeatures) else None
        for start in range(0, len(index), _BLOCK_ROWS):
            part = slice(start, min(start + _BLOCK_ROWS, len(index)))
            block = X[part] if X is not None and self.rows is None else self.features.batch(index[part])
            yield part, (block.to_dense() if block.is_sparse else block).double()

    def _weighted(self, part: slice, X: Tensor) -> Tensor:
        return (X - self.center).mul_(self.v[part].sqrt()[:, None])

    def factorize(self, alphas: Sequence[float]) -> None:
        """Prepare for penalties: a Cholesky factor each, or eigenvectors for many penalties or if a factor fails."""
        self._factors = {}
        for alpha in alphas if len(alphas) < MANY_ALPHAS and self._eigenpairs is None else ():
            system = self._matrix.clone()
            system.diagonal().add_(alpha)
            factor, info = torch.linalg.cholesky_ex(system)
            # Share of a column that is independent of those before it; if it is only rounding, the matrix is singular.
            independent = float((factor.diagonal().square() / system.diagonal().clamp(min=1e-300)).min())
            if int(info) == 0 and independent > len(system) * torch.finfo(system.dtype).eps:
                self._factors[alpha] = factor
        if len(self._factors) < len(alphas):
            self._factors = {}
            self._eigen()

    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues, with those at rounding level set to zero, and eigenvectors."""
        if self._eigenpairs is None:
            values, vectors = torch.linalg.eigh(self._matrix)
            least = values[-1].clamp(min=0) * torch.finfo(values.dtype).eps * len(values)
            self._eigenpairs = torch.where(values > least, values, 0.0), vectors
        return self._eigenpairs

    def _solve(self, alpha: float, columns: Tensor) -> Tensor:
        """The inverse of B plus a penalty, or the pseudo-inverse if singular, times columns (p, k)."""
        if alpha in self._factors:
            return torch.cholesky_solve(columns, self._factors[alpha])
        values, vectors = self._eigen()
        shifted = values + alpha
        inverse = torch.where(shifted > 0, 1 / shifted, 0.0)
        return vectors @ ((vectors.T @ columns) * inverse[:, None])

    def moments(self, a: Tensor) -> Tensor:
        """Right-hand sides (p, k), in float64, of regressions on targets a / v, with a of shape (k, m).

        A constant in a / v adds nothing to sums of centred rows, so targets need not be centred.
        """
        if self._dual:
            root = self.v.sqrt()
            return torch.where(root > 0, a.double() / root, 0.0).T
        sums = torch.zeros(len(self.center), len(a), dtype=torch.float64, device=self.v.device)
        for part, X in self._blocks():
            # Centred features lose no precision in the narrower type.
            sums += (X - self.center).to(a.dtype).T @ a[:, part].T
        return sums

    def weights(self, alpha: float, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (k, d) of regressions with these moments, and twice the descent from the mean prediction, (k,)."""
        solution = self._solve(alpha, moments)
        if self._dual:
            return solution.T @ self._root, (solution * (self._matrix @ moments)).sum(0)
        return solution.T, (solution * moments).sum(0)

    def hat(self, alphas: Sequence[float]) -> Tensor:
        """Diagonals of the hat matrices, without the share of the intercept, shape (A, m)."""
        if not all(alpha in self._factors for alpha in alphas):
            return self._hat_by_eigenvectors(alphas)
        diagonals = self.v.new_empty(len(alphas), len(self.v))
        if self._dual:
            identity = torch.eye(len(self.v), dtype=self.v.dtype, device=self.v.device)
            for i, alpha in enumerate(alphas):
                diagonals[i] = 1 - alpha * _quadratic(self._factors[alpha], identity)
            return diagonals
        for part, X in self._blocks():
            root = self._weighted(part, X)
            for i, alpha in enumerate(alphas):
                diagonals[i, part] = _quadratic(self._factors[alpha], root)
        return diagonals

    def _hat_by_eigenvectors(self, alphas: Sequence[float]) -> Tensor:
        """The same by eigenvectors, for many penalties."""
        values, vectors = self._eigen()
        shifted = values[:, None] + torch.as_tensor(alphas, dtype=values.dtype, device=values.device)
        inverses = torch.where(shifted > 0, 1 / shifted, 0.0)
        if self._dual:
            return (vectors.square() @ (values[:, None] * inverses)).T
        squares = ((self._weighted(part, X) @ vectors).square_() @ inverses for part, X in self._blocks())
        return torch.cat(list(squares)).T


def _quadratic(factor: Tensor, rows: Tensor) -> Tensor:
    """The quadratic form of an inverse matrix at each of the rows (m, p), given the Cholesky factor: shape (m,)."""
    return torch.linalg.solve_triangular(factor, rows.T, upper=False).square_().sum(0)
