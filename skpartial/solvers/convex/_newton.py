r"""Newton's method for many logistic problems at once, each with its own step length and convergence.

The stages are those of scikit-learn's `NewtonSolver`: setup, Hessian, inner solve, line search, convergence. Subclasses
define the inner solve.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from skpartial.features._base import overflow_error
from skpartial.solvers.convex._logistic import LogisticProblem, smaller_probability

__all__ = ["Design", "NewtonSolver", "Products"]

# Maximal number of evaluations per line search: bisection then finds the minimum to the precision of float32.
_MAX_LINE_SEARCH = 30
# A line search ends when the derivative along the line has fallen to this share. A more exact search saves no Newton
# steps; a less exact one costs some where probabilities become certain.
_LINE_TOL = 0.2


class Products(Protocol):
    """Products with a matrix whose last column is all ones."""

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, n) for weights and intercepts (k, d + 1)."""

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d + 1) weighted by scores (k, n)."""


class Design(Products, Protocol):
    """Interface of the features for the solver."""

    def to_features(self, theta: Tensor) -> Tensor:
        """Parameters (k, d + 1) for the features as passed."""

    def take(self, labels: Tensor) -> Design:
        """The design of some of the labels, given as indices."""


class NewtonSolver(ABC):
    """Newton's method for all labels of a problem.

    Parameters
    ----------
    problem : LogisticProblem
        The data terms of k labels.
    design : Design
        The features of these labels.
    theta : Tensor of shape (k, d + 1)
        Start: weights, and intercepts in the last column. Overwritten.
    penalty : Tensor of shape (d + 1,)
        Factor of alpha for each parameter, 0 for the intercept.
    goal : float
        Relative gap at which a label has converged.

    Attributes
    ----------
    logits, residual, curvature : Tensor of shape (k, n)
        Logits, and first and second derivatives of the data terms in them.
    value : Tensor of float64, shape (k,)
        Objectives.
    total_curvature : Tensor of float64, shape (k,)
        Second derivatives, summed over the rows.
    gradient, direction : Tensor of shape (k, d + 1)
        Gradients of the objectives, and the last Newton step before the line search.
    slope : Tensor of float64, shape (k,)
        Derivative along the direction at the start of the step.
    gap : Tensor of float64, shape (k,)
        Estimated relative gaps after the step.
    finished, stuck : Tensor of bool, shape (k,)
        Labels that have converged or are stuck; labels whose objective cannot decrease beyond rounding.
    """

    direction: Tensor

    def __init__(self, problem: LogisticProblem, design: Design, theta: Tensor, penalty: Tensor, goal: float) -> None:
        self.problem, self.design, self.theta, self.goal = problem, design, theta, goal
        self.penalty = problem.alpha[:, None] * penalty
        #: The curvature may have a faster type than the logits.
        self.curvature_dtype = theta.dtype
        #: Labels of the original problem that are still in the products.
        self.active = torch.arange(len(theta), device=theta.device)

    def solve(self, max_iter: int, report: Callable[[NewtonSolver], bool]) -> None:
        """Take steps until all labels are finished, `max_iter` is reached, or `report` returns True after a step."""
        self.setup()
        for _ in range(max_iter):
            self.inner_solve()
            self.line_search()
            self.check_convergence()
            if report(self) or bool(self.finished.all()):
                break
            if self.drops_finished:
                self.keep(torch.nonzero(~self.finished).squeeze(1))

    @property
    def drops_finished(self) -> bool:
        """Whether to drop finished labels: this copies the others, which pays off once they are few."""
        n_finished, n_labels = int(self.finished.sum()), len(self.finished)
        return n_labels / 2 <= n_finished < n_labels

    def setup(self) -> None:
        """Compute logits, objectives and gradients at the start."""
        theta = self.theta
        self.value, self.total_curvature, self.slope = theta.new_empty(3, len(theta), dtype=torch.float64)
        self.gap = torch.full_like(self.value, float("inf"))
        self.finished, self.stuck, self.idle = theta.new_zeros(3, len(theta), dtype=torch.bool)
        only_intercepts = not bool(theta[:, :-1].any())
        shape = self.problem.s.shape
        self.logits = theta[:, -1:].expand(shape).clone() if only_intercepts else self.design.forward(theta)
        self.residual = torch.empty_like(self.logits)
        self.curvature = torch.empty_like(self.logits, dtype=self.curvature_dtype)
        for part in self.problem.blocks():
            q = smaller_probability(self.logits[part])
            self._evaluate(part, q, self.problem.residual(part, self.logits[part], q))
        self.update_gradient()

    def _evaluate(self, part: slice, q: Tensor, residual: Tensor) -> None:
        """Compute objectives and derivatives of a slice of labels; q are the smaller class probabilities."""
        curvature, logits = self.problem.curvature(part, q), self.logits[part]
        self.residual[part], self.curvature[part] = residual, curvature
        self.total_curvature[part] = self.problem.sum_over_processes(curvature.sum(1).double())
        squares = (self.theta[part].double().square() * self.penalty[part]).sum(1)
        self.value[part] = self.problem.data_term(part, logits) + 0.5 * squares

    def update_gradient(self) -> None:
        """Compute the gradients at the current logits, by full products."""
        self.gradient = self.design.backward(self.residual).addcmul_(self.theta, self.penalty.to(self.theta.dtype))

    @abstractmethod
    def inner_solve(self) -> None:
        """Set `direction` so that its products with the Hessians are about the negative gradients."""

    @abstractmethod
    def estimate_gap(self) -> Tensor:
        """Distance of the objectives above their minima after a step, estimated from the gradients there."""

    def line_search(self) -> None:
        """Move along the directions to the approximate minimum on each line, and compute the gradients there.

        This is Newton's method within a bracket, on the logits, which needs no further products with the features.
        """
        self.direction[self.finished] = 0
        direction, penalty = self.direction.double(), self.penalty
        self.slope = (self.gradient * direction).sum(1)
        if not bool((torch.isfinite(self.slope) & torch.isfinite(self.value)).all()):
            raise overflow_error(self.gradient.dtype)
        self.value_before = self.value.clone()
        linear = (direction * self.theta * penalty).sum(1)
        quadratic = (direction.square() * penalty).sum(1)
        change = self.design.forward(self.direction)
        for part in self.problem.blocks():
            self._search(part, change[part], linear[part], quadratic[part])
        self.update_gradient()

    def _search(self, part: slice, change: Tensor, linear: Tensor, quadratic: Tensor) -> None:
        """Move a slice of labels, given changes of their logits and derivatives of the penalty along the directions."""
        problem, start, slope, value = self.problem, self.logits[part], self.slope[part], self.value[part]
        step = torch.where(slope < 0, 1.0, 0.0).to(torch.float64)
        low, high = torch.zeros_like(step), torch.full_like(step, float("inf"))
        for n_left in reversed(range(_MAX_LINE_SEARCH)):
            logits = torch.addcmul(start, change, step.to(change.dtype)[:, None])
            q = smaller_probability(logits)
            residual = problem.residual(part, logits, q)
            data_slope = problem.sum_over_processes(torch.linalg.vecdot(residual, change).double())
            end_slope = data_slope + linear + step * quadratic
            # By convexity, a step beyond the minimum ends above it by at most the step times the derivative at its end.
            done = (end_slope.abs() <= _LINE_TOL * slope.abs()) & (step * end_slope <= _LINE_TOL * value) | (slope >= 0)
            if not n_left or bool(done.all()):
                break
            data_curvature = torch.linalg.vecdot(problem.curvature(part, q).mul_(change), change).double()
            end_curvature = problem.sum_over_processes(data_curvature) + quadratic
            low, high = torch.where(end_slope < 0, step, low), torch.where(end_slope >= 0, step, high)
            proposal = step - end_slope / end_curvature.clamp(min=1e-300)
            inside = (proposal > low) & (proposal < high) & (proposal < 8 * step)
            fallback = torch.where(torch.isinf(high), 4 * step, 0.5 * (low + high))
            # The last evaluation is at a point of descent.
            new = torch.where(inside, proposal, fallback) if n_left > 1 else low
            step = torch.where(done, step, new)
        self.theta[part].addcmul_(self.direction[part], step.to(self.theta.dtype)[:, None])
        self.logits[part] = logits
        self._evaluate(part, q, residual)

    def check_convergence(self) -> None:
        """Estimate the gaps, and mark the finished labels."""
        gap = self.estimate_gap() / self.value.abs().clamp(min=torch.finfo(torch.float64).tiny)
        self.gap = torch.where(self.finished, self.gap, gap)
        idle = self.value_before - self.value <= torch.finfo(self.theta.dtype).eps * self.value_before.abs()
        # After two steps in a row with a descent below rounding, no further descent is possible.
        self.stuck, self.idle = idle & self.idle & (self.gap > self.goal), idle
        self.finished |= (self.gap <= self.goal) | self.stuck

    def keep(self, labels: Tensor) -> None:
        """Keep only some of the labels, given as indices."""
        self.problem, self.design = self.problem.take(labels), self.design.take(labels)
        for name in (
            "active",
            "theta",
            "penalty",
            "logits",
            "residual",
            "curvature",
            "value",
            "total_curvature",
            "gradient",
            "gap",
            "idle",
            "finished",
            "stuck",
        ):
            setattr(self, name, getattr(self, name)[labels])
