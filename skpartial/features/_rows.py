"""Subsets of rows of data on disk, without loading them."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["LARGE_MAP_BYTES", "MappedRows", "announce", "is_large_map", "is_mapped", "release", "shuffled", "take_rows"]

#: Larger memory maps are read in parts, which are released from memory after use.
LARGE_MAP_BYTES = 2 << 30
# Bytes of neighbouring rows that are read together, and of the window in which they are shuffled.
_BLOCK_BYTES, _WINDOW_BYTES = 1 << 20, 256 << 20


class MappedRows:
    """Rows of a memory map by index, which are only read on access.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Array backed by a file.
    rows : ndarray of int64, shape (m,)
        Indices of the rows, in order.
    """

    def __init__(self, X: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._X, self._rows = X, rows
        self.shape = (len(rows), *X.shape[1:])
        self.dtype, self.ndim = X.dtype, X.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """A subset of these rows, by a slice or indices, as an array in memory."""
        return np.asarray(self._X[self._rows[index]])

    def take(self, rows: NDArray[np.int64]) -> MappedRows:
        """A subset of these rows."""
        return MappedRows(self._X, self._rows[rows])


def is_mapped(X: Any) -> bool:
    """Whether an array, or the array that it is a view of, is backed by a file."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return isinstance(X, mmap.mmap)


def _bytes(X: Any) -> int:
    return int(np.prod(X.shape, dtype=np.int64)) * X.dtype.itemsize


def is_large_map(X: Any) -> bool:
    """Whether X is on disk, or a subset of rows on disk, and too large to be read into memory unasked.

    Even a few scattered rows would load most of it, because the system reads ahead around each row.
    """
    X = X._X if isinstance(X, MappedRows) else X
    return is_mapped(X) and _bytes(X) > LARGE_MAP_BYTES


def _file_of(X: Any) -> Any:
    """The memory map that holds an array, if the system supports advice about it; None otherwise.

    Copy-on-write maps are excluded, because their pages may hold data that are not on disk.
    """
    while isinstance(X, np.ndarray):
        file = getattr(X, "_mmap", None)
        if file is not None:
            shared = getattr(X, "mode", None) in ("r", "r+", "w+")
            return file if shared and hasattr(file, "madvise") else None
        X = X.base
    return None


def release(X: Any) -> None:
    """Release the memory of a map's pages that were read; they are read again on the next access."""
    file = _file_of(X._X if isinstance(X, MappedRows) else X)
    if file is not None:
        file.madvise(mmap.MADV_DONTNEED)


def announce(X: Any, rows: NDArray[np.int64], announced: set[int]) -> None:
    """Let the system read the surroundings of rows of a map, in long stretches and ahead of their use.

    Parameters
    ----------
    X : ndarray or MappedRows
        The map.
    rows : ndarray of int64
        Rows that will be accessed next, one by one, in any order.
    announced : set of int
        Blocks that were already announced; changed in place.
    """
    if isinstance(X, MappedRows):
        X, rows = X._X, X._rows[rows]
    file = _file_of(X)
    if file is None or X.strides[0] <= 0:
        return
    start = X.ctypes.data - np.frombuffer(file, dtype=np.uint8).ctypes.data
    found = set(((start + rows * X.strides[0]) // _BLOCK_BYTES).tolist()) - announced
    for block in sorted(found):
        # A row may continue in the next block.
        length = min(2 * _BLOCK_BYTES, len(file) - block * _BLOCK_BYTES)
        file.madvise(mmap.MADV_WILLNEED, block * _BLOCK_BYTES, length)
    if len(announced) > 4 * _WINDOW_BYTES // _BLOCK_BYTES:
        announced.clear()
    announced |= found


def shuffled(X: Any, generator: torch.Generator) -> torch.Tensor:
    """The rows of a map in random order, so that neighbours on disk are read together.

    Blocks of neighbouring rows are shuffled first, and then the rows within every 256 MB of shuffled blocks.
    """
    n_rows = X.shape[0]
    block = max(1, _BLOCK_BYTES * n_rows // max(1, _bytes(X)))
    starts = block * torch.randperm(-(-n_rows // block), generator=generator)
    order = []
    for few in starts.split(_WINDOW_BYTES // _BLOCK_BYTES):
        rows = (few[:, None] + torch.arange(block)).flatten()
        rows = rows[rows < n_rows]
        order.append(rows[torch.randperm(len(rows), generator=generator)])
    return torch.cat(order)


def take_rows(X: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of features or images: a copy of data in memory, a view of data on disk."""
    if isinstance(X, MappedRows):
        return X.take(rows)
    return MappedRows(X, rows) if is_mapped(X) else X[rows]
