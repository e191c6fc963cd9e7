"""Columns centred and scaled without a copy, and their copy in bfloat16; both end with a column of ones."""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial._devices import has_fast_bfloat16
from skpartial._warnings import warn
from skpartial.features._base import Features, row_sums
from skpartial.features._matrix import BLOCK_BYTES, ResidentFeatures, scores_of_rows

__all__ = ["Bfloat16Columns", "ScaledColumns"]

# The time of products with fewer entries is negligible in any type.
_BFLOAT16_ENTRIES = 1 << 21
# Rows of a bfloat16 matrix are aligned to this many entries, as matrix units require.
_BFLOAT16_STRIDE = 32


class ScaledColumns:
    """Columns centred and scaled, and a last column of ones for the intercept.

    Products apply centres and scales to the small operand or result, so no copy is made.

    Parameters
    ----------
    features : Features
        Features with d columns.
    center, scale : Tensor of float64, shape (d,)
        Centre that is subtracted from every column, and factor that it is then multiplied by.
    """

    def __init__(self, features: Features, center: Tensor, scale: Tensor) -> None:
        self.features = features
        self.center, self.scale = center.to(features.device), scale.to(features.device)

    @property
    def penalty(self) -> Tensor:
        """Factors of alpha for the weights of these columns, and 0 for the intercept, shape (d + 1,)."""
        return torch.cat([self.scale.square(), self.scale.new_zeros(1)])

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, n) for weights and intercepts (k, d + 1)."""
        theta = self.to_features(theta)
        return self.features.forward(theta[:, :-1]).add_(theta[:, -1:])

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d + 1) weighted by scores (k, n)."""
        return self.scale_sums(self.features.backward(scores), row_sums(scores))

    def take(self, labels: Tensor) -> ScaledColumns:
        """The object itself, which all labels share."""
        return self

    def scale_sums(self, sums: Tensor, total: Tensor) -> Tensor:
        """Sums of rows (k, d + 1), from sums of the original rows (k, d) and the totals of their weights (k,)."""
        scaled = sums.double().addr_(total, self.center, alpha=-1).mul_(self.scale)
        return torch.cat([scaled, total[:, None]], dim=1).to(sums.dtype)

    def to_features(self, theta: Tensor) -> Tensor:
        """Parameters (k, d + 1) for the original features, with the same logits."""
        weights = theta[:, :-1].double() * self.scale
        intercept = theta[:, -1].double() - weights @ self.center
        return torch.cat([weights, intercept[:, None]], dim=1).to(self.features.dtype)

    def from_features(self, theta: Tensor) -> Tensor:
        """Parameters (k, d + 1) for these columns in float64, from parameters for the original features."""
        weights = theta[:, :-1].double()
        intercept = theta[:, -1:].double() + weights @ self.center[:, None]
        return torch.cat([weights / self.scale, intercept], dim=1)

    def matrix(self) -> Tensor:
        """The whole matrix in float64, shape (n, d + 1)."""
        blocks = [X.to_dense() if X.is_sparse else X for _, X in self.features.blocks()]
        columns = (torch.cat(blocks) - self.center) * self.scale
        return torch.cat([columns, columns.new_ones(len(columns), 1)], dim=1)

    def bfloat16(self) -> Bfloat16Columns | None:
        """A copy in bfloat16, if products with it are faster; else None."""
        X = self.features.X if isinstance(self.features, ResidentFeatures) else None
        if X is None or X.dtype != torch.float32 or X.numel() < _BFLOAT16_ENTRIES or not has_fast_bfloat16(X.device):
            return None
        n, d = X.shape
        center, scale = self.center.to(X.dtype), self.scale.to(X.dtype)
        width = -(-(d + 1) // _BFLOAT16_STRIDE) * _BFLOAT16_STRIDE
        try:
            columns = torch.zeros(n, width, dtype=torch.bfloat16, device=X.device)
        except RuntimeError:  # includes running out of memory, on the CPU and on CUDA
            warn(
                f"There is not enough memory for a copy of X in bfloat16 ({2 * n * width / 1e9:.1f} GB): products are "
                "computed in float32, which is slower."
            )
            return None
        step = max(1, BLOCK_BYTES // (4 * d))
        for start in range(0, n, step):
            columns[start : start + step, :d] = (X[start : start + step] - center) * scale
        columns[:, d] = 1
        return Bfloat16Columns(columns, d + 1)


class Bfloat16Columns:
    """Scaled columns rounded to bfloat16, for products with a precision of two or three digits.

    Parameters
    ----------
    columns : Tensor of bfloat16, shape (n, width)
        The columns, padded with zeros.
    n_columns : int
        Number of columns, including the intercept's.
    """

    def __init__(self, columns: Tensor, n_columns: int) -> None:
        self._columns, self._n_columns = columns, n_columns

    def forward(self, theta: Tensor) -> Tensor:
        """Logits (k, n) in bfloat16 for weights and intercepts (k, d + 1)."""
        padded = theta.new_zeros(len(theta), self._columns.shape[1], dtype=torch.bfloat16)
        padded[:, : self._n_columns] = theta
        return scores_of_rows(padded, self._columns)

    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows (k, d + 1) in float32, weighted by scores (k, n)."""
        return (scores.to(torch.bfloat16) @ self._columns)[:, : self._n_columns].float()

    def take(self, labels: Tensor) -> Bfloat16Columns:
        """The object itself, which all labels share."""
        return self
