"""Directions of descent for many logistic problems at once: exact Newton where that is cheap."""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial.solvers.convex._logistic import Point, rarer

__all__ = ["Direction", "DualNewton", "ExactNewton"]

# Entries of the temporary from which exact Hessians are summed up.
_HESSIAN_ENTRIES = 1 << 20
# Second derivative of a row, in units of the largest weight, below which it is the same as none.
_LEAST_CURVATURE = 1e-12


class Direction:
    """Gives every label a direction of descent; what is learned on the way is for subclasses."""

    #: Whether half the slope along a direction is how far the objective can fall, close to its minimum.
    exact = False

    def __call__(self, point: Point, gradient: Tensor) -> Tensor:
        """Directions of shape (L, d + 1), intercept last, from gradients of the same shape."""
        raise NotImplementedError

    def size(self, point: Point, gradient: Tensor) -> Tensor:
        """About how far the objective could fall by these gradients, up to a factor; shape (L,)."""
        return -(gradient * self(point, gradient)).sum(1)

    def learn(self, step: Tensor, change: Tensor) -> None:
        """Take note of a step and of the change of the gradient over it, both of shape (L, d + 1)."""

    def keep(self, labels: Tensor) -> None:
        """Restrict to some of the labels, given as indices."""

    def forget(self) -> None:
        """Drop what was learned."""


class ExactNewton(Direction):
    """Newton's method with the Hessian of every label, for few features.

    Parameters
    ----------
    bordered : Tensor of shape (n, d + 1)
        Features with a last column of ones.
    """

    exact = True

    def __init__(self, bordered: Tensor) -> None:
        self._bordered = bordered

    def _data_hessian(self, point: Point) -> Tensor:
        n_labels, width = point.theta.shape
        hessian = point.theta.new_zeros(n_labels, width, width)
        step = max(1, _HESSIAN_ENTRIES // (n_labels * width))
        for start in range(0, len(self._bordered), step):
            part = slice(start, start + step)
            X = self._bordered[part]
            q = rarer(point.logits[:, part])
            curvature = point.problem.s[:, part] * q * (1 - q)
            weighted = (curvature[:, None, :] * X.T).reshape(n_labels * width, len(X))
            hessian += (weighted @ X).reshape(n_labels, width, width)
        return hessian

    def __call__(self, point: Point, gradient: Tensor) -> Tensor:
        hessian = self._data_hessian(point)
        hessian.diagonal(dim1=1, dim2=2).add_(point.problem.alpha.to(hessian.dtype)[:, None] * point.penalty)
        # Columns that repeat each other make it singular without a penalty, up to rounding.
        diagonal = hessian.diagonal(dim1=1, dim2=2)
        tiny = 1e-13 if gradient.dtype == torch.float64 else 1e-7
        diagonal += tiny * diagonal.amax(1, keepdim=True)
        factor, info = torch.linalg.cholesky_ex(hessian)
        direction = -torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        steepest = -gradient / diagonal.clamp(min=torch.finfo(gradient.dtype).tiny)
        usable = (info == 0) & torch.isfinite(direction).all(1)
        return torch.where(usable[:, None], direction, steepest)


class DualNewton(Direction):
    r"""Newton's method for labels of few rows, by factors of matrices of these rows.

    With second derivatives :math:`C = D^2` of the data term in the logits, its first derivatives r, and
    :math:`B = \alpha I + D R R^\top D`, the weights :math:`\theta` and the intercept b change by

    .. math::

        \delta b = -\frac{d^\top B^{-1} e}{d^\top B^{-1} d}, \quad
        \delta \theta = -\theta - R^\top D B^{-1} (e + \delta b\, d), \quad
        e = D^{-1} r - D R \theta

    where d is the diagonal of D: the Hessian in the weights, its border for the intercept, and the Woodbury identity.

    Source: C. Rasmussen, C. Williams, "Gaussian Processes for Machine Learning", 2006, section 3.4, for a model without
    an intercept.

    Parameters
    ----------
    root : Tensor of float64, shape (L, m, m)
        R, the features of the rows of each label.
    gram : Tensor of float64, shape (L, m, m)
        Inner products of these rows.
    """

    exact = True

    def __init__(self, root: Tensor, gram: Tensor) -> None:
        self._root, self._gram = root, gram

    def __call__(self, point: Point, gradient: Tensor) -> Tensor:
        problem, theta = point.problem, point.theta.double()
        s, q = problem.s.double(), rarer(point.logits.double())
        # Rows that are certain, or only fill up, take no part: what is next to nothing keeps the inverse finite.
        d = (s * q * (1 - q)).clamp(min=_LEAST_CURVATURE * s.amax(1, keepdim=True)).sqrt()
        scores = point.logits.double() - theta[:, -1:]
        e = point.residual.double() / d - d * scores
        system = self._gram * d[:, :, None] * d[:, None]
        system.diagonal(dim1=1, dim2=2).add_(problem.alpha[:, None])
        largest = system.diagonal(dim1=1, dim2=2).sum(1)
        factor, info = torch.linalg.cholesky_ex(system)
        solved = torch.cholesky_solve(torch.stack([e, d], dim=2), factor)
        of_e, of_d = solved.unbind(2)
        bias = -torch.linalg.vecdot(d, of_e) / torch.linalg.vecdot(d, of_d)
        along = d * (of_e + bias[:, None] * of_d)
        weights = -theta[:, :-1] - (along[:, None] @ self._root)[:, 0]
        direction = torch.cat([weights, bias[:, None]], dim=1).to(gradient.dtype)
        usable = (info == 0) & torch.isfinite(direction).all(1)
        steepest = -gradient / torch.maximum(largest, d.square().sum(1))[:, None].to(gradient.dtype)
        return torch.where(usable[:, None], direction, steepest)
