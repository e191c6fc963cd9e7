"""Features as a solver sees them: products with the whole matrix, and batches of rows, on a device."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Features", "Rescaled", "as_features", "as_tensor", "compute_dtype", "overflow_error", "unit_scale"]

# Bytes of a chunk that travels to the device: large enough to hide the launch, small enough to leave room.
_CHUNK_BYTES = 64 << 20
_FEW_COLUMNS = 64


def as_tensor(array: NDArray[Any]) -> Tensor:
    """View an array as a tensor, read-only ones too: nothing in the package writes to features or labels."""
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    if array.flags.writeable:
        return torch.from_numpy(array)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def compute_dtype(X: Any, precision: str) -> torch.dtype:
    """Floating type to compute in: float32 wherever it holds every value of X, float64 otherwise."""
    if precision != "auto":
        return {"float32": torch.float32, "float64": torch.float64}[precision]
    if isinstance(X, Tensor):
        return torch.promote_types(X.dtype, torch.float32) if X.is_floating_point() else torch.float32
    return torch.float64 if np.result_type(X.dtype, np.float32) == np.float64 else torch.float32


def overflow_error(dtype: torch.dtype) -> ValueError:
    """What to say when finite features leave the range of the arithmetic."""
    return ValueError(
        f"X holds values so large that training overflows {str(dtype).removeprefix('torch.')}: scale the features "
        "first, for example with sklearn.preprocessing.StandardScaler."
    )


class Features(ABC):
    """A feature matrix of n rows, wherever and however it is stored.

    Parameters
    ----------
    shape : tuple of int
        Number of rows and of features.
    dtype : torch.dtype
        Floating type of all products.
    device : torch.device
        Where products are returned.
    """

    def __init__(self, shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.n_rows, self.n_features = shape
        self.dtype = dtype
        self.device = device

    @property
    def n_stored(self) -> int:
        """How many values a product reads."""
        return self.n_rows * self.n_features

    @abstractmethod
    def matmul(self, right: Tensor) -> Tensor:
        """Product with a matrix of shape (n_features, k): shape (n_rows, k)."""

    @abstractmethod
    def rmatmul(self, right: Tensor) -> Tensor:
        """Product of the transpose with a matrix of shape (n_rows, k): shape (n_features, k)."""

    @abstractmethod
    def batch(self, rows: Tensor) -> Tensor:
        """Rows by their indices: shape (b, n_features), sparse COO where the features are sparse on the CPU."""

    @abstractmethod
    def mean_squares(self, row_weight: Tensor) -> Tensor:
        """Mean square of every column, rows weighted by what sums to 1: float64, on the CPU."""


class ResidentFeatures(Features):
    """A tensor on the device; on the CPU a view of what the user passed."""

    def __init__(self, X: Tensor) -> None:
        super().__init__((X.shape[0], X.shape[1]), X.dtype, X.device)
        self.X = X

    # With few columns on the right, matrix libraries for the CPU are up to three times faster the other way round.
    def matmul(self, right: Tensor) -> Tensor:
        if right.shape[1] > _FEW_COLUMNS or self.X.is_cuda:
            return self.X @ right
        return (right.T.contiguous() @ self.X.T).T.contiguous()

    def rmatmul(self, right: Tensor) -> Tensor:
        if right.shape[1] > _FEW_COLUMNS or self.X.is_cuda:
            return self.X.T @ right
        return (right.T.contiguous() @ self.X).T.contiguous()

    def batch(self, rows: Tensor) -> Tensor:
        return self.X.index_select(0, rows.to(self.device))

    def mean_squares(self, row_weight: Tensor) -> Tensor:
        step = max(1, _CHUNK_BYTES // (8 * self.n_features))
        weights = row_weight.to(self.device).split(step)
        parts = [w @ X.double().square() for X, w in zip(self.X.split(step), weights)]
        return torch.stack(parts).sum(0).cpu()


class StreamedFeatures(Features):
    """Rows that stay where they are (memory map, host memory) and pass through the device in chunks.

    For what is larger than the device's memory, and for memory maps of another type than the one computed in, which
    are converted chunk by chunk; sparse rows are made dense by the chunk where the device has no sparse products.
    """

    def __init__(self, X: Any, dtype: torch.dtype, device: torch.device, chunk_bytes: int = _CHUNK_BYTES) -> None:
        super().__init__(X.shape, dtype, device)
        self.X = X
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

    def matmul(self, right: Tensor) -> Tensor:
        result = torch.empty(self.n_rows, right.shape[1], dtype=self.dtype, device=self.device)
        for part, X in self.chunks():
            torch.matmul(X, right, out=result[part])
        return result

    def rmatmul(self, right: Tensor) -> Tensor:
        result = torch.zeros(self.n_features, right.shape[1], dtype=self.dtype, device=self.device)
        for part, X in self.chunks():
            result.addmm_(X.T, right[part])
        return result

    def batch(self, rows: Tensor) -> Tensor:
        return self._rows(rows if isinstance(self.X, Tensor) else rows.cpu().numpy())

    def mean_squares(self, row_weight: Tensor) -> Tensor:
        weights = row_weight.to(self.device)
        return torch.stack([weights[part] @ X.double().square() for part, X in self.chunks()]).sum(0).cpu()


class SparseFeatures(Features):
    """CSR rows on the CPU: products cost what the stored values cost."""

    def __init__(self, X: sp.csr_array, dtype: torch.dtype) -> None:
        super().__init__(X.shape, dtype, torch.device("cpu"))
        self.X = X.astype(torch.empty(0, dtype=dtype).numpy().dtype, copy=False)
        self._transposed = self.X.T

    @property
    def n_stored(self) -> int:
        return int(self.X.nnz)

    def matmul(self, right: Tensor) -> Tensor:
        return torch.from_numpy(self.X @ right.numpy())

    def rmatmul(self, right: Tensor) -> Tensor:
        return torch.from_numpy(self._transposed @ right.numpy())

    def batch(self, rows: Tensor) -> Tensor:
        chosen = self.X[rows.numpy()].tocoo()
        index = torch.from_numpy(np.stack(chosen.coords).astype(np.int64))
        return torch.sparse_coo_tensor(index, torch.from_numpy(chosen.data), chosen.shape, check_invariants=False)

    def mean_squares(self, row_weight: Tensor) -> Tensor:
        squares = self.X.astype(np.float64)
        with np.errstate(over="ignore"):
            np.square(squares.data, out=squares.data)
            return torch.as_tensor(squares.T @ row_weight.numpy())


class Rescaled(Features):
    """Features with every column multiplied by a number, which products apply to their small operand or result.

    Parameters
    ----------
    features : Features
        Of d columns.
    factors : Tensor of shape (d, 1)
        On the device and in the type of the features.
    """

    def __init__(self, features: Features, factors: Tensor) -> None:
        super().__init__((features.n_rows, features.n_features), features.dtype, features.device)
        self.features, self.factors = features, factors

    def matmul(self, right: Tensor) -> Tensor:
        return self.features.matmul(right * self.factors)

    def rmatmul(self, right: Tensor) -> Tensor:
        return self.features.rmatmul(right).mul_(self.factors)

    def batch(self, rows: Tensor) -> Tensor:
        return self.features.batch(rows) * self.factors.T

    def mean_squares(self, row_weight: Tensor) -> Tensor:
        return self.features.mean_squares(row_weight) * self.factors[:, 0].cpu().double().square()


def unit_scale(features: Features, row_weight: Tensor | None) -> tuple[float, Tensor]:
    """Factor that brings the features to a root mean square of 1, so that no solver sees their units.

    Parameters
    ----------
    features : Features
        Of n rows.
    row_weight : Tensor of shape (n,) or None
        What each row counts for.

    Returns
    -------
    factor : float
        1 where all features are zero.
    mean_squares : Tensor of float64, shape (d,)
        Mean square of each column.

    Raises
    ------
    ValueError
        If their squares overflow float64.
    """
    weight = torch.ones(features.n_rows, dtype=torch.float64) if row_weight is None else row_weight.cpu().double()
    mean_squares = features.mean_squares(weight / weight.sum())
    root_mean_square = float(mean_squares.mean()) ** 0.5
    if not np.isfinite(root_mean_square):
        raise overflow_error(features.dtype)
    # The square of the factor multiplies the penalty, so it must stay in range as well.
    limit = torch.finfo(features.dtype).max ** 0.4
    return min(1 / root_mean_square, limit) if root_mean_square > 0 else 1.0, mean_squares


def _device_budget(device: torch.device) -> float:
    """Bytes of features that may stay on the device: most of what is free, leaving room for the products."""
    if device.type == "cuda":
        return 0.6 * torch.cuda.mem_get_info(device)[0]
    return float("inf")


def as_features(
    X: Any, *, dtype: torch.dtype, device: torch.device, max_resident_bytes: float | None = None
) -> Features:
    """Choose how features are held.

    Parameters
    ----------
    X : ndarray, memory map, sparse matrix or Tensor, shape (n, d)
        Validated features; never written to.
    dtype : torch.dtype
        Floating type to compute in.
    device : torch.device
        Where to compute.
    max_resident_bytes : float or None, default=None
        More than this is streamed in chunks; None asks the device what is free.

    Returns
    -------
    Features
        Resident, streamed or sparse.
    """
    if sp.issparse(X) and device.type == "cpu":
        return SparseFeatures(sp.csr_array(X), dtype)
    budget = _device_budget(device) if max_resident_bytes is None else max_resident_bytes
    too_large = X.shape[0] * X.shape[1] * dtype.itemsize > budget
    if sp.issparse(X):
        return StreamedFeatures(sp.csr_array(X), dtype, device)
    if isinstance(X, Tensor):
        same = X.device == device and X.dtype == dtype
        if too_large and not same:
            return StreamedFeatures(X.detach(), dtype, device)
        return ResidentFeatures(X.detach().to(device=device, dtype=dtype))
    converts = X.dtype != torch.empty(0, dtype=dtype).numpy().dtype
    if too_large or (converts and isinstance(X, np.memmap)):
        return StreamedFeatures(X, dtype, device)
    return ResidentFeatures(as_tensor(X).to(device=device, dtype=dtype))
