"""Feature maps for heads that pool regions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skpartial.features._base import Features, as_tensor
from skpartial.features._matrix import CHUNK_BYTES, ResidentFeatures

__all__ = ["MapFeatures"]


class MapFeatures(Features):
    """Feature maps (n, C, h, w): batches of maps, and products with their averages over regions."""

    def __init__(self, X: Any, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__((X.shape[0], X.shape[1]), dtype, device)
        self.X = X

    @property
    def row_bytes(self) -> int:
        """Size of a row in a batch."""
        return math.prod(self.X.shape[1:]) * self.dtype.itemsize

    @cached_property
    def averages(self) -> Features:
        """The average of every channel, (n, C)."""
        step = max(1, CHUNK_BYTES // self.row_bytes)
        parts = torch.arange(self.n_rows).split(step)
        return ResidentFeatures(torch.cat([self.batch(rows).mean((2, 3)) for rows in parts]))

    def forward(self, weights: Tensor) -> Tensor:
        return self.averages.forward(weights)

    def backward(self, scores: Tensor) -> Tensor:
        return self.averages.backward(scores)

    def batch(self, rows: Tensor) -> Tensor:
        if isinstance(self.X, Tensor):
            block = self.X.index_select(0, rows.to(self.X.device))
        else:
            block = as_tensor(np.asarray(self.X[rows.cpu().numpy()]))
        return block.to(device=self.device, dtype=self.dtype)

    def part(self, rows: slice) -> Features:
        return self.averages.part(rows)

    def position_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, CHUNK_BYTES // (2 * self.row_bytes))
        for start in range(0, self.n_rows, step):
            part = slice(start, min(start + step, self.n_rows))
            block = self.batch(torch.arange(part.start, part.stop)).double()
            yield part, block.flatten(2).transpose(1, 2).flatten(0, 1)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        return self.averages.blocks()
