r"""Newton steps by preconditioned conjugate gradients, which need products with the Hessians only.

Every step of conjugate gradients lowers a quadratic model by a known amount. What the last few steps lowered it by is a
lower bound, and mostly a close one, of how far it was above its minimum before them.

Sources: M. Hestenes, E. Stiefel, "Methods of conjugate gradients for solving linear systems", J. Res. Natl. Bur. Stand.
1952, theorem 6:1; Z. Strakos, P. Tichy, "On error estimation in the conjugate gradient method and why it works in
finite precision computations", ETNA 2002; S. Eisenstat, H. Walker, "Choosing the forcing terms in an inexact Newton
method", SIAM J. Sci. Comput. 1996.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial.features._scaled import Bfloat16Columns
from skpartial.solvers.convex._logistic import rarer
from skpartial.solvers.convex._newton import Design, NewtonSolver
from skpartial.solvers.convex._sketch import Sketch

__all__ = ["ConjugateGradientSolver"]

# Steps whose descent tells how far the model was above its minimum before them.
_DELAY, _SHORT_DELAY = 5, 2
_FF, _EX, _WARM = 1.0, .5, False
_MAX_STEPS = 200
# Share of a model's descent that may be left: at most and at least, and in bfloat16, which cannot tell less.
_MOST_LEFT, _LEAST_LEFT = 0.3, {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 1e-3}
# Share of the goal that may be left.
_SHARE_OF_GOAL = 0.3


# What counts of the upper bound on what is left that the penalty gives. The bound is too large by as much as the
# curvature exceeds the penalty in the directions of the residual.
_SHARE_OF_BOUND = 1e-2


class ConjugateGradientSolver(NewtonSolver):
    """Newton's method with inner systems solved by conjugate gradients.

    Parameters
    ----------
    problem, design, theta, penalty, goal
        As for `NewtonSolver`.
    sketch : Sketch
        Preconditions.
    products : Bfloat16Columns or None, default=None
        The same design in a faster type, for products with the Hessians.
    """

    def __init__(
        self,
        problem, design, theta, penalty, goal,
        sketch: Sketch,
        products: Bfloat16Columns | None = None,
    ) -> None:
        super().__init__(problem, design, theta, penalty, goal)
        self.sketch = sketch
        self.products = products
        self.hessian_dtype = theta.dtype if products is None else torch.bfloat16

    def update_hessian(self) -> None:
        self.curvature = torch.empty_like(self.logits, dtype=self.hessian_dtype)
        for part in self.problem.blocks():
            self.curvature[part] = self.problem.curvature(part, rarer(self.logits[part]))

    def inner_solve(self) -> None:
        self.direction = torch.zeros_like(self.theta)
        self.promised = torch.zeros_like(self.value)
        self.left = torch.zeros_like(self.value)
        self.ratio = torch.ones_like(self.value)
        products = self.design if self.products is None else self.products
        if len(going:=torch.nonzero(~self.finished).squeeze(1)) < len(self.theta): products = products.take(going)
        going = torch.nonzero(~self.finished).squeeze(1)
        curvature = self.curvature[going] if len(going) < len(self.theta) else self.curvature
        penalty = self.penalty[going].to(self.theta.dtype)
        inverse = self.sketch.inverse(self.total_curvature[going], self.problem.alpha[going])
        goal = _SHARE_OF_GOAL * self.goal * self.value[going].abs()
        value = self.value[going].abs()
        least_left = _LEAST_LEFT[self.hessian_dtype]
        residual, step = -self.gradient[going], torch.zeros_like(self.gradient[going])
        energy = torch.zeros_like(value)
        first0 = None
        if _WARM and hasattr(self, "prev") and len(self.prev)==len(self.theta):
            first0 = 0.5*_dots(residual, inverse(residual))
            d = self.prev[going]
            image = self.products.backward(self.products.forward(d).mul_(curvature)).addcmul_(d, penalty)
            bend = _dots(d, image)
            c = torch.where(bend > 0, _dots(residual, d) / bend.clamp(min=1e-300), 0.0)
            energy = 0.5*c*c*bend
            along = c.to(d.dtype)[:, None]
            step = d * along
            residual = residual - image * along
        p = z = inverse(residual)
        size = _dots(residual, z)
        first = 0.5 * size if first0 is None else first0
        least = torch.finfo(step.dtype).eps * size.clamp(min=0)
        done = torch.zeros_like(going, dtype=torch.bool)
        falls = []
        self.n_cg = 0
        if first0 is not None: self.n_cg += 1
        for i in range(_MAX_STEPS):
            self.n_cg += 1
            image = products.backward(products.forward(p).mul_(curvature)).addcmul_(p, penalty)
            bend = _dots(p, image)
            # A label whose numbers have come to the end of their digits stays where it is.
            moves = (size > least) & (bend > 0)
            length = torch.where(moves, size / bend.where(moves, bend.new_ones(())), 0.0)
            falls = [*falls, 0.5 * length * size][-_DELAY:]
            energy = energy + falls[-1]
            along = length.to(step.dtype)[:, None]
            step = torch.addcmul(step, p, along)
            residual = torch.addcmul(residual, image, along, value=-1)
            left = torch.stack(falls).sum(0) if len(falls) == _DELAY else torch.full_like(energy, float("inf"))
            soon = torch.stack(falls[-_SHORT_DELAY:]).sum(0)
            share = (_FF*(energy / value)**_EX).clamp(min=least_left, max=_MOST_LEFT)
            far = (soon <= share * energy) & (share * energy > goal)
            bounded = torch.maximum(left, _SHARE_OF_BOUND * _bound(residual, penalty))
            done |= far | (bounded <= goal) | ~moves
            if bool(done.all()) or i == _MAX_STEPS - 1:
                self._put(going, step, energy, bounded, first)
                break
            if 2 * int(done.sum()) >= len(done):
                self._put(going, step, energy, bounded, first)
                kept = torch.nonzero(~done).squeeze(1)
                products = products.take(kept)
                going, curvature, penalty, goal, value, first, least, done = (
                    x[kept] for x in (going, curvature, penalty, goal, value, first, least, done)
                )
                residual, step, p, size, energy = (x[kept] for x in (residual, step, p, size, energy))
                moves = moves[kept]
                falls = [fall[kept] for fall in falls]
                inverse = self.sketch.inverse(self.total_curvature[going], self.problem.alpha[going])
            z = inverse(residual)
            before, size = size, _dots(residual, z)
            share = torch.where(moves, size / before.where(moves, before.new_ones(())), 0.0)
            p = torch.addcmul(z, p, share.to(p.dtype)[:, None])

    def _put(self, going, step, energy, left, first):
        self.direction[going] = step
        self.promised[going] = energy
        self.left[going] = left
        self.ratio[going] = (energy / first.clamp(min=1e-300)).clamp(min=1)

    def line_search(self):
        super().line_search()
        self.prev = self.direction

    def estimate_gap(self) -> Tensor:
        inverse = self.sketch.inverse(self.total_curvature, self.problem.alpha)
        return torch.maximum(self.left, self.ratio * 0.5 * _dots(self.gradient, inverse(self.gradient)))


def _dots(left: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.vecdot(left, right).double()


def _bound(residual: Tensor, penalty: Tensor) -> Tensor:
    """How far above their minima models are at most that are curved by the penalty alone, but for the intercept."""
    squares = torch.where(penalty > 0, residual.square() / penalty, 0.0)
    return 0.5 * squares.sum(1, dtype=torch.float64)
