"""Some rows of what lies on disk, which stay there."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MappedRows", "is_mapped", "take_rows"]


class MappedRows:
    """Rows of a memory map by their indices: what is asked for is read, and nothing is copied before.

    Parameters
    ----------
    X : ndarray of shape (n, ...)
        Backed by a file.
    rows : ndarray of int64, shape (m,)
        Which rows these are, in order.
    """

    def __init__(self, X: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._X, self._rows = X, rows
        self.shape = (len(rows), *X.shape[1:])
        self.dtype, self.ndim = X.dtype, X.ndim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        """Rows of these by a slice or by indices, as an array in memory."""
        return np.asarray(self._X[self._rows[index]])

    def take(self, rows: NDArray[np.int64]) -> MappedRows:
        """Some of these rows."""
        return MappedRows(self._X, self._rows[rows])


def is_mapped(X: Any) -> bool:
    """Whether an array is backed by a file, itself or what it is a view of."""
    while isinstance(X, np.ndarray):
        if isinstance(X, np.memmap):
            return True
        X = X.base
    return isinstance(X, mmap.mmap)


def take_rows(X: Any, rows: NDArray[np.int64]) -> Any:
    """Some rows of features or images: a copy of what is in memory, and a view of what lies on disk."""
    if isinstance(X, MappedRows):
        return X.take(rows)
    return MappedRows(X, rows) if is_mapped(X) else X[rows]
