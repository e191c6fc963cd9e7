"""What descents on the same features share, each made once: for all rounds of a fit, and all fits of a search."""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial.solvers._features import Features, NarrowFeatures, Standardized
from skpartial.solvers._logistic import LogisticProblem
from skpartial.solvers._moments import moments, units
from skpartial.solvers._sketch import Sketch

__all__ = ["Groundwork"]

# Share of the weight of the rows that may lie elsewhere without a new start.
_SAME_WEIGHTS = 0.05


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
        self._asked: Tensor | None = None
        self._row_weight: Tensor | None = None
        self._standard: Standardized | None = None
        self._narrow: NarrowFeatures | None = None
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
        if self._standard is None or self._asked is None or _moved(self._asked, asked) > _SAME_WEIGHTS:
            self._asked, self._sketch = asked, None
            self._row_weight, mean, variance = moments(self.features, asked)
            varying = variance[variance > 0]
            least = 10 * float(varying.median()) if len(varying) else 0.0
            self._standard = Standardized(self.features, mean, units(variance + least, self.features.dtype))
            self._narrow = self._standard.narrow()
        return self._standard, self._narrow

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
        standard = self._standard
        assert standard is not None
        assert self._row_weight is not None
        rank = min(rank, standard.n_features)
        if self._sketch is None or self._sketch.rank < rank:
            self._sketch = Sketch(self._narrow or standard, self._row_weight, standard.penalty, rank)
        return self._sketch


def _moved(weights: Tensor, others: Tensor) -> float:
    """Share of the weight that lies elsewhere."""
    return 0.5 * float((weights - others).abs().sum())
