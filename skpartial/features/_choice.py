"""Choice of the storage of features."""

from __future__ import annotations

from typing import Any

import scipy.sparse as sp
import torch
from torch import Tensor

from skpartial.features._base import Features, as_tensor
from skpartial.features._maps import MapFeatures
from skpartial.features._matrix import ResidentFeatures, SparseFeatures, StreamedFeatures
from skpartial.features._rows import MappedRows, is_large_map, is_mapped

__all__ = ["as_features"]


def _device_budget(device: torch.device) -> float:
    """Bytes of features that may stay on the device: most of the free memory, with room left for products."""
    if device.type == "cuda":
        return 0.6 * torch.cuda.mem_get_info(device)[0]
    return float("inf")


def as_features(
    X: Any, *, dtype: torch.dtype, device: torch.device, max_resident_bytes: float | None = None
) -> Features:
    """Choose the storage of features.

    Parameters
    ----------
    X : ndarray, memory map, sparse matrix or Tensor, shape (n, d), or maps of shape (n, C, h, w)
        Validated features; never written to.
    dtype : torch.dtype
        Floating-point type for the computation.
    device : torch.device
        Device for the computation.
    max_resident_bytes : float or None, default=None
        Larger features are streamed in chunks; None is the device's free memory. Maps on disk above 2 GiB are streamed.

    Returns
    -------
    Features
        Resident, streamed or sparse features, or feature maps.
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
    if max_resident_bytes is None and is_large_map(X):
        return StreamedFeatures(X, dtype, device)
    if too_large or isinstance(X, MappedRows) or (converts and is_mapped(X)):
        return StreamedFeatures(X, dtype, device)
    return ResidentFeatures(as_tensor(X).to(device=device, dtype=dtype))
