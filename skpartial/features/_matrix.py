"""Feature matrices on the device, in host memory or on disk, dense or sparse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from skpartial._devices import has_feature
from skpartial.features._base import Features, as_tensor
from skpartial.features._rows import MappedRows, announce, is_large_map, release, shuffled

__all__ = ["BLOCK_BYTES", "CHUNK_BYTES", "ResidentFeatures", "SparseFeatures", "StreamedFeatures", "scores_of_rows"]

#: Bytes of a chunk that is copied to the device: large enough to hide the launch, small enough to leave room.
CHUNK_BYTES = 64 << 20
#: Bytes of a block of rows for float64 computations, so that it stays in the processor's cache.
BLOCK_BYTES = 1 << 20
# Bytes of a chunk of a large memory map on the CPU; larger arrays would get new pages from the system each time.
_MAP_CHUNK_BYTES = 8 << 20
# Bytes that the system maps around a requested row of a file.
_READ_AHEAD = 1 << 16
# From this many features per set of weights, a product is transposed.
_FEW_WEIGHTS = 12


def scores_of_rows(weights: Tensor, X: Tensor, out: Tensor | None = None) -> Tensor:
    """Scores of rows X (n, d) for weights (k, d): shape (k, n)."""
    if X.device.type == "cpu" and has_feature("amx_bf16") and _FEW_WEIGHTS * len(weights) <= X.shape[1]:
        # With AMX, a product of a tall and a narrow matrix is faster than one of a flat and a tall matrix.
        scores = (X @ weights.T.contiguous()).T
        return scores.contiguous() if out is None else out.copy_(scores)
    return torch.mm(weights, X.T, out=out)


class ResidentFeatures(Features):
    """A tensor on the device; on the CPU a view of the user's data."""

    def __init__(self, X: Tensor) -> None:
        super().__init__((X.shape[0], X.shape[1]), X.dtype, X.device)
        self.X = X

    def forward(self, weights: Tensor) -> Tensor:
        return scores_of_rows(weights, self.X)

    def backward(self, scores: Tensor) -> Tensor:
        return scores @ self.X

    def batch(self, rows: Tensor) -> Tensor:
        return self.X.index_select(0, rows.to(self.device))

    def take(self, rows: Tensor) -> Features:
        return ResidentFeatures(self.batch(rows))

    def part(self, rows: slice) -> Features:
        return ResidentFeatures(self.X[rows])

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, BLOCK_BYTES // (8 * self.n_features))
        for start in range(0, self.n_rows, step):
            part = slice(start, min(start + step, self.n_rows))
            yield part, self.X[part].double()

    def own_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, BLOCK_BYTES // (2 * self.X.itemsize * self.n_features))
        for start in range(0, self.n_rows, step):
            part = slice(start, min(start + step, self.n_rows))
            yield part, self.X[part]


class StreamedFeatures(Features):
    """Rows that stay in place (memory map, host memory) and are copied to the device in chunks.

    For features larger than the device's memory, and for memory maps of a type other than that of the computation,
    which are converted chunk by chunk. Sparse rows are converted to dense chunks if the device has no sparse products.
    """

    def __init__(self, X: Any, dtype: torch.dtype, device: torch.device, chunk_bytes: int = CHUNK_BYTES) -> None:
        super().__init__(X.shape, dtype, device)
        self.X = X
        if is_large_map(X) and device.type == "cpu":
            chunk_bytes = min(chunk_bytes, _MAP_CHUNK_BYTES)
        self._is_large, self._read, self._announced = is_large_map(X), 0, set[int]()
        self.chunk = max(1, chunk_bytes // max(1, self.n_features * dtype.itemsize))

    def _rows(self, index: Any) -> Tensor:
        block = self.X[index]
        if sp.issparse(block):
            block = block.toarray()
        tensor = block if isinstance(block, Tensor) else as_tensor(np.asarray(block))
        return tensor.to(device=self.device, dtype=self.dtype)

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of rows with their features on the device."""
        for start in range(0, self.n_rows, self.chunk):
            part = slice(start, min(start + self.chunk, self.n_rows))
            yield part, self._rows(part)
            if self._is_large:
                release(self.X)

    def forward(self, weights: Tensor) -> Tensor:
        return torch.cat([weights @ X.T for _, X in self.chunks()], dim=1)

    def backward(self, scores: Tensor) -> Tensor:
        result = torch.zeros(len(scores), self.n_features, dtype=self.dtype, device=self.device)
        for part, X in self.chunks():
            result.addmm_(scores[:, part], X)
        return result

    def part(self, rows: slice) -> Features:
        X = self.X.take(np.arange(rows.start, rows.stop)) if isinstance(self.X, MappedRows) else self.X[rows]
        part = StreamedFeatures(X, self.dtype, self.device)
        part.chunk, part._is_large = self.chunk, self._is_large
        return part

    def shuffled(self, generator: torch.Generator) -> Tensor:
        return shuffled(self.X, generator) if self._is_large else super().shuffled(generator)

    def batch(self, rows: Tensor) -> Tensor:
        if self._is_large:
            announce(self.X, rows.cpu().numpy(), self._announced)
        batch = self._rows(rows if isinstance(self.X, Tensor) else rows.cpu().numpy())
        self._read += len(rows) * (self.row_bytes + _READ_AHEAD)
        if self._is_large and self._read > 4 * CHUNK_BYTES:
            release(self.X)
            self._read = 0
        return batch

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for part, X in self.chunks():
            yield part, X.double()

    def own_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        return self.chunks()


class SparseFeatures(Features):
    """CSR rows on the CPU: the cost of products is proportional to the number of stored values."""

    def __init__(self, X: sp.csr_array, dtype: torch.dtype) -> None:
        super().__init__(X.shape, dtype, torch.device("cpu"))
        self.X = X.astype(torch.empty(0, dtype=dtype).numpy().dtype, copy=False)
        self._transposed = self.X.T

    def forward(self, weights: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray((self.X @ weights.numpy().T).T))

    def backward(self, scores: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray((self._transposed @ scores.numpy().T).T))

    def batch(self, rows: Tensor) -> Tensor:
        chosen = self.X[rows.numpy()].tocoo()
        index = torch.from_numpy(np.stack(chosen.coords).astype(np.int64))
        return torch.sparse_coo_tensor(index, torch.from_numpy(chosen.data), chosen.shape, check_invariants=False)

    def take(self, rows: Tensor) -> Features:
        return SparseFeatures(self.X[rows.numpy()], self.dtype)

    def part(self, rows: slice) -> Features:
        return SparseFeatures(self.X[rows], self.dtype)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(4096, BLOCK_BYTES // self.n_features)
        for start in range(0, self.n_rows, step):
            part = slice(start, min(start + step, self.n_rows))
            yield part, self.batch(torch.arange(part.start, part.stop)).double()
