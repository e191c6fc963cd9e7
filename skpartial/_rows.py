"""Validated rows of training data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skpartial._checks import check_same_rows
from skpartial._inputs import EncodedTarget, check_label_prior
from skpartial._weights import check_sample_weight
from skpartial.features._moments import Spread, spread
from skpartial.features._rows import take_rows

# Beyond it float64 holds no fractions, so that whole numbers say nothing.
_LARGEST_WHOLE = 1 << 53

__all__ = ["Rows"]


def _are_whole(weights: NDArray[Any]) -> bool:
    """Whether weights are whole numbers that float64 can count."""
    return bool(weights.max(initial=0) <= _LARGEST_WHOLE) and not bool((weights % 1).any())


@dataclass(frozen=True)
class Rows:
    """Validated rows.

    Parameters
    ----------
    X : ndarray, csr_array, Tensor, ImageSource or Features
        Features or images; in the solver's form, once the solver has been chosen.
    target : EncodedTarget
        Labels and classes.
    weights : ndarray of shape (n,) or (n, L), or None
        Weights of rows or entries.
    prior : ndarray of shape (n, L), or None, default=None
        Prior probabilities that labels are positive, from the user; NaN where there is none.
    unit : float or None, default=None
        The user's weight that is 1 here, if all weights were whole numbers, which stand for repeated rows. None for
        other weights: only their ratios count.
    earlier : Spread or None, default=None
        Of the rows before these, if they are one part of a stream.
    """

    X: Any
    target: EncodedTarget
    weights: NDArray[Any] | None
    prior: NDArray[Any] | None = None
    unit: float | None = None
    earlier: Spread | None = None

    @classmethod
    def check(cls, X: Any, target: EncodedTarget, sample_weight: Any, label_prior: Any = None) -> Rows:
        """Combine arguments that were validated separately, and check that their numbers of rows agree."""
        check_same_rows(X.shape[0], target.labels.n_rows)
        weights, prior = check_sample_weight(sample_weight, X, target), check_label_prior(label_prior, target)
        return cls(X, target, weights, prior, None if weights is None or not _are_whole(weights) else 1.0)

    def take(self, rows: NDArray[np.int64] | None) -> Rows:
        """The rows with these indices, or all for None."""
        if rows is None:
            return self
        target = EncodedTarget(self.target.labels.take(rows), self.target.classes, self.target.binary)
        weights, prior = (None if part is None else part[rows] for part in (self.weights, self.prior))
        return Rows(take_rows(self.X, rows), target, weights, prior, self.unit, self.earlier)

    @cached_property
    def spread(self) -> Spread:
        """Mean of the features, and mean squared distance from it; cached, as candidates of a search share the rows."""
        found = spread(self.X, self.row_weight, self.n_counted)
        return found if self.earlier is None else self.earlier.merge(found)

    @property
    def row_weight(self) -> torch.Tensor | None:
        """Weight of each row, shape (n,): the mean over its labels; None if all rows weigh the same."""
        if self.weights is None:
            return None
        return torch.as_tensor(self.weights if self.weights.ndim == 1 else self.weights.mean(axis=1))

    @property
    def n_counted(self) -> float:
        """The number of rows: the sum of weights that are whole numbers, else that of rows with a positive weight."""
        weight = self.row_weight
        if weight is None:
            return float(self.target.labels.n_rows)
        if self.unit is None:
            return float((weight > 0).sum())
        return float(weight.sum(dtype=torch.float64)) * self.unit

    def rescaled(self) -> Rows:
        """The same rows with weights of mean 1: a mean needs ratios only, and extreme ones would not fit in float32."""
        if self.weights is None:
            return self
        largest = self.weights.max()
        weights = self.weights / largest
        mean = weights.mean()
        unit = None if self.unit is None else self.unit * float(largest) * float(mean)
        return replace(self, weights=weights / mean, unit=unit)
