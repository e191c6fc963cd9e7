r"""A randomised sketch of the Gram matrix of the features, as a first guess of every label's Hessian.

Source: Z. Frangella, J. Tropp, M. Udell, "Randomized Nystrom preconditioning", SIAM J. Matrix Anal. Appl. 2023,
algorithm 2.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from skpartial.features._base import Features, overflow_error

__all__ = ["Sketch", "View"]


@dataclass
class View:
    """What labels see of a sketch.

    Parameters
    ----------
    means : Tensor of shape (L, d)
        Middle of the rows of each label.
    variances : Tensor of float64, shape (L, r)
        About it, along the directions of the sketch.
    """

    means: Tensor
    variances: Tensor

    def of(self, labels: Tensor) -> View:
        """That of some of the labels, given as indices."""
        return View(self.means[labels], self.variances[labels])


class Sketch:
    r"""Leading directions of :math:`X^\top X`, and how all directions are curved.

    Parameters
    ----------
    features : Features
        X, of n rows.
    row_weight : Tensor of float64, shape (n,)
        What each row counts for; sums to 1.
    penalty : Tensor of shape (d + 1,)
        What alpha is multiplied by for each weight, intercept last.
    rank : int
        How many directions; at most d.

    Attributes
    ----------
    basis : Tensor of shape (r + 1, d + 1)
        Orthonormal rows. The intercept is a direction of its own, the last one.
    rank : int
        As asked for: features of fewer directions have a smaller basis.
    """

    def __init__(self, features: Features, row_weight: Tensor, penalty: Tensor, rank: int) -> None:
        self.rank = rank
        d, dtype = features.n_features, features.dtype
        # One seed for all: the answer to a convex problem shall not depend on the estimator's random state.
        generator = torch.Generator().manual_seed(0)
        test = torch.randn(rank, d, generator=generator, dtype=dtype).to(features.device)
        image = features.forward(test)
        sketch = features.backward(image.mul_(row_weight.to(image.dtype))).double()
        if not math.isfinite(norm := float(torch.linalg.matrix_norm(sketch))):
            raise overflow_error(dtype)
        # A shift of rounding size keeps the factor real. Arrays of this size are overwritten, where they can be: new
        # ones cost more than what is done with them.
        shift, test = 10 * torch.finfo(dtype).eps * norm / d**0.5 + 1e-300, test.double()
        core = sketch.add_(test, alpha=shift) @ test.T
        values, vectors = torch.linalg.eigh((core + core.T) / 2)
        usable = values > values[-1].clamp(min=1e-300) * 1e-13
        root = torch.mm((vectors[:, usable] / values[usable].sqrt()).T, sketch, out=test[: int(usable.sum())])
        squares, axes = torch.linalg.eigh(root @ root.T)
        clear = squares > squares[-1].clamp(min=1e-300) * 1e-10
        basis = torch.mm((axes[:, clear] / squares[clear].sqrt()).T, root, out=sketch[: int(clear.sum())])
        values = (squares[clear] - shift).clamp(min=0)
        # Directions that the sketch has not seen are taken to be curved like the least of those it has. Where the
        # curvatures differ by more than the digits of the type, sums of what is done along both lose the smaller.
        self._least = max(1e-9, 10 * torch.finfo(dtype).eps) * float(values[-1])
        self._rest = max(float(values[0]), self._least)
        self._values = values.clamp(min=self._rest)
        self.basis = basis.new_zeros(len(basis) + 1, d + 1, dtype=dtype)
        self.basis[:-1, :-1] = basis
        self.basis[-1, -1] = 1
        # What the penalty adds along each direction of the sketch, and along the others.
        self._penalty = basis.square_() @ penalty[:-1].double()
        self._rest_penalty = float(penalty[:-1].mean())

    def view(self, features: Features, weights: Tensor) -> View:
        """How labels see the sketch that give the rows of the features weights (L, n), which sum to 1 for each."""
        along = features.forward(self.basis[:-1, :-1]).to(weights.dtype)
        variances = (weights @ along.square().T - (weights @ along.T).square()).double()
        return View(features.backward(weights).to(self.basis.dtype), variances.clamp(min=self._least))

    def inverse(self, curvature: Tensor, alpha: Tensor, variances: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Approximate inverse Hessians.

        Parameters
        ----------
        curvature, alpha : Tensor of float64, shape (L,)
            Sums of the second derivatives over the rows, and penalties.
        variances : Tensor of float64, shape (L, r) or None, default=None
            What each label sees along the directions of the basis, if that differs.

        Returns
        -------
        everywhere : Tensor of float64, shape (L, 1)
            Inverse in every direction outside of the basis.
        more : Tensor of float64, shape (L, r + 1)
            What is added to it along each direction of the basis.
        """
        tiny = torch.finfo(self.basis.dtype).tiny
        curvature, alpha = curvature[:, None].clamp(min=tiny), alpha[:, None]
        everywhere = 1 / (curvature * self._rest + alpha * self._rest_penalty).clamp(min=tiny)
        values = self._values if variances is None else variances
        seen = 1 / (curvature * values + alpha * self._penalty).clamp(min=tiny)
        return everywhere, torch.cat([seen, 1 / curvature], dim=1) - everywhere
