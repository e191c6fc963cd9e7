r"""Newton steps by preconditioned conjugate gradients, which need only products with the Hessians.

A step of conjugate gradients lowers a quadratic model by a known amount. For a residual r, the preconditioner P
predicts a remaining descent of :math:`r^\top P^{-1} r / 2`. This is too low where P overestimates the Hessian. The
factor is estimated from past steps: their descent divided by the prediction before them.

The sketch, which all labels share, misses the curvature of labels that become separable. L-BFGS updates from the last
Newton steps and the gradient changes over them add it.

Sources: M. Hestenes, E. Stiefel, "Methods of conjugate gradients for solving linear systems", J. Res. Natl. Bur. Stand.
1952, theorem 6:1; Z. Strakos, P. Tichy, "On error estimation in the conjugate gradient method and why it works in
finite precision computations", ETNA 2002; S. Eisenstat, H. Walker, "Choosing the forcing terms in an inexact Newton
method", SIAM J. Sci. Comput. 1996; J. Morales, J. Nocedal, "Automatic preconditioning by limited memory quasi-Newton
updating", SIAM J. Optim. 2000.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._newton import Design, NewtonSolver, Products
from skpartial.solvers.convex._sketch import Sketch

__all__ = ["ConjugateGradientSolver", "InnerSystems"]

# Number of steps whose descent is compared with a prediction; if convergence is slow, fewer steps are not enough.
_DELAY = 5
# Descent that may remain after an inner solve: near the optimum this share of the tolerance, else this share of the
# descent of the model. The latter falls with the square root of the relative descent, like the error of the model.
_REMAINING_SHARE = 0.5
# Share of the upper bound on the remaining descent, from the penalty, that is assumed. The bound is too large by the
# factor by which the curvature exceeds the penalty in the directions of the residual.
_SHARE_OF_BOUND = 1e-2
# Number of Newton steps for the updates of the preconditioner. In measurements, three save a quarter to a half of the
# conjugate-gradient steps where these are many, and five at most a tenth more.
_PAIRS = 3


class InnerSystems:
    """Quadratic models of some labels, and the state of their conjugate gradients.

    Parameters
    ----------
    hessian, inverse : callable
        Products of vectors (k, width) with the Hessians and with approximate inverses, both symmetric and positive
        definite.
    gradient : Tensor of shape (k, width)
        Gradients where the Newton steps begin.
    ratio : Tensor of float64, shape (k,)
        Factor by which predictions are known to be too low; 0 if unknown.

    Attributes
    ----------
    solution, residual : Tensor of shape (k, width)
        Newton steps so far, and minus the gradients of the models there.
    descent : Tensor of float64, shape (k,)
        Descent of the models so far.
    recent : Tensor of float64, shape (k,)
        Descent of the models in the last two steps.
    moves : Tensor of bool, shape (k,)
        Labels whose model can still decrease beyond rounding; the others do not move.
    """

    def __init__(
        self,
        hessian: Callable[[Tensor], Tensor],
        inverse: Callable[[Tensor], Tensor],
        gradient: Tensor,
        ratio: Tensor,
    ) -> None:
        self.hessian, self.inverse, self.ratio = hessian, inverse, ratio
        self.residual, self.solution = -gradient, torch.zeros_like(gradient)
        self._conjugate = inverse(self.residual)
        self._squared_norm = _dots(self.residual, self._conjugate)
        self._least = torch.finfo(gradient.dtype).eps * self._squared_norm.clamp(min=0)
        self.descent = torch.zeros_like(self._squared_norm)
        self.moves = torch.ones_like(self._squared_norm, dtype=torch.bool)
        #: For the last steps: the descent of the models in each, and the prediction before it.
        self._descents: list[Tensor] = []
        self._predictions: list[Tensor] = []

    def step(self) -> None:
        """Take one step of conjugate gradients."""
        image = self.hessian(self._conjugate)
        curvature = _dots(self._conjugate, image)
        self.moves = self.moves & (self._squared_norm > self._least) & (curvature > 0)
        length = torch.where(self.moves, self._squared_norm / curvature.where(self.moves, 1.0), 0.0)
        self._descents = [*self._descents, 0.5 * length * self._squared_norm][-_DELAY:]
        self._predictions = [*self._predictions, 0.5 * self._squared_norm][-_DELAY:]
        self.descent = self.descent + self._descents[-1]
        self.recent = torch.stack(self._descents[-2:]).sum(0)
        step = length.to(image.dtype)[:, None]
        self.solution.addcmul_(self._conjugate, step)
        self.residual.addcmul_(image, step, value=-1)
        preconditioned = self.inverse(self.residual)
        before, self._squared_norm = self._squared_norm, _dots(self.residual, preconditioned)
        share = torch.where(self.moves, self._squared_norm / before.where(self.moves, 1.0), 0.0)
        self._conjugate = torch.addcmul(preconditioned, self._conjugate, share.to(image.dtype)[:, None])
        if len(self._descents) == _DELAY:
            ratio = torch.stack(self._descents).sum(0) / self._predictions[0].where(self.moves, 1.0)
            self.ratio = torch.maximum(self.ratio, ratio.clamp(min=1))
        self.ratio = torch.where(self.moves, self.ratio, self.ratio.clamp(min=1))

    @property
    def remaining(self) -> Tensor:
        """Estimated distance of the models above their minima, shape (k,); infinite after too few steps."""
        return torch.where(self.ratio > 0, self.ratio * 0.5 * self._squared_norm, float("inf"))


def _updated(inverse: Callable[[Tensor], Tensor], pairs: list[tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
    """L-BFGS update of inverse Hessians by pairs of steps and gradient changes, oldest first, with products of 1."""

    def times(vectors: Tensor) -> Tensor:
        lengths = []
        for step, change in reversed(pairs):
            lengths.append(torch.linalg.vecdot(step, vectors)[:, None])
            vectors = torch.addcmul(vectors, change, lengths[-1], value=-1)
        result = inverse(vectors)
        for (step, change), length in zip(pairs, reversed(lengths)):
            result.addcmul_(step, length - torch.linalg.vecdot(change, result)[:, None])
        return result

    return times


class ConjugateGradientSolver(NewtonSolver):
    """Newton's method with inner systems solved by conjugate gradients.

    Parameters
    ----------
    problem, design, theta, penalty, goal
        As in `NewtonSolver`.
    sketch : Sketch
        The preconditioner, updated by the last Newton steps.
    fast : Products or None, default=None
        The design in a faster type, for products with the Hessians.
    """

    def __init__(
        self,
        problem: LogisticProblem,
        design: Design,
        theta: Tensor,
        penalty: Tensor,
        goal: float,
        sketch: Sketch,
        fast: Products | None = None,
    ) -> None:
        super().__init__(problem, design, theta, penalty, goal)
        self.sketch, self.fast = sketch, fast
        self.curvature_dtype = theta.dtype if fast is None else torch.bfloat16
        #: The last Newton steps, each with the change of the gradient.
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.remaining, self.ratio = theta.new_zeros(2, len(theta), dtype=torch.float64)

    def _hessian(self, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Products with the Hessians of some labels."""
        products = self.design.take(labels) if self.fast is None else self.fast
        curvature = self.curvature[labels] if len(labels) < len(self.theta) else self.curvature
        penalty = self.penalty[labels].to(self.theta.dtype)

        def times(vectors: Tensor) -> Tensor:
            return products.backward(products.forward(vectors).mul_(curvature)).addcmul_(vectors, penalty)

        return times

    def _inverse(self, labels: Tensor) -> Callable[[Tensor], Tensor]:
        """Products with approximate inverse Hessians of some labels."""
        return self.sketch.inverse(self.total_curvature[labels], self.problem.alpha[labels])

    def inner_solve(self) -> None:
        self.direction = torch.zeros_like(self.theta)
        labels = torch.nonzero(~self.finished).squeeze(1)
        inverse = _updated(self._inverse(labels), [(step[labels], change[labels]) for step, change in self.pairs])
        inner = InnerSystems(self._hessian(labels), inverse, self.gradient[labels], self.ratio[labels])
        value, penalty = self.value[labels].abs(), self.penalty[labels]
        goal = _REMAINING_SHARE * self.goal * value
        # In exact arithmetic, the number of parameters is the maximal number of steps.
        for _ in range(self.theta.shape[1]):
            inner.step()
            allowed = inner.descent * (inner.descent / value).sqrt().clamp(max=_REMAINING_SHARE)
            remaining = torch.maximum(inner.remaining, _SHARE_OF_BOUND * _bound(inner.residual, penalty))
            done = (inner.recent <= allowed) & (allowed > goal) | (remaining <= goal) | ~inner.moves
            # A product for few labels takes nearly as long as for many: the rest continue in the next Newton step.
            if 2 * int(done.sum()) >= len(done):
                break
        self.direction[labels], self.remaining[labels], self.ratio[labels] = inner.solution, remaining, inner.ratio

    def line_search(self) -> None:
        theta, gradient = self.theta.clone(), self.gradient
        super().line_search()
        step, change = self.theta - theta, self.gradient - gradient
        product = torch.linalg.vecdot(step, change)[:, None]
        # Rounding can flip the sign of the curvature of a tiny step: discard such a pair.
        least = torch.finfo(theta.dtype).eps * (step.norm(dim=1) * change.norm(dim=1))[:, None]
        scale = torch.where(product > least, product, float("inf")).rsqrt()
        self.pairs = [*self.pairs, (step * scale, change * scale)][-_PAIRS:]

    def estimate_gap(self) -> Tensor:
        inverse = self._inverse(torch.arange(len(self.theta), device=self.theta.device))
        above = self.ratio.clamp(min=1) * 0.5 * _dots(self.gradient, inverse(self.gradient))
        # Do not report convergence before predictions have been compared with steps.
        least = torch.where(self.ratio > 0, self.remaining, 4 * self.goal * self.value.abs())
        return torch.maximum(above, least)

    def keep(self, labels: Tensor) -> None:
        super().keep(labels)
        self.remaining, self.ratio = self.remaining[labels], self.ratio[labels]
        self.pairs = [(step[labels], change[labels]) for step, change in self.pairs]


def _bound(residual: Tensor, penalty: Tensor) -> Tensor:
    """Upper bound on the distance of models above their minima, from the penalty; leaves out the intercept."""
    return 0.5 * torch.where(penalty > 0, residual.square() / penalty, 0.0).sum(1, dtype=torch.float64)


def _dots(left: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.vecdot(left, right).double()
