"""Data shared by fits on the same features, computed once for all rounds of a fit and all fits of a search."""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial._processes import ALONE, Processes
from skpartial.features._base import Features
from skpartial.features._moments import moments, units
from skpartial.features._scaled import Bfloat16Columns, ScaledColumns
from skpartial.solvers.convex._gram import Gram
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._newton import Design, Products
from skpartial.solvers.convex._sketch import Sketch

__all__ = ["PreparedFeatures"]

# Columns are scaled anew if more than this share of the total row weight has moved to other rows.
_MAX_WEIGHT_CHANGE = 0.05


class _SharedProducts:
    """Columns whose rows are divided among processes.

    Parameters
    ----------
    own : Products
        Products with the rows of this process.
    processes : Processes
        All processes.
    """

    def __init__(self, own: Products, processes: Processes) -> None:
        self.forward, self._own, self._processes = own.forward, own, processes

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of the rows of all processes, weighted by scores; each process has the scores of its rows."""
        return self._processes.sum(self._own.backward(scores))


class _SharedColumns(_SharedProducts):
    """Scaled columns whose rows are divided among processes."""

    def __init__(self, own: ScaledColumns, processes: Processes) -> None:
        super().__init__(own, processes)
        self.to_features = own.to_features

    def take(self, labels: Tensor) -> _SharedColumns:
        """Return the object itself, which all labels share."""
        return self


class PreparedFeatures:
    """Features with scaled columns, a copy in bfloat16 if that is faster, and a sketch.

    They are computed for the row weights of the first problem. They are computed anew for a problem with very different
    row weights, because they would misjudge its curvature.

    Parameters
    ----------
    features : Features
        X, shape (n, d).
    processes : Processes, default=one alone
        Processes that divide the rows in products with the columns.

    Attributes
    ----------
    columns : ScaledColumns
        Scaled columns for the rows of this process, after a call of `scale`.
    bfloat16 : Bfloat16Columns or None
        The scaled columns in bfloat16.
    """

    columns: ScaledColumns
    bfloat16: Bfloat16Columns | None

    def __init__(self, features: Features, processes: Processes = ALONE) -> None:
        self.features, self.processes = features, processes
        self._taken: tuple[Tensor, PreparedFeatures] | None = None
        self._weights: Tensor | None = None
        self._sketch: Sketch | None = None
        self._gram: Gram | None = None

    def take(self, rows: Tensor) -> PreparedFeatures:
        """Prepared features for some of the rows, or for all if taking them would cost more than it saves."""
        if self._taken is None or not torch.equal(rows, self._taken[0]):
            taken = self.features.take(rows)
            if taken is self.features:
                return self
            self._taken = rows, PreparedFeatures(taken, self.processes)
        return self._taken[1]

    def scale(self, problem: LogisticProblem) -> None:
        """Centre the columns, and shrink columns that are much larger than the others.

        Rounding then affects columns of different units and offsets alike, and the penalty stays the same along most
        directions.
        """
        normalized = problem.row_weight.double()
        normalized /= normalized.sum()
        if self._weights is not None and 0.5 * float((self._weights - normalized).abs().sum()) <= _MAX_WEIGHT_CHANGE:
            return
        # Over all rows: one pass costs little compared with the passes that the processes share.
        row_weight, mean, variance = moments(self.features, normalized)
        varying = variance[variance > 0]
        least = 10 * float(varying.median()) if len(varying) else 0.0
        features, own = self.features, self.processes.share(self.features.n_rows)
        if self.processes.size > 1:
            features = features.part(own)
        self._row_weight = row_weight[own]
        self.columns = ScaledColumns(features, mean, units(variance + least, features.dtype))
        self.bfloat16, self._weights, self._sketch = self.columns.bfloat16(), normalized, None

    @property
    def design(self) -> Design:
        """The scaled columns; sums over rows are those of all processes."""
        return self.columns if self.processes.size == 1 else _SharedColumns(self.columns, self.processes)

    @property
    def fast_design(self) -> Products | None:
        """The scaled columns in bfloat16, if there are such."""
        if self.bfloat16 is None or self.processes.size == 1:
            return self.bfloat16
        return _SharedProducts(self.bfloat16, self.processes)

    def gram(self, v: Tensor) -> Gram:
        """Gram matrix of the features as passed, with row weights v (n,); the last one is kept."""
        if self._gram is None or not torch.equal(v, self._gram.v):
            self._gram = Gram(self.features, None, v)
        return self._gram

    def sketch(self, rank: int) -> Sketch:
        """Sketch of the scaled columns, of at least this rank if they have as many directions."""
        rank = min(rank, self.features.n_features)
        if self._sketch is None or self._sketch.rank < rank:
            products = self.design if self.fast_design is None else self.fast_design
            self._sketch = Sketch(products, self._row_weight, self.columns.penalty, rank, self.features.dtype)
        return self._sketch


def scaled_by_penalty(features: Features, problem: LogisticProblem) -> ScaledColumns:
    """Centre every column and scale it separately.

    If a column is so small that the penalty dominates, its scale is set by the penalty: the curvature of cross-entropy
    is a tenth at probabilities near 0.11 or 0.89.
    """
    _, mean, variance = moments(features, problem.row_weight)
    least = 10 * float(problem.alpha.max())
    return ScaledColumns(features, mean, units(variance + least, features.dtype))
