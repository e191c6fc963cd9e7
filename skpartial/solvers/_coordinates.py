"""Coordinates in which weights are sought, so that units of the features do no harm and no work is lost."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from skpartial.solvers._features import Features, Rescaled, ResidentFeatures, unit_scale
from skpartial.solvers._problem import Problem

__all__ = ["ColumnUnits", "Coordinates", "RowBasis", "choose_coordinates"]

# Rows up to which their Gram matrix is factored, and the number of features beyond which that pays.
_MAX_BASIS_ROWS = 8192
_FEATURES_PER_ROW = 1.25


class Coordinates(ABC):
    """A linear change of variables: features and penalty in it, and the way there and back.

    Attributes
    ----------
    features : Features
        In these coordinates, shape (n, k).
    penalty : Tensor of shape (k, 1)
        The L2 penalty of each coordinate.
    """

    features: Features
    penalty: Tensor

    @abstractmethod
    def weights(self, coordinates: Tensor) -> Tensor:
        """Weights of the features as passed, shape (d, L), from coordinates (k, L)."""

    @abstractmethod
    def of_weights(self, weights: Tensor) -> Tensor:
        """Coordinates (k, L) of weights (d, L)."""


class ColumnUnits(Coordinates):
    """Every column in a unit under which the diagonal of a typical Hessian is constant.

    With all columns, and the constant one of the intercept, of one size, conjugate gradients need fewer steps, and
    rounding treats columns of different units alike. A column so small that the penalty dominates it is sized by the
    penalty.
    """

    def __init__(self, problem: Problem) -> None:
        _, mean_squares = unit_scale(problem.features, problem.weights.of_rows)
        # The curvature of cross-entropy is a tenth at probabilities near 0.11 or 0.89.
        size = (mean_squares + 10 * problem.alpha).sqrt()
        limit = torch.finfo(problem.dtype).max ** 0.4
        units = torch.where(size > 1 / limit, 1 / size, limit if float(size.max()) > 0 else 1.0)
        self.units = units[:, None].to(device=problem.device, dtype=problem.dtype)
        self.features = Rescaled(problem.features, self.units)
        self.penalty = problem.alpha * self.units.square()

    def weights(self, coordinates: Tensor) -> Tensor:
        return coordinates * self.units

    def of_weights(self, weights: Tensor) -> Tensor:
        return weights / self.units


class RowBasis(Coordinates):
    r"""An orthonormal basis of the rows, where there are fewer of them than features.

    With :math:`X X^\top = R R^\top` by Cholesky, R is the feature matrix in that basis: n x n instead of n x d, with
    the same inner products, so that the penalty is the same as well. Weights are :math:`X^\top R^{-\top}` times
    coordinates.
    """

    def __init__(self, problem: Problem, X: Tensor) -> None:
        self.X = X
        precise = X.double()
        gram = precise @ precise.T
        del precise
        # Rows that repeat each other make the Gram matrix singular, up to rounding.
        gram.diagonal().add_(1e-12 * float(gram.diagonal().mean()))
        self.root, info = torch.linalg.cholesky_ex(gram)
        self.failed = bool(info > 0) or not bool(torch.isfinite(self.root).all())
        unit = 1 / float(gram.diagonal().mean()) ** 0.5
        self.unit = unit * len(X) ** 0.5
        self.features = ResidentFeatures((self.root * self.unit).to(X.dtype))
        self.penalty = torch.full((len(X), 1), problem.alpha * self.unit**2, dtype=X.dtype, device=X.device)

    def weights(self, coordinates: Tensor) -> Tensor:
        combination = torch.linalg.solve_triangular(self.root.T, coordinates.double() * self.unit, upper=True)
        return (self.X.T @ combination.to(self.X.dtype)).to(coordinates.dtype)

    def of_weights(self, weights: Tensor) -> Tensor:
        logits = (self.X @ weights).double()
        return (torch.linalg.solve_triangular(self.root, logits, upper=False) / self.unit).to(weights.dtype)


def choose_coordinates(problem: Problem) -> Coordinates:
    """A basis of the rows where that is the smaller one, else units of the columns."""
    features = problem.features
    small = features.n_rows <= _MAX_BASIS_ROWS and features.n_features >= _FEATURES_PER_ROW * features.n_rows
    if small and features.n_rows >= 128 and isinstance(features, ResidentFeatures):
        basis = RowBasis(problem, features.X)
        if not basis.failed:
            return basis
    return ColumnUnits(problem)
