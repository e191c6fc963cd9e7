"""Directions of descent for many logistic problems at once: exact Newton where that is cheap."""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial.solvers._logistic import Point

__all__ = ["Direction", "ExactNewton"]

# Entries of the temporary from which exact Hessians are summed up.
_HESSIAN_ENTRIES = 1 << 20


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

    def settle(self, point: Point, gradient: Tensor) -> None:
        """Prepare to be asked for many directions at one point."""

    def learn(self, step: Tensor, change: Tensor) -> None:
        """Take note of a step and of the change of the gradient over it, both of shape (L, d + 1)."""

    def keep(self, labels: Tensor) -> None:
        """Restrict to some of the labels, given as indices."""

    def forget(self, labels: Tensor) -> None:
        """Drop what was learned about some labels, given as a boolean tensor."""


class ExactNewton(Direction):
    """Newton's method with the Hessian of every label, for few features.

    Parameters
    ----------
    bordered : Tensor of shape (n, d + 1) or (L, n, d + 1)
        Features with a last column of ones, shared by all labels or of each label.
    """

    exact = True

    def __init__(self, bordered: Tensor) -> None:
        self._bordered = bordered

    def _data_hessian(self, point: Point) -> Tensor:
        n_labels, width = point.theta.shape
        if self._bordered.ndim == 3:
            p = torch.sigmoid(point.logits)
            curvature = point.problem.s * p * (1 - p)
            return (self._bordered * curvature[:, :, None]).mT @ self._bordered
        hessian = point.theta.new_zeros(n_labels, width, width)
        step = max(1, _HESSIAN_ENTRIES // (n_labels * width))
        for start in range(0, len(self._bordered), step):
            part = slice(start, start + step)
            X = self._bordered[part]
            p = torch.sigmoid(point.logits[:, part])
            curvature = point.problem.s[:, part] * p * (1 - p)
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
