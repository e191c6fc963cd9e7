r"""Newton steps for many labels at once, by conjugate gradients on the Hessians themselves.

What a quasi-Newton model promises rests on the directions that were gone along. Conjugate gradients ask the Hessian.
Every step of them lowers a quadratic model by a known amount, and what the last few steps lowered it by is a lower
bound, and mostly a close one, of how far it was above its minimum before them. It is far off where most of what can be
gained lies in directions of little curvature, which the first steps hardly touch. That the penalty curves all
directions gives an upper bound, mostly a poor one; a part of it counts, so that such steps are not taken for the last.

Sources: M. Hestenes, E. Stiefel, "Methods of conjugate gradients for solving linear systems", J. Res. Natl. Bur. Stand.
1952, theorem 6:1; Z. Strakos, P. Tichy, "On error estimation in the conjugate gradient method and why it works in
finite precision computations", ETNA 2002.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["newton_steps"]

# Steps whose descent tells how far the model was above its minimum before them.
_DELAY = 5
_MAX_STEPS = 25
# What counts of the upper bound that the penalty gives. The bound is too large by as much as the curvature exceeds the
# penalty in the directions of the residual.
_SHARE_OF_BOUND = 1e-2


def newton_steps(
    hessian: Callable[[Tensor], Tensor],
    inverse: Callable[[Tensor], Tensor],
    gradient: Tensor,
    penalty: Tensor,
    enough: Tensor,
    urgent: Tensor,
) -> tuple[Tensor, Tensor]:
    """Steps towards the minima of quadratic models.

    Parameters
    ----------
    hessian, inverse : callable
        Hessians and approximate inverses of them, both symmetric and positive definite, times vectors (L, width).
    gradient : Tensor of shape (L, width)
        At the points where the steps begin.
    penalty : Tensor of shape (L, width)
        Part of the Hessians that is known, a diagonal of them.
    enough : Tensor of float64, shape (L,)
        How far above its minimum a model may end.
    urgent : Tensor of bool, shape (L,)
        Labels that are waited for.

    Returns
    -------
    step : Tensor of shape (L, width)
        One a label.
    left : Tensor of float64, shape (L,)
        About how far above its minimum the model is, infinite where too few steps were made to tell.
    """
    residual, step = -gradient, torch.zeros_like(gradient)
    towards = inverse(residual)
    size = _dots(residual, towards)
    least = torch.finfo(gradient.dtype).eps * size.clamp(min=0)
    direction = towards
    falls: list[Tensor] = []
    for _ in range(_MAX_STEPS):
        image = hessian(direction)
        bend = _dots(direction, image)
        # A label whose numbers have come to the end of their digits stays where it is.
        going = (size > least) & (bend > 0)
        length = torch.where(going, size / bend.where(going, bend.new_ones(())), 0.0)
        falls.append(0.5 * length * size)
        del falls[:-_DELAY]
        along = length.to(step.dtype)[:, None]
        step.addcmul_(direction, along)
        residual = residual.addcmul(image, along, value=-1)
        left = torch.stack(falls).sum(0) if len(falls) == _DELAY else torch.full_like(size, float("inf"))
        left = torch.maximum(left, _SHARE_OF_BOUND * _bound(residual, penalty))
        if bool((left <= enough)[urgent].all()):
            break
        towards = inverse(residual)
        before, size = size, _dots(residual, towards)
        share = torch.where(going, size / before.where(going, before.new_ones(())), 0.0)
        direction = torch.addcmul(towards, direction, share.to(step.dtype)[:, None])
    return step, left


def _bound(residual: Tensor, penalty: Tensor) -> Tensor:
    """How far above their minima models are at most that are curved by the penalty alone, but for the intercept."""
    squares = torch.where(penalty > 0, residual.square() / penalty, 0.0)
    return 0.5 * squares.sum(1, dtype=torch.float64)


def _dots(left: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.vecdot(left, right).double()
