"""Labels on their way to their optima: steps by a rule, and Newton steps by the Hessians themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial.features._base import overflow_error
from skpartial.features._scaled import NarrowFeatures
from skpartial.solvers.convex._conjugate_gradients import newton_steps
from skpartial.solvers.convex._course import Course, Products
from skpartial.solvers.convex._directions import Direction
from skpartial.solvers.convex._logistic import LogisticProblem, Point

__all__ = ["Descent"]

# Share of what a label may end above its optimum by that conjugate gradients may leave.
_SHARE_LEFT = 0.9


class Descent:
    """Where some labels stand, and steps from there.

    Parameters
    ----------
    problem : LogisticProblem
        The data term.
    products : Products
        Features in the coordinates of the descent.
    rule : Direction
        Gives directions.
    start : Tensor of shape (k, d + 1)
        Where to start, in these coordinates.
    penalty : Tensor of shape (d + 1,)
        What alpha is multiplied by for each parameter, 0 for the intercept.
    narrow : NarrowFeatures or None, default=None
        The same features in a type of fewer digits and faster products.

    Attributes
    ----------
    point : Point
        Parameters, logits, and what follows from them.
    gradient : Tensor of shape (k, d + 1)
        Intercept last.
    slope : Tensor of float64, shape (k,)
        Derivative along the last direction where the step began.
    """

    def __init__(
        self,
        problem: LogisticProblem,
        products: Products,
        rule: Direction,
        start: Tensor,
        penalty: Tensor,
        narrow: NarrowFeatures | None = None,
    ) -> None:
        self.rule = rule
        self.course = Course(products, narrow, problem.alpha.to(penalty.dtype)[:, None] * penalty)
        plain = not bool((start[:, :-1] != 0).any())
        logits = start[:, -1:].expand(-1, problem.s.shape[1]).clone() if plain else self.course.logits(start)
        self.point = Point(problem, start, logits, penalty)
        self.gradient = self.course.begin(self.point)

    def step(self) -> Tensor:
        """Go along the directions of the rule.

        Returns
        -------
        Tensor of float64, shape (k,)
            How far the objectives are above their minima, as far as the rule knows.
        """
        direction = self.rule(self.point, self.gradient)
        if self.rule.exact:
            return self._go_to_minima(direction)
        self._go(direction)
        return 0.5 * self.slope.abs()

    def newton_step(self, enough: Tensor, urgent: Tensor) -> Tensor:
        """Go to about the minima of the quadratic models, which conjugate gradients find.

        Parameters
        ----------
        enough : Tensor of float64, shape (k,)
            How far above its optimum a label may end.
        urgent : Tensor of bool, shape (k,)
            Labels that are waited for.

        Returns
        -------
        Tensor of float64, shape (k,)
            How far the objectives are above their minima: what conjugate gradients leave, and what the step brings less
            than the model promised. The rule has a say as well.
        """
        rule, hessian = self.rule, self.course.hessian(self.point)
        direction, left = newton_steps(
            hessian,
            lambda v: rule(self.point, v).neg_(),
            self.gradient,
            self.course.penalty,
            _SHARE_LEFT * enough,
            urgent,
        )
        above = left + self._go_to_minima(direction)
        return torch.maximum(above, -0.5 * _dots(self.gradient, rule(self.point, self.gradient)))

    def _go_to_minima(self, direction: Tensor) -> Tensor:
        """Move to the minima of quadratic models; returns about how far above theirs the objectives then are.

        Where a logit moves by t, the Hessian changes by a factor of exp(t) at most (F. Bach, "Self-concordant analysis
        for logistic regression", EJS 2010), and the gradient at the end of the step by about as large a share of what
        it was. Where that is far, more may be left than the models promised.
        """
        reach = torch.zeros_like(self.point.value)
        length = self._go(direction, reach)
        return 0.5 * self.slope.abs() * ((1 - length).square() + reach.square())

    def _go(self, direction: Tensor, reach: Tensor | None = None) -> Tensor:
        """Move along directions; returns the lengths of the steps."""
        self.slope = _dots(self.gradient, direction)
        if not bool((torch.isfinite(self.slope) & torch.isfinite(self.point.value)).all()):
            raise overflow_error(self.gradient.dtype)
        length = self.course.advance(self.point, direction, self.slope, reach)
        before, self.gradient = self.gradient, self.course.gradient(self.point)
        self.rule.learn(direction.mul_(length), self.gradient - before)
        return length[:, 0].double()

    def renew(self, finished: Tensor, stuck: Tensor) -> None:
        """Compute logits and gradients in full."""
        self.gradient = self.course.renew(self.point, self.gradient, self.rule, finished, stuck)

    def keep(self, labels: Tensor) -> None:
        """Restrict to some of the labels, given as indices."""
        self.gradient = self.gradient[labels]
        for part in (self.point, self.rule, self.course):
            part.keep(labels)


def _dots(left: Tensor, right: Tensor) -> Tensor:
    return (left.double() * right.double()).sum(1)
