"""What fits on the same features share, each made once: for all rounds of a fit, and all fits of a search."""

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

# Share of the weight of the rows that may lie elsewhere before columns are scaled anew.
_SAME_WEIGHTS = 0.05


class _SharedProducts:
    """Columns of which every process has its share of the rows.

    Parameters
    ----------
    own : Products
        Of those of this process.
    processes : Processes
        All of them.
    """

    def __init__(self, own: Products, processes: Processes) -> None:
        self.forward, self._own, self._processes = own.forward, own, processes

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of the rows of all processes, weighted by scores of which each has those of its rows."""
        return self._processes.sum(self._own.backward(scores))


class _SharedColumns(_SharedProducts):
    """Scaled columns of which every process has its share of the rows."""

    def __init__(self, own: ScaledColumns, processes: Processes) -> None:
        super().__init__(own, processes)
        self.to_features = own.to_features

    def take(self, labels: Tensor) -> _SharedColumns:
        """Itself, which all labels share."""
        return self


class PreparedFeatures:
    """Features with scaled columns, a bfloat16 copy of them where that is faster, and a sketch.

    They are made for the weights of the rows in the first problem that asks, and made anew for one whose weights lie
    elsewhere: its curvature would be judged by rows that it does not see.

    Parameters
    ----------
    features : Features
        X, shape (n, d).
    processes : Processes, default=one alone
        Which share the rows in products with the columns.

    Attributes
    ----------
    columns : ScaledColumns
        Since `scale` was called; of the rows of this process.
    bfloat16 : Bfloat16Columns or None
        The same in bfloat16.
    """

    columns: ScaledColumns
    bfloat16: Bfloat16Columns | None

    def __init__(self, features: Features, processes: Processes = ALONE) -> None:
        self.features, self.processes = features, processes
        self._taken: tuple[Tensor, PreparedFeatures] | None = None
        self._asked: Tensor | None = None
        self._sketch: Sketch | None = None
        self._gram: Gram | None = None

    def take(self, rows: Tensor) -> PreparedFeatures:
        """Those of some of the rows; all of them where taking them would cost more than it saves."""
        if self._taken is None or not torch.equal(rows, self._taken[0]):
            taken = self.features.take(rows)
            if taken is self.features:
                return self
            self._taken = rows, PreparedFeatures(taken, self.processes)
        return self._taken[1]

    def scale(self, problem: LogisticProblem) -> None:
        """Centre the columns, and make those smaller that are much larger than the others.

        Rounding then treats columns of different units and offsets alike, while the penalty stays the same along most
        directions.
        """
        asked = problem.row_weight.double()
        asked /= asked.sum()
        if self._asked is not None and 0.5 * float((self._asked - asked).abs().sum()) <= _SAME_WEIGHTS:
            return
        # Of all rows: one pass over them costs little beside those that are shared.
        row_weight, mean, variance = moments(self.features, asked)
        varying = variance[variance > 0]
        least = 10 * float(varying.median()) if len(varying) else 0.0
        features, own = self.features, self.processes.share(self.features.n_rows)
        if self.processes.size > 1:
            features = features.part(own)
        self._row_weight = row_weight[own]
        self.columns = ScaledColumns(features, mean, units(variance + least, features.dtype))
        self.bfloat16, self._asked, self._sketch = self.columns.bfloat16(), asked, None

    @property
    def design(self) -> Design:
        """The scaled columns; sums over rows are those of all processes."""
        return self.columns if self.processes.size == 1 else _SharedColumns(self.columns, self.processes)

    @property
    def fast_design(self) -> Products | None:
        """The same in bfloat16, where there are such."""
        if self.bfloat16 is None or self.processes.size == 1:
            return self.bfloat16
        return _SharedProducts(self.bfloat16, self.processes)

    def gram(self, v: Tensor) -> Gram:
        """Of the features as passed, with rows weighted by v (n,); the last one is kept."""
        if self._gram is None or not torch.equal(v, self._gram.v):
            self._gram = Gram(self.features, None, v)
        return self._gram

    def sketch(self, rank: int) -> Sketch:
        """Of the scaled columns, of at least that rank where they have as many directions."""
        rank = min(rank, self.features.n_features)
        if self._sketch is None or self._sketch.rank < rank:
            products = self.design if self.fast_design is None else self.fast_design
            self._sketch = Sketch(products, self._row_weight, self.columns.penalty, rank, self.features.dtype)
        return self._sketch


def scaled_by_penalty(features: Features, problem: LogisticProblem) -> ScaledColumns:
    """Every column centred and in a unit of its own.

    A column so small that the penalty dominates it is sized by the penalty: the curvature of cross-entropy is a tenth
    at probabilities near 0.11 or 0.89.
    """
    _, mean, variance = moments(features, problem.row_weight)
    least = 10 * float(problem.alpha.max())
    return ScaledColumns(features, mean, units(variance + least, features.dtype))
