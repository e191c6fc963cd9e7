"""What descents on the same features share, each made once: for all rounds of a fit, and all fits of a search."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.features._base import Features
from skpartial.features._moments import moments, units
from skpartial.features._scaled import NarrowFeatures, Standardized
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._sketch import Sketch, View

__all__ = ["Groundwork"]

# Share of the weight of the rows that may lie elsewhere without a new start.
_SAME_WEIGHTS = 0.05
# Rows of the label that has the fewest, from which it is told how labels see the sketch.
_VIEWED_ROWS = 1000


class _Columns(NamedTuple):
    """Standardised columns, and what they were made for.

    Parameters
    ----------
    asked, row_weight : Tensor of float64, shape (n,)
        Weights of the rows, which sum to 1: of the problem, and with rows of extreme length counted for less.
    standard : Standardized
        The columns.
    narrow : NarrowFeatures or None
        The same in few digits, where products with them would be faster.
    """

    asked: Tensor
    row_weight: Tensor
    standard: Standardized
    narrow: NarrowFeatures | None

    @property
    def fastest(self) -> Features:
        """For what needs few digits."""
        return self.standard if self.narrow is None else self.narrow


class Groundwork:
    """Standardised columns, a narrow copy of them, and a sketch.

    They are made for the weights of the rows in the first problem that asks, and made anew for one whose weights lie
    elsewhere: its curvature would be judged by rows that it does not see.

    Parameters
    ----------
    features : Features
        X, shape (n, d).
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        self._rows: Tensor | None = None
        self._of_rows: Groundwork | None = None
        self._columns: _Columns | None = None
        self._sketch: Sketch | None = None

    def take(self, rows: Tensor) -> Groundwork:
        """That of some of the rows; all of them where taking them would cost more than it saves."""
        if self._of_rows is None or self._rows is None or not torch.equal(rows, self._rows):
            taken = self.features.take(rows)
            if taken is self.features:
                return self
            self._rows, self._of_rows = rows, Groundwork(taken)
        return self._of_rows

    def standardized(self, problem: LogisticProblem) -> tuple[Standardized, NarrowFeatures | None]:
        """Columns centred, and those that are much larger than the others made smaller; the same in few digits.

        Rounding then treats columns of different units and offsets alike, while the penalty stays the same along most
        directions. There is no narrow copy where products with it would not be faster.
        """
        asked = problem.row_weight.double()
        asked /= asked.sum()
        if self._columns is None or _moved(self._columns.asked, asked) > _SAME_WEIGHTS:
            row_weight, mean, variance = moments(self.features, asked)
            varying = variance[variance > 0]
            least = 10 * float(varying.median()) if len(varying) else 0.0
            standard = Standardized(self.features, mean, units(variance + least, self.features.dtype))
            self._columns, self._sketch = _Columns(asked, row_weight, standard, standard.narrow()), None
        return self._columns.standard, self._columns.narrow

    def with_units(self, problem: LogisticProblem) -> Standardized:
        """Every column centred and in a unit of its own.

        A column so small that the penalty dominates it is sized by the penalty: the curvature of cross-entropy is a
        tenth at probabilities near 0.11 or 0.89.
        """
        _, mean, variance = moments(self.features, problem.row_weight)
        least = 10 * float(problem.alpha.max())
        return Standardized(self.features, mean, units(variance + least, self.features.dtype))

    def sketch(self, rank: int) -> Sketch:
        """Of the columns that were standardised last, of at least that rank where they have as many directions."""
        columns = self._columns
        assert columns is not None
        rank = min(rank, self.features.n_features)
        if self._sketch is None or self._sketch.rank < rank:
            self._sketch = Sketch(columns.fastest, columns.row_weight, columns.standard.penalty, rank)
        return self._sketch

    def view(self, problem: LogisticProblem, labels: Tensor) -> View | None:
        """How labels see the sketch that was made last; None where those that are asked for see the same rows."""
        columns, sketch = self._columns, self._sketch
        assert columns is not None
        assert sketch is not None
        least = int(problem.count[labels].min())
        if least == int((columns.asked > 0).sum()):
            return None
        features, weights = columns.fastest, problem.s
        # Rows of extreme length count for less, as they do in the sketch.
        discount = torch.where(columns.asked > 0, columns.row_weight / columns.asked, 0.0).to(weights.dtype)
        n_rows = features.n_rows * _VIEWED_ROWS // least
        if n_rows < features.n_rows:
            order = torch.randperm(features.n_rows, generator=torch.Generator().manual_seed(0))
            rows = order[:n_rows].sort().values.to(features.device)
            taken = features.take(rows)
            if taken is not features:
                features, weights, discount = taken, weights[:, rows], discount[rows]
        weights = weights * discount
        weights /= weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
        return sketch.view(features, weights)


def _moved(weights: Tensor, others: Tensor) -> float:
    """Share of the weight that lies elsewhere."""
    return 0.5 * float((weights - others).abs().sum())
