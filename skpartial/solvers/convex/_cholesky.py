r"""Newton steps by Cholesky factors: of the Hessians if there are few features, and in the dual if few rows.

In the dual, with second derivatives :math:`C = D^2` of the data term in the logits, its first derivatives r, and
:math:`B = \alpha I + D R R^\top D`, the weights :math:`\theta` and the intercept b change by

.. math::

    \delta b = -\frac{d^\top B^{-1} e}{d^\top B^{-1} d}, \quad
    \delta \theta = -\theta - R^\top D B^{-1} (e + \delta b\, d), \quad
    e = D^{-1} r - D R \theta

where d is the diagonal of D. This follows from the bordered Hessian in weights and intercept by the Woodbury identity.

Source: C. Rasmussen, C. Williams, "Gaussian Processes for Machine Learning", 2006, section 3.4, for a model without an
intercept.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from skpartial.features._matrix import BLOCK_BYTES
from skpartial.features._scaled import ScaledColumns
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._newton import NewtonSolver
from skpartial.solvers.convex._rows import RowBasis

__all__ = ["CholeskySolver", "DualCholeskySolver", "Matrix"]


class Matrix:
    """Scaled columns and a last column of ones, as a tensor of float64, shape (n, d + 1)."""

    def __init__(self, columns: ScaledColumns) -> None:
        self.X, self.to_features = columns.matrix(), columns.to_features

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, n) for weights and intercepts (k, d + 1)."""
        return theta @ self.X.T

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d + 1) weighted by scores (k, n)."""
        return scores @ self.X

    def take(self, labels: Tensor) -> Matrix:
        """Return the matrix itself, which all labels share."""
        return self


class _FactorSolver(NewtonSolver):
    """Newton's method by factors, which `update_hessian` stores in `factor`; `usable` says where there is one."""

    factor: Tensor
    usable: Tensor

    @abstractmethod
    def newton_step(self) -> Tensor:
        """Minus the inverse Hessians from the last factors, times the current gradients."""

    @abstractmethod
    def update_hessian(self) -> None:
        """Compute the factors at the current logits."""

    def inner_solve(self) -> None:
        self.update_hessian()
        self.direction = self.newton_step()

    def estimate_gap(self) -> Tensor:
        return -0.5 * (self.gradient.double() * self.newton_step()).sum(1)

    def _factorize(self, system: Tensor) -> None:
        self.factor, info = torch.linalg.cholesky_ex(system)
        self.usable = info == 0
        #: Size of the Hessians, for steps of labels without a factor.
        self.size = torch.maximum(system.diagonal(dim1=1, dim2=2).sum(1), self.total_curvature)[:, None]

    def _or_steepest(self, step: Tensor) -> Tensor:
        """The steps, with short steps of steepest descent for labels whose factor failed."""
        usable = self.usable & torch.isfinite(step).all(1)
        return torch.where(usable[:, None], step, -self.gradient / self.size).to(self.gradient.dtype)


class CholeskySolver(_FactorSolver):
    """Newton's method with the Hessian of each label, for a design that is a `Matrix`."""

    design: Matrix

    def update_hessian(self) -> None:
        k, width = self.theta.shape
        X = self.design.X
        hessian = torch.diag_embed(self.penalty).to(X.dtype)
        # The temporary from which Hessians are summed should stay in the processor's cache.
        step = max(1, BLOCK_BYTES // (X.itemsize * k * width))
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            weighted = (self.curvature[:, None, rows] * X[rows].T).reshape(k * width, -1)
            hessian += (weighted @ X[rows]).reshape(k, width, width)
        # Without a penalty, repeated columns make it singular, up to rounding.
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        diagonal += 1e-13 * diagonal.amax(1, keepdim=True)
        self._factorize(hessian)

    def newton_step(self) -> Tensor:
        return self._or_steepest(-torch.cholesky_solve(self.gradient[:, :, None], self.factor)[:, :, 0])


class DualCholeskySolver(_FactorSolver):
    """Newton's method with one matrix over the rows of each label, for a design that is a `RowBasis`."""

    design: RowBasis

    def __init__(self, problem: LogisticProblem, design: RowBasis, theta: Tensor, goal: float) -> None:
        penalty = theta.new_ones(theta.shape[1], dtype=torch.float64)
        penalty[-1] = 0
        super().__init__(problem, design, theta, penalty, goal)

    def update_hessian(self) -> None:
        # Rows with certain predictions, and padding rows, have no effect; a tiny curvature keeps the inverse finite.
        least = torch.finfo(torch.float64).eps * self.problem.s.amax(1, keepdim=True)
        d = torch.maximum(self.curvature, least).double().sqrt()
        system = self.design.gram * d[:, :, None] * d[:, None]
        system.diagonal(dim1=1, dim2=2).add_(self.problem.alpha[:, None])
        self._factorize(system)
        self.d = d

    def newton_step(self) -> Tensor:
        d, theta = self.d, self.theta.double()
        e = self.residual.double() / d - d * (self.logits.double() - theta[:, -1:])
        of_e, of_d = torch.cholesky_solve(torch.stack([e, d], dim=2), self.factor).unbind(2)
        bias = -torch.linalg.vecdot(d, of_e) / torch.linalg.vecdot(d, of_d)
        along = d * (of_e + bias[:, None] * of_d)
        weights = -theta[:, :-1] - (along[:, None] @ self.design.root)[:, 0]
        return self._or_steepest(torch.cat([weights, bias[:, None]], dim=1))
