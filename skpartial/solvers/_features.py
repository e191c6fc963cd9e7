"""Features as a solver sees them: products with the whole matrix, and batches of rows, on a device."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from skpartial._devices import has_fast_bfloat16, has_feature

__all__ = [
    "Features",
    "Standardized",
    "as_features",
    "as_tensor",
    "compute_dtype",
    "overflow_error",
    "row_sums",
]

# Bytes of a chunk that travels to the device: large enough to hide the launch, small enough to leave room.
_CHUNK_BYTES = 64 << 20
# Bytes of a block of rows that is worked on in float64: it then stays in the processor's cache.
_BLOCK_BYTES = 1 << 20
# Products with fewer entries take no longer than what surrounds them, whatever their type.
_NARROW_ENTRIES = 1 << 21
# Features for each set of weights from which a product is turned round.
_FEW_WEIGHTS = 12
# Entries that are summed up in their own type.
_SUM_ENTRIES = 1 << 12


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
        wide = (torch.float64, torch.int32, torch.int64)
        return torch.float64 if X.dtype in wide else torch.float32
    return torch.float64 if np.result_type(X.dtype, np.float32) == np.float64 else torch.float32


def overflow_error(dtype: torch.dtype) -> ValueError:
    """What to say when finite features leave the range of the arithmetic."""
    return ValueError(
        f"X holds values so large that training overflows {str(dtype).removeprefix('torch.')}: scale the features "
        "first, for example with sklearn.preprocessing.StandardScaler."
    )


def row_sums(x: Tensor) -> Tensor:
    """Sums along rows in float64, to the digits of the type of x within a few thousand entries."""
    # Converting each entry takes several times as long.
    return torch.stack([part.sum(1).double() for part in x.split(_SUM_ENTRIES, dim=1)]).sum(0)


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
    def row_bytes(self) -> int:
        """Size of a row in a batch."""
        return self.n_features * self.dtype.itemsize

    @abstractmethod
    def forward(self, weights: Tensor) -> Tensor:
        """Scores of every row under weights of shape (k, n_features): shape (k, n_rows)."""

    @abstractmethod
    def backward(self, scores: Tensor) -> Tensor:
        """Rows summed up, weighted by scores of shape (k, n_rows): shape (k, n_features)."""

    def scores(self, theta: Tensor) -> Tensor:
        """Scores of every row, shape (k, n_rows), under weights and a last column of intercepts (k, n_features + 1)."""
        weights, intercept = theta[:, :-1], theta[:, -1:]
        if not bool(weights.any()):
            return intercept.expand(-1, self.n_rows).clone()
        return self.forward(weights).add_(intercept)

    @abstractmethod
    def batch(self, rows: Tensor) -> Tensor:
        """Rows by their indices: shape (b, n_features), sparse COO where the features are sparse on the CPU."""

    def batches(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Batches of rows, one after the other."""
        return map(self.batch, batches)

    def take(self, rows: Tensor) -> Features:
        """Some of the rows, as features of their own; all of them where that would cost more than it saves."""
        return self

    @abstractmethod
    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of rows with their features in float64, dense or sparse."""

    def own_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Slices of rows with their features, in the type of the products where that saves something."""
        return self.blocks()


def _scores(weights: Tensor, X: Tensor, out: Tensor | None = None) -> Tensor:
    """Scores of rows X (n, d) under weights (k, d): shape (k, n)."""
    if X.device.type == "cpu" and has_feature("amx_bf16") and _FEW_WEIGHTS * len(weights) <= X.shape[1]:
        # With AMX products of a tall matrix with a slim one are faster than those of a flat one with a tall one.
        scores = (X @ weights.T.contiguous()).T
        return scores.contiguous() if out is None else out.copy_(scores)
    return torch.mm(weights, X.T, out=out)


class ResidentFeatures(Features):
    """A tensor on the device; on the CPU a view of what the user passed."""

    def __init__(self, X: Tensor) -> None:
        super().__init__((X.shape[0], X.shape[1]), X.dtype, X.device)
        self.X = X

    def forward(self, weights: Tensor) -> Tensor:
        return _scores(weights, self.X)

    def backward(self, scores: Tensor) -> Tensor:
        return scores @ self.X

    def batch(self, rows: Tensor) -> Tensor:
        return self.X.index_select(0, rows.to(self.device))

    def take(self, rows: Tensor) -> Features:
        return ResidentFeatures(self.batch(rows))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, _BLOCK_BYTES // (8 * self.n_features))
        for start in range(0, self.n_rows, step):
            part = slice(start, min(start + step, self.n_rows))
            yield part, self.X[part].double()

    def own_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(1, _BLOCK_BYTES // (2 * self.X.itemsize * self.n_features))
        for start in range(0, self.n_rows, step):
            part = slice(start, min(start + step, self.n_rows))
            yield part, self.X[part]


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

    def forward(self, weights: Tensor) -> Tensor:
        return torch.cat([weights @ X.T for _, X in self.chunks()], dim=1)

    def backward(self, scores: Tensor) -> Tensor:
        result = torch.zeros(len(scores), self.n_features, dtype=self.dtype, device=self.device)
        for part, X in self.chunks():
            result.addmm_(scores[:, part], X)
        return result

    def batch(self, rows: Tensor) -> Tensor:
        return self._rows(rows if isinstance(self.X, Tensor) else rows.cpu().numpy())

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        for part, X in self.chunks():
            yield part, X.double()

    def own_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        return self.chunks()


class NarrowFeatures(Features):
    """Features rounded to bfloat16, for products of two or three digits, which are of that type as well."""

    def __init__(self, X: Tensor) -> None:
        super().__init__((X.shape[0], X.shape[1]), torch.float32, X.device)
        self.X = X

    def forward(self, weights: Tensor, out: Tensor | None = None) -> Tensor:
        return _scores(weights.to(self.X.dtype), self.X, out)

    def backward(self, scores: Tensor) -> Tensor:
        return scores.to(self.X.dtype) @ self.X

    def batch(self, rows: Tensor) -> Tensor:
        return self.X.index_select(0, rows.to(self.device)).float()

    def take(self, rows: Tensor) -> Features:
        return NarrowFeatures(self.X.index_select(0, rows.to(self.device)))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        yield slice(0, self.n_rows), self.X.double()


class SparseFeatures(Features):
    """CSR rows on the CPU: products cost what the stored values cost."""

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

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        step = max(4096, _BLOCK_BYTES // self.n_features)
        for start in range(0, self.n_rows, step):
            part = slice(start, min(start + step, self.n_rows))
            yield part, self.batch(torch.arange(part.start, part.stop)).double()


class MapFeatures(Features):
    """Feature maps (n, C, h, w): batches of them as they are, and products with their averages over the regions."""

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
        step = max(1, _CHUNK_BYTES // self.row_bytes)
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

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        return self.averages.blocks()


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
        step = max(1, _BLOCK_BYTES // (4 * self.n_features))
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
    X : ndarray, memory map, sparse matrix or Tensor, shape (n, d), or maps of shape (n, C, h, w)
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
        Resident, streamed, sparse, or maps.
    """
    if X.ndim == 4:
        return MapFeatures(X, dtype, device)
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
