"""The interface of features for solvers, and shared helpers."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Features", "as_tensor", "compute_dtype", "overflow_error", "row_sums"]

# Number of entries that are summed in their own type.
_SUM_ENTRIES = 1 << 12


def as_tensor(array: NDArray[Any]) -> Tensor:
    """View an array as a tensor, even if it is read-only: nothing in the package writes to features or labels."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        # Not np.ascontiguousarray: it keeps odd strides of axes of length 1.
        array = array.copy()
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def compute_dtype(X: Any, precision: str) -> torch.dtype:
    """Floating-point type for the computation: float32 if it can represent all values of X, else float64."""
    if precision != "auto":
        return {"float32": torch.float32, "float64": torch.float64}[precision]
    if isinstance(X, Tensor):
        wide = (torch.float64, torch.int32, torch.int64)
        return torch.float64 if X.dtype in wide else torch.float32
    return torch.float64 if np.result_type(X.dtype, np.float32) == np.float64 else torch.float32


def overflow_error(dtype: torch.dtype) -> ValueError:
    """The error for finite features that exceed the range of the computation."""
    return ValueError(
        f"X holds values so large that training overflows {str(dtype).removeprefix('torch.')}: scale the features "
        "first, for example with sklearn.preprocessing.StandardScaler."
    )


def row_sums(x: Tensor) -> Tensor:
    """Sums along rows in float64; partial sums of a few thousand entries have the precision of x."""
    # Converting every entry takes several times as long.
    return torch.stack([part.sum(1).double() for part in x.split(_SUM_ENTRIES, dim=1)]).sum(0)


class Features(ABC):
    """A feature matrix with n rows, in any kind of storage.

    Parameters
    ----------
    shape : tuple of int
        Number of rows and of features.
    dtype : torch.dtype
        Floating-point type of all products.
    device : torch.device
        Device of the products.
    """

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.n_rows, self.n_features = shape
        self.dtype = dtype
        self.device = device

    @property
    def row_bytes(self) -> int:
        """Size of a row in a batch."""
        return self.n_features * self.dtype.itemsize

    @abstractmethod
    def forward(self, weights: Tensor) -> Tensor:
        """Scores of all rows, shape (k, n_rows), for weights of shape (k, n_features)."""

    @abstractmethod
    def backward(self, scores: Tensor) -> Tensor:
        """Sums of rows, shape (k, n_features), weighted by scores of shape (k, n_rows)."""

    def scores(self, theta: Tensor) -> Tensor:
        """Scores of all rows, shape (k, n_rows), for weights with a last column of intercepts (k, n_features + 1)."""
        weights, intercept = theta[:, :-1], theta[:, -1:]
        if not bool(weights.any()):
            return intercept.expand(-1, self.n_rows).clone()
        return self.forward(weights).add_(intercept)

    @abstractmethod
    def batch(self, rows: Tensor) -> Tensor:
        """Rows by index, shape (b, n_features); sparse COO if the features are sparse on the CPU."""

    def batches(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Batches of rows, in order."""
        return map(self.batch, batches)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Row indices in random order for one pass, shape (n,)."""
        return torch.randperm(self.n_rows, generator=generator)

    def take(self, rows: Tensor) -> Features:
        """A subset of the rows as features; all rows if the subset costs more than it saves."""
        return self

    def part(self, rows: slice) -> Features:
        """Consecutive rows, without a copy if possible."""
        raise TypeError(f"{type(self).__name__} has no parts.")

    @abstractmethod
    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of rows with their features in float64, dense or sparse."""

    def position_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Like `blocks`, but with one row per position for feature maps."""
        return self.blocks()

    def own_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of rows with their features, in the type of the products if that saves a conversion."""
        return self.blocks()
