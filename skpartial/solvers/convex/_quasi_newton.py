r"""Quasi-Newton directions for many logistic problems at once, on a sketch that all of them share.

The direction is that of L-BFGS, whose first guess :math:`H_0` of the inverse Hessian is made anew in every step: the
sketch, weighted by each label's present curvature. The sketch takes care of the correlation of the features, the
curvature of labels that become separable, and the pairs of L-BFGS of the rest. With steps S and changes of the gradient
Y as columns, R the upper triangle of :math:`S^\top Y` and D its diagonal, the inverse Hessian is

.. math::

    H_0 + \begin{pmatrix} S & H_0 Y \end{pmatrix}
    \begin{pmatrix} R^{-\top} (D + Y^\top H_0 Y) R^{-1} & -R^{-\top} \\ -R^{-1} & 0 \end{pmatrix}
    \begin{pmatrix} S^\top \\ Y^\top H_0 \end{pmatrix}

which reads each long vector twice where the usual recursion reads it six times. It allows for another :math:`H_0` in
every step, since the images of Y in the sketch are kept.

Sources: D. Liu, J. Nocedal, "On the limited memory BFGS method", Math. Program. 1989; R. Byrd, J. Nocedal, R. Schnabel,
"Representations of quasi-Newton matrices and their use in limited memory methods", Math. Program. 1994, equation 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.solvers.convex._directions import Direction
from skpartial.solvers.convex._logistic import Point
from skpartial.solvers.convex._sketch import Sketch, View

__all__ = ["QuasiNewton"]

_PAIRS = 10


class QuasiNewton(Direction):
    """L-BFGS on a shared sketch.

    Parameters
    ----------
    sketch : Sketch
        Of the features.
    view : View or None, default=None
        How the labels see it; None where all of them see the same rows. Steps are then taken with the intercept at the
        middle of each label's rows, where it does not depend on the weights.
    """

    def __init__(self, sketch: Sketch, view: View | None = None) -> None:
        self._sketch, self._view = sketch, view
        self._pairs: _Pairs | None = None

    def __call__(self, point: Point, gradient: Tensor) -> Tensor:
        basis, dtype = self._sketch.basis, gradient.dtype
        everywhere, more = self._first_guess(point)
        gradient = self._inner(gradient)
        if self._pairs is None:
            along = more.to(dtype) * (gradient @ basis.T)
            return self._outer(torch.addmm(gradient * everywhere.to(dtype), along, basis).neg_())
        pairs = self._pairs.known_by(gradient)
        inside = more.to(dtype)
        guessed_dots = everywhere * pairs.change_dots + _times(pairs.images, inside * pairs.image)
        guessed_squares = self._guessed_squares(pairs, everywhere, inside)
        energies = pairs.products.diagonal(dim1=1, dim2=2)
        # The pair along which the Hessian is smallest tells its size: by one along a single long row all steps across
        # it would become short, and seem to promise nothing.
        factor = _sizes(guessed_squares, energies).amax(1, keepdim=True)
        factor = torch.where(factor > 0, factor, 1.0)
        of_changes = torch.linalg.solve_triangular(pairs.products, pairs.step_dots[:, :, None], upper=True)[:, :, 0]
        inner = factor * (_times(guessed_squares, of_changes) - guessed_dots) + energies * of_changes
        of_steps = torch.linalg.solve_triangular(pairs.products.mT, inner[:, :, None], upper=False)[:, :, 0]
        result = self._pairs.combine(of_steps, -factor * everywhere * of_changes)
        result.addcmul_(gradient, (factor * everywhere).to(dtype))
        image = pairs.image - _times(pairs.images.mT, of_changes.to(dtype))
        return self._outer(result.addmm_(image.mul_((factor * more).to(dtype)), basis).neg_())

    def _first_guess(self, point: Point) -> tuple[Tensor, Tensor]:
        variances = None if self._view is None else self._view.variances
        return self._sketch.inverse(point.curvature, point.problem.alpha, variances)

    def _inner(self, gradient: Tensor) -> Tensor:
        """Gradients with the intercept taken at the middle of the rows of each label."""
        if self._view is None:
            return gradient
        gradient = gradient.clone()
        gradient[:, :-1].addcmul_(self._view.means, gradient[:, -1:], value=-1)
        return gradient

    def _outer(self, direction: Tensor) -> Tensor:
        """Directions with the intercept taken at zero, from those with it taken at the middle; overwrites them."""
        if self._view is not None:
            direction[:, -1] -= torch.linalg.vecdot(direction[:, :-1], self._view.means)
        return direction

    @staticmethod
    def _guessed_squares(pairs: _Known, everywhere: Tensor, inside: Tensor) -> Tensor:
        """Inner products of the changes under the first guess."""
        return everywhere[:, :, None] * pairs.squares + (pairs.images * inside[:, None]) @ pairs.images.mT

    def size(self, point: Point, gradient: Tensor) -> Tensor:
        """Squared gradients under the first guess, which costs little."""
        everywhere, more = self._first_guess(point)
        gradient = self._inner(gradient)
        within = (gradient @ self._sketch.basis.T).double().square()
        return everywhere[:, 0] * gradient.double().square().sum(1) + (more * within).sum(1)

    def learn(self, step: Tensor, change: Tensor) -> None:
        if self._pairs is None:
            self._pairs = _Pairs(len(step), self._sketch.basis)
        if self._view is not None:
            step = step.clone()
            step[:, -1] += torch.linalg.vecdot(step[:, :-1], self._view.means)
        self._pairs.append(step, self._inner(change))

    def keep(self, labels: Tensor) -> None:
        if self._view is not None:
            self._view = self._view.of(labels)
        if self._pairs is not None:
            self._pairs.keep(labels)

    def forget(self) -> None:
        self._pairs = None


def _sizes(guessed_squares: Tensor, energies: Tensor) -> Tensor:
    """Inverse Hessians along the changes, in units of the first guess."""
    squares = guessed_squares.diagonal(dim1=1, dim2=2)
    return torch.where(squares > 0, energies / squares, 0.0)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrices (L, p, q) times vectors (L, q)."""
    return (matrices @ vectors[:, :, None])[:, :, 0]


class _Known(NamedTuple):
    """What a direction depends on beside long vectors, pairs from the oldest to the newest.

    Pairs that are of no use have products of the identity, and zeros elsewhere.

    Parameters
    ----------
    image : Tensor of shape (L, r)
        Of the gradient, in the basis.
    step_dots, change_dots : Tensor of float64, shape (L, m)
        Inner products of the gradient with steps and changes.
    products : Tensor of float64, shape (L, m, m)
        Upper triangle of the inner products of steps and changes.
    squares : Tensor of float64, shape (L, m, m)
        Inner products of changes.
    images : Tensor of shape (L, m, r)
        Of the changes.
    """

    image: Tensor
    step_dots: Tensor
    change_dots: Tensor
    products: Tensor
    squares: Tensor
    images: Tensor


class _Pairs:
    """The last steps of every label, the changes of the gradient over them, and their inner products.

    Parameters
    ----------
    n_labels : int
        Number of labels.
    basis : Tensor of shape (r, width)
        In which images of the changes are kept.
    """

    def __init__(self, n_labels: int, basis: Tensor) -> None:
        rank, width = basis.shape
        self._basis = basis
        # Step and change lie side by side, so that the pairs in use are one block for each label.
        self._vectors = basis.new_empty(n_labels, _PAIRS, 2, width)
        self._images = basis.new_zeros(n_labels, _PAIRS, rank)
        self._products, self._squares = basis.new_zeros(2, n_labels, _PAIRS, _PAIRS, dtype=torch.float64)
        self._usable = basis.new_zeros(n_labels, _PAIRS, dtype=torch.bool)
        self._n_seen = 0
        #: Whether what follows from the newest pair is still to be computed.
        self._pending = False

    def _order(self) -> list[int]:
        """Places of the pairs, from the oldest to the newest."""
        return [i % _PAIRS for i in range(max(0, self._n_seen - _PAIRS), self._n_seen)]

    def _block(self) -> Tensor:
        """Vectors in use, shape (L, 2 m, width)."""
        return self._vectors[:, : min(self._n_seen, _PAIRS)].flatten(1, 2)

    def append(self, step: Tensor, change: Tensor) -> None:
        """Take a pair in place of the oldest one."""
        if self._pending:
            self._meet(change)
        place = self._n_seen % _PAIRS
        self._vectors[:, place, 0], self._vectors[:, place, 1] = step, change
        # Rounding can turn the curvature of a step that hardly moves: such a pair teaches nothing.
        least = 1e-3 * torch.finfo(step.dtype).eps * step.norm(dim=1) * change.norm(dim=1)
        self._usable[:, place] = torch.linalg.vecdot(step, change) > least
        self._n_seen, self._pending = self._n_seen + 1, True

    def _meet(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Image (L, r) of vectors (L, width), and their inner products (L, m, 2) with the pairs."""
        block, n_labels = self._block(), len(vector)
        m = block.shape[1] // 2
        if not self._pending:
            return vector @ self._basis.T, _times(block, vector).double().view(n_labels, m, 2)
        # Long vectors are read once for both.
        place = (self._n_seen - 1) % _PAIRS
        both = torch.stack([vector, self._vectors[:, place, 1]])
        image, self._images[:, place] = (both.flatten(0, 1) @ self._basis.T).chunk(2)
        dots = (block @ both.permute(1, 2, 0)).double().view(n_labels, m, 2, 2)
        self._products[:, :m, place] = dots[:, :, 0, 1]
        self._squares[:, :m, place] = self._squares[:, place, :m] = dots[:, :, 1, 1]
        self._pending = False
        return image, dots[:, :, :, 0]

    def known_by(self, gradient: Tensor) -> _Known:
        """What the direction depends on at a gradient."""
        image, dots = self._meet(gradient)
        order = self._order()
        usable, products, squares = self._usable, self._products, self._squares
        images = self._images[:, : len(order)]
        if self._n_seen > _PAIRS:
            dots, usable, images = dots[:, order], usable[:, order], images[:, order]
            products, squares = products[:, order][:, :, order], squares[:, order][:, :, order]
        m = len(order)
        usable, products, squares = usable[:, :m], products[:, :m, :m].triu(), squares[:, :m, :m]
        step_dots, change_dots = dots.unbind(2)
        if not bool(usable.all()):
            both = usable[:, :, None] & usable[:, None]
            identity = torch.eye(m, dtype=torch.float64, device=both.device)
            products, squares = torch.where(both, products, identity), torch.where(both, squares, 0.0)
            images = torch.where(usable[:, :, None], images, 0.0)
            step_dots, change_dots = torch.where(usable, step_dots, 0.0), torch.where(usable, change_dots, 0.0)
        return _Known(image, step_dots, change_dots, products, squares, images)

    def combine(self, of_steps: Tensor, of_changes: Tensor) -> Tensor:
        """Sums of steps and changes with coefficients (L, m), oldest first; shape (L, width)."""
        coefficients = torch.empty(*of_steps.shape, 2, dtype=self._basis.dtype, device=of_steps.device)
        coefficients[:, self._order()] = torch.stack([of_steps, of_changes], dim=2).to(coefficients.dtype)
        return (coefficients.flatten(1)[:, None] @ self._block())[:, 0]

    def keep(self, labels: Tensor) -> None:
        """Restrict to some of the labels, given as indices."""
        for name in ("_vectors", "_images", "_products", "_squares", "_usable"):
            setattr(self, name, getattr(self, name)[labels])
