"""Logits and gradients along a descent: by products in full, or by narrow ones that follow the steps in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from skpartial.features._base import row_sums
from skpartial.features._scaled import NarrowFeatures
from skpartial.solvers.convex._directions import Direction
from skpartial.solvers.convex._logistic import Point

__all__ = ["Course", "Products"]

# Narrow products are followed until the squared gradient has fallen to a share that is this at first and then such that
# the squared error is about this share of it; for so many steps at most. Above the last share they are given up.
_NARROW_PROGRESS = 1e-2
_NARROW_ERROR = 0.1
_NARROW_STEPS = 20
_NARROW_LEAST = 0.3


class Products(Protocol):
    """What a descent needs of features."""

    def forward(self, weights: Tensor) -> Tensor:
        """Scores (k, n) under weights (k, d)."""

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d) weighted by scores (k, n)."""


class Course:
    """Logits and gradients along a descent.

    With narrow products they follow the steps: what a step changes is computed in few digits and added up. As steps
    become smaller so do the errors, and from time to time everything is computed anew in full.

    Parameters
    ----------
    products : Products
        Features in full.
    narrow : NarrowFeatures or None
        Features in few digits, if that is faster.
    penalty : Tensor of shape (k, d + 1)
        L2 penalties of every label, intercept last.
    """

    def __init__(self, products: Products, narrow: NarrowFeatures | None, penalty: Tensor) -> None:
        self.products, self.narrow, self.penalty = products, narrow, penalty
        #: Whether the present gradient was computed in full.
        self.in_full = True
        self._steps, self._progress = 0, _NARROW_PROGRESS
        self._reference: Tensor | None = None
        self._buffers: Tensor | None = None

    def logits(self, theta: Tensor) -> Tensor:
        """Logits (k, n) of parameters, in full."""
        return self.products.forward(theta[:, :-1]).add_(theta[:, -1:])

    def begin(self, point: Point) -> Tensor:
        """Gradients at a point whose logits are exact."""
        self.in_full, self._steps, self._reference = True, 0, None
        self._data = self.products.backward(point.residual)
        return self._complete(point)

    def _complete(self, point: Point) -> Tensor:
        total = point.total.to(self._data.dtype)[:, None]
        return torch.cat([self._data, total], dim=1).addcmul_(point.theta, self.penalty)

    def advance(self, point: Point, direction: Tensor, slope: Tensor, reach: Tensor | None = None) -> Tensor:
        """Move along directions; returns the lengths of the steps."""
        if self.narrow is None:
            return point.advance(direction, self.products.forward(direction[:, :-1]), slope, reach=reach)
        # Large arrays that are made anew in every step cost more than what is done with them.
        if self._buffers is None:
            shape = (2, *point.logits.shape)
            self._buffers = torch.empty(shape, dtype=self.narrow.X.dtype, device=point.logits.device)
        along, self._change = self._buffers[:, : len(direction)]
        self.narrow.forward(direction[:, :-1], out=along)
        return point.advance(direction, along, slope, self._change, reach)

    def gradient(self, point: Point) -> Tensor:
        """Gradients after a step."""
        if self.narrow is None:
            return self.begin(point)
        self._data += self.narrow.backward(self._change)
        self.in_full, self._steps = False, self._steps + 1
        return self._complete(point)

    def hessian(self, point: Point) -> Callable[[Tensor], Tensor]:
        """Products with the Hessians at a point, by narrow products if there are."""
        products = self.products if self.narrow is None else self.narrow
        curvature = point.curvatures()

        def times(direction: Tensor) -> Tensor:
            along = products.forward(direction[:, :-1])
            change = along.add_(direction[:, -1:]).mul_(curvature)
            total = row_sums(change).to(direction.dtype)[:, None]
            image = torch.cat([products.backward(change).to(direction.dtype), total], dim=1)
            return image.addcmul_(direction, self.penalty)

        return times

    def is_due(self, slope: Tensor, finished: Tensor, stuck: Tensor) -> bool:
        """Whether it is time to compute anew."""
        if self._reference is None:
            self._reference = slope.abs()
        far = slope.abs() <= self._progress * self._reference
        # Labels can be taken out once the gradient in full has confirmed that they have arrived.
        worth_it = self._steps >= _NARROW_STEPS // 3 and 4 * int(finished.sum()) >= len(finished)
        return self._steps >= _NARROW_STEPS or worth_it or bool((far | finished).all()) or bool(stuck.any())

    def renew(self, point: Point, gradient: Tensor, rule: Direction, finished: Tensor, stuck: Tensor) -> Tensor:
        """Logits and gradients in full; narrow products are given up if they have strayed or led nowhere."""
        believed, of_no_use = gradient, self._steps == 1 and bool(stuck.any())
        point.move_to(self.logits(point.theta))
        gradient = self.begin(point)
        error = believed - gradient
        size, strayed = rule.size(point, gradient), rule.size(point, error)
        share = float((strayed / size.clamp(min=1e-300))[~finished].max()) if bool((~finished).any()) else 0.0
        # The squared error keeps its size while the squared gradient falls.
        self._progress *= max(0.1, min(share / _NARROW_ERROR, 10.0))
        if self._progress > _NARROW_LEAST or of_no_use:
            self.narrow = None
            rule.forget()
        return gradient

    def keep(self, labels: Tensor) -> None:
        """Restrict to some of the labels, given as indices."""
        self._data, self.penalty = self._data[labels], self.penalty[labels]
        if self._reference is not None:
            self._reference = self._reference[labels]
