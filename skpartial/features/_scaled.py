"""Columns centred and rescaled without a copy, and a copy of them in few digits."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from skpartial._devices import has_fast_bfloat16
from skpartial.features._base import Features, row_sums
from skpartial.features._matrix import BLOCK_BYTES, ResidentFeatures, scores_of_rows

__all__ = ["NarrowFeatures", "Standardized"]

# Products with fewer entries take no longer than what surrounds them, whatever their type.
_NARROW_ENTRIES = 1 << 21


class NarrowFeatures(Features):
    """Features rounded to bfloat16, for products of two or three digits, which are of that type as well."""

    def __init__(self, X: Tensor) -> None:
        super().__init__((X.shape[0], X.shape[1]), torch.float32, X.device)
        self.X = X

    def forward(self, weights: Tensor, out: Tensor | None = None) -> Tensor:
        return scores_of_rows(weights.to(self.X.dtype), self.X, out)

    def backward(self, scores: Tensor) -> Tensor:
        return scores.to(self.X.dtype) @ self.X

    def batch(self, rows: Tensor) -> Tensor:
        return self.X.index_select(0, rows.to(self.device)).float()

    def take(self, rows: Tensor) -> Features:
        return NarrowFeatures(self.X.index_select(0, rows.to(self.device)))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        yield slice(0, self.n_rows), self.X.double()


class Standardized(Features):
    """Columns centred and rescaled, which products apply to their small operand or result: no copy is made.

    Parameters
    ----------
    features : Features
        Of d columns.
    center, unit : Tensor of float64, shape (d,)
        What is taken from every column, and what it is then multiplied by.
    """

    def __init__(self, features: Features, center: Tensor, unit: Tensor) -> None:
        super().__init__((features.n_rows, features.n_features), features.dtype, features.device)
        self.features = features
        self.center, self.unit = center.to(features.device), unit.to(features.device)
        self._unit = self.unit.to(features.dtype)

    def forward(self, weights: Tensor) -> Tensor:
        weights, shift = self.plain(weights)
        return self.features.forward(weights).sub_(shift[:, None])

    def backward(self, scores: Tensor) -> Tensor:
        return self.standardize(self.features.backward(scores), scores)

    def take(self, rows: Tensor) -> Features:
        taken = self.features.take(rows)
        return self if taken is self.features else Standardized(taken, self.center, self.unit)

    def plain(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (k, d) for the features as passed, and what is then to be taken from the scores, shape (k,)."""
        shift = (weights.double() * self.unit) @ self.center
        return weights * self._unit, shift.to(weights.dtype)

    def standardize(self, sums: Tensor, scores: Tensor) -> Tensor:
        """Sums of rows (k, d), from those of rows as passed, weighted by scores (k, m)."""
        total = row_sums(scores)
        return sums.double().addr_(total, self.center, alpha=-1).mul_(self.unit).to(sums.dtype)

    @property
    def penalty(self) -> Tensor:
        """What alpha is multiplied by for each weight for these columns, and 0 for the intercept, shape (d + 1,)."""
        return torch.cat([self.unit.square(), self.unit.new_zeros(1)])

    def narrow(self) -> NarrowFeatures | None:
        """A copy in bfloat16, where products with it are faster."""
        X = self.features.X if isinstance(self.features, ResidentFeatures) else None
        if X is None or X.dtype != torch.float32 or X.numel() < _NARROW_ENTRIES or not has_fast_bfloat16(self.device):
            return None
        center, unit = self.center.to(X.dtype), self._unit
        rounded = torch.empty_like(X, dtype=torch.bfloat16)
        step = max(1, BLOCK_BYTES // (4 * self.n_features))
        for start in range(0, self.n_rows, step):
            rounded[start : start + step] = (X[start : start + step] - center) * unit
        return NarrowFeatures(rounded)

    def outer(self, parameters: Tensor) -> Tensor:
        """Parameters (k, d + 1) for the features as passed, from those for these; intercepts last."""
        weights = parameters[:, :-1].double() * self.unit
        intercept = parameters[:, -1].double() - weights @ self.center
        return torch.cat([weights, intercept[:, None]], dim=1).to(self.dtype)

    def inner(self, parameters: Tensor) -> Tensor:
        """Parameters (k, d + 1) for these features in float64, from those for the features as passed."""
        weights = parameters[:, :-1].double()
        intercept = parameters[:, -1:].double() + weights @ self.center[:, None]
        return torch.cat([weights / self.unit, intercept], dim=1)

    def batch(self, rows: Tensor) -> Tensor:
        batch = self.features.batch(rows)
        dense = batch.to_dense() if batch.is_sparse else batch
        return ((dense.double() - self.center) * self.unit).to(self.dtype)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for part, X in self.features.blocks():
            dense = X.to_dense() if X.is_sparse else X
            yield part, (dense - self.center) * self.unit
