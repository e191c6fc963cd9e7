r"""Directions of descent for many logistic problems at once: quasi-Newton, and exact Newton where that is cheap.

The quasi-Newton direction is that of L-BFGS, whose first guess of the inverse Hessian is made anew in every step: a
randomised sketch of the Gram matrix, which all labels share, weighted by each label's present curvature. The sketch
takes care of the correlation of the features, the curvature of labels that become separable, and the pairs of L-BFGS of
the rest.

Sources: D. Liu, J. Nocedal, "On the limited memory BFGS method", Math. Program. 1989; Z. Frangella, J. Tropp, M. Udell,
"Randomized Nystrom preconditioning", SIAM J. Matrix Anal. Appl. 2023.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from skpartial.solvers._features import Features, overflow_error
from skpartial.solvers._logistic import Point

__all__ = ["Direction", "ExactNewton", "QuasiNewton"]

_SKETCH_RANK = 64
_PAIRS = 10
# Entries of the temporary from which exact Hessians are summed up.
_HESSIAN_ENTRIES = 1 << 20


class Direction:
    """Gives every label a direction of descent; what is learned on the way is for subclasses."""

    def __call__(self, point: Point, gradient: Tensor) -> Tensor:
        """Directions of shape (L, d + 1), intercept last, from gradients of the same shape."""
        raise NotImplementedError

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


class QuasiNewton(Direction):
    """L-BFGS on a shared sketch.

    Parameters
    ----------
    features : Features
        X, of n rows.
    row_weight : Tensor of float64, shape (n,)
        What each row counts for in the sketch; sums to 1.
    penalty : Tensor of shape (d + 1,)
        What alpha is multiplied by for each weight, intercept last.
    """

    def __init__(self, features: Features, row_weight: Tensor, penalty: Tensor) -> None:
        self._steps: list[Tensor] = []
        self._changes: list[Tensor] = []
        self._inverse_energies: list[Tensor] = []
        d = features.n_features
        rank = min(_SKETCH_RANK, d)
        # One seed for all: the answer to a convex problem shall not depend on the estimator's random state.
        generator = torch.Generator().manual_seed(0)
        test = torch.randn(rank, d, generator=generator, dtype=torch.float64).to(features.device)
        image = features.forward(test.to(features.dtype)) * row_weight.to(features.dtype)
        sketch = features.backward(image).double()
        if not bool(torch.isfinite(sketch).all()):
            raise overflow_error(features.dtype)
        # A shift of rounding size keeps the Cholesky factor real (Frangella et al., algorithm 2.1).
        shift = 10 * torch.finfo(features.dtype).eps * float(torch.linalg.matrix_norm(sketch)) / d**0.5 + 1e-300
        sketch += shift * test
        core = sketch @ test.T
        values, vectors = torch.linalg.eigh((core + core.T) / 2)
        usable = values > values[-1].clamp(min=1e-300) * 1e-13
        root = (vectors[:, usable] / values[usable].sqrt()).T @ sketch
        squares, axes = torch.linalg.eigh(root @ root.T)
        clear = squares > squares[-1].clamp(min=1e-300) * 1e-10
        basis = (axes[:, clear] / squares[clear].sqrt()).T @ root
        values = (squares[clear] - shift).clamp(min=0)
        # Directions that the sketch has not seen are taken to be curved like the least of those it has.
        self._rest = max(float(values[0]), 1e-9 * float(values[-1]))
        self._values = values.clamp(min=self._rest)
        # What the penalty adds along each direction of the sketch, and along the others.
        self._penalty = basis.square() @ penalty[:-1].double()
        self._rest_penalty = float(penalty[:-1].mean())
        self._basis = basis.to(features.dtype)

    def anew(self) -> QuasiNewton:
        """Directions from the same sketch, for labels of which nothing is learned yet."""
        other = copy.copy(self)
        other._steps, other._changes, other._inverse_energies = [], [], []
        return other

    def _first_guess(self, vector: Tensor, curvature: Tensor, alpha: Tensor) -> Tensor:
        """Approximate inverse Hessians times vectors of shape (L, d + 1)."""
        tiny = torch.finfo(vector.dtype).tiny
        curvature, alpha = curvature[:, None].clamp(min=tiny), alpha[:, None]
        rest = 1 / (curvature * self._rest + alpha * self._rest_penalty).clamp(min=tiny)
        seen = 1 / (curvature * self._values + alpha * self._penalty).clamp(min=tiny)
        weights = (vector[:, :-1] @ self._basis.T) * (seen - rest).to(vector.dtype)
        plain = vector[:, :-1] * rest.to(vector.dtype)
        intercept = vector[:, -1:] / curvature.to(vector.dtype)
        return torch.cat([torch.addmm(plain, weights, self._basis), intercept], dim=1)

    def __call__(self, point: Point, gradient: Tensor) -> Tensor:
        q = gradient.clone()
        shares = []
        for step, change, inverse in zip(self._steps[::-1], self._changes[::-1], self._inverse_energies[::-1]):
            share = inverse * _dot(step, q)
            q.addcmul_(change, share, value=-1)
            shares.append(share)
        if self._steps:
            # The last pair tells the size of the Hessian where it was gone along.
            change = self._changes[-1]
            both = point.curvature.repeat(2), point.problem.alpha.repeat(2)
            guess, other = self._first_guess(torch.cat([q, change]), *both).chunk(2)
            size = _dot(change, other) * self._inverse_energies[-1]
            guess /= torch.where(size > 0, size, 1)
        else:
            guess = self._first_guess(q, point.curvature, point.problem.alpha)
        for step, change, inverse, share in zip(self._steps, self._changes, self._inverse_energies, shares[::-1]):
            guess.addcmul_(step, share - inverse * _dot(change, guess))
        return guess.neg_()

    def learn(self, step: Tensor, change: Tensor) -> None:
        energy = _dot(step, change)
        # Rounding can turn the curvature of a step that hardly moves: such a pair teaches nothing.
        floor = 1e-3 * torch.finfo(step.dtype).eps * _dot(change, change).sqrt() * _dot(step, step).sqrt()
        self._inverse_energies.append(torch.where(energy > floor, 1 / energy, 0))
        self._steps.append(step)
        self._changes.append(change)
        for pairs in (self._steps, self._changes, self._inverse_energies):
            del pairs[:-_PAIRS]

    def keep(self, labels: Tensor) -> None:
        for pairs in (self._steps, self._changes, self._inverse_energies):
            pairs[:] = [pair[labels] for pair in pairs]

    def forget(self, labels: Tensor) -> None:
        for inverse in self._inverse_energies:
            inverse[labels] = 0


def _dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of the rows, shape (L, 1)."""
    return (left * right).sum(1, keepdim=True)
