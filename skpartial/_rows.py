"""Validated rows of training data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skpartial._inputs import EncodedTarget, check_label_prior
from skpartial._weights import check_sample_weight
from skpartial.features._moments import mean_squared_distance
from skpartial.features._rows import take_rows
from skpartial.labels import LabelMatrix

__all__ = ["Rows", "check_same_length"]


def check_same_length(X: Any, labels: LabelMatrix, name: str, name_of_labels: str) -> None:
    """Refuse labels whose number of rows differs from that of X."""
    if X.shape[0] != labels.n_rows:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {name} has {X.shape[0]} rows, but "
            f"{name_of_labels} has {labels.n_rows}."
        )


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
    """

    X: Any
    target: EncodedTarget
    weights: NDArray[Any] | None
    prior: NDArray[Any] | None = None

    @classmethod
    def check(cls, X: Any, target: EncodedTarget, sample_weight: Any, label_prior: Any = None) -> Rows:
        """Combine arguments that were validated separately, and check that their numbers of rows agree."""
        check_same_length(X, target.labels, "X", "y")
        return cls(X, target, check_sample_weight(sample_weight, X, target), check_label_prior(label_prior, target))

    def take(self, rows: NDArray[np.int64] | None) -> Rows:
        """The rows with these indices, or all for None."""
        if rows is None:
            return self
        target = EncodedTarget(self.target.labels.take(rows), self.target.classes, self.target.binary)
        parts = (None if part is None else part[rows] for part in (self.weights, self.prior))
        return Rows(take_rows(self.X, rows), target, *parts)

    @cached_property
    def mean_squared_distance(self) -> float:
        """Mean squared distance of the features from their mean; cached, as candidates of a search share the rows."""
        return mean_squared_distance(self.X, self.row_weight)

    @property
    def row_weight(self) -> torch.Tensor | None:
        """Weight of each row, shape (n,): the mean over its labels; None if all rows weigh the same."""
        if self.weights is None:
            return None
        return torch.as_tensor(self.weights if self.weights.ndim == 1 else self.weights.mean(axis=1))

    def rescaled(self) -> Rows:
        """The same rows with weights of mean 1: only ratios count, and extreme weights would not fit in float32."""
        if self.weights is None:
            return self
        weights = self.weights / self.weights.max()
        weights /= weights.mean()
        return replace(self, weights=weights)
