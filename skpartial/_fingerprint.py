"""Fingerprints of data and parameters, to find results and checkpoints again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Any

import joblib
import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import nn

from skpartial.features._rows import is_large_map, release

__all__ = ["fit_fingerprint", "identity", "module_key", "numbers_key", "rows_key"]

# Bytes of rows that are loaded at a time.
_BLOCK_BYTES = 16 << 20
# Parameters of an estimator that do not change what is trained.
_NEUTRAL = ("checkpoint_dir", "n_jobs", "verbose", "random_state")


def identity(X: Any) -> str:
    """A key of the contents of X: paths, sizes and times of files, or the numbers themselves."""
    if isinstance(X, torch.Tensor):
        return _tensor_key(X)
    if (location := _hdf5_location(X)) is not None:
        path, *rest = location
        return str(joblib.hash((_file_key(path), *rest)))
    if isinstance(X, np.ma.MaskedArray):
        return f"{identity(np.ma.getdata(X))} masked {identity(np.ma.getmaskarray(X))}"
    if (
        hasattr(X, "iloc")
        and len(X.shape) == 2
        and X.shape[1] == 1
        and X.iloc[:, 0].to_numpy().dtype.kind not in "biufc"
    ):
        X = X.iloc[:, 0]  # which may hold paths
    if is_large_map(X):
        return numbers_key(X)
    if hasattr(X, "shape") and len(X.shape) > 1 and getattr(X, "dtype", None) != np.dtype(object):
        return str(joblib.hash(X))
    digest = hashlib.sha256()
    for item in X:
        if isinstance(item, str | os.PathLike):
            item = _file_key(item)
        digest.update((_tensor_key(item) if isinstance(item, torch.Tensor) else str(joblib.hash(item))).encode())
    return digest.hexdigest()


def _file_key(file: str | os.PathLike[str]) -> tuple[str, tuple[int, int] | None]:
    path = os.path.abspath(file)
    status = os.stat(path) if os.path.exists(path) else None
    return path, None if status is None else (status.st_size, status.st_mtime_ns)


def _hdf5_location(X: Any) -> tuple[Any, ...] | None:
    """File, data set and rows of images in HDF5, which are identified like files; None for anything else."""
    if hasattr(type(X), "hdf5_location"):  # HDF5Images
        location: tuple[Any, ...] = X.hdf5_location()
        return location
    if type(X).__module__.partition(".")[0] == "h5py":  # its objects cannot be pickled
        return X.file.filename, X.name, None
    return None


def _tensor_key(tensor: torch.Tensor) -> str:
    """A key of a tensor's numbers, on any device and of any type; pickles of equal tensors differ."""
    if tensor.layout != torch.strided:
        entries = tensor.detach().to_sparse_coo()
        return f"{tuple(tensor.shape)} {_tensor_key(entries._indices())} {_tensor_key(entries._values())}"
    whole = tensor.detach().cpu().contiguous()
    content = whole.reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{whole.dtype}{tuple(whole.shape)}".encode() + content).hexdigest()


def rows_key(X: Any) -> str:
    """A key of rows and their order: of all numbers, or of the paths, sizes and times of files.

    It does not depend on the memory layout, nor on whether the numbers are in an array or a tensor.
    """
    return str(X.identity()) if hasattr(X, "identity") else numbers_key(X)


def numbers_key(X: Any, rows: NDArray[np.int64] | None = None) -> str:
    """A key of rows of numbers, of anything with `shape` that can be sliced by rows; by default of all rows in order.

    Parameters
    ----------
    X : ndarray, memory map, csr_array, Tensor, or a lazy array of shape (n, ...)
        Numbers; never loaded into memory as a whole.
    rows : ndarray of int64, or None, default=None
        Indices of the rows, in order.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    n_rows = X.shape[0] if rows is None else len(rows)
    digest = hashlib.sha256(f"{n_rows} {tuple(X.shape[1:])}".encode())
    for block in _blocks(X, rows):
        if sp.issparse(block):
            block = sp.csr_array(block, copy=True)
            block.sum_duplicates()
            parts: tuple[Any, ...] = block.indptr.astype(np.int64), block.indices.astype(np.int64), block.data
        else:
            parts = (block,)
        for part in parts:
            content: Any
            if isinstance(part, torch.Tensor):
                dtype = str(part.dtype).removeprefix("torch.")
                content = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            else:
                native = np.ascontiguousarray(part, dtype=np.asarray(part).dtype.newbyteorder("="))
                dtype, content = str(native.dtype), native.reshape(-1).view(np.uint8)
            digest.update(dtype.encode())
            digest.update(content.tobytes())
    return digest.hexdigest()


def _blocks(X: Any, rows: NDArray[np.int64] | None) -> Iterable[Any]:
    """Blocks of rows, the same for every container."""
    n_rows = X.shape[0] if rows is None else len(rows)
    n = max(1, _BLOCK_BYTES // (8 * max(1, int(np.prod(X.shape[1:], dtype=np.int64)))))
    for start in range(0, n_rows, n):
        if rows is None:
            yield X[start : start + n]
            if is_large_map(X):
                release(X)
        elif isinstance(X, np.ndarray | torch.Tensor) or sp.issparse(X):
            yield X[rows[start : start + n]]
        else:  # a lazy array, which may support slices only
            yield np.concatenate([np.asarray(X[row : row + 1]) for row in rows[start : start + n].tolist()])


def module_key(module: nn.Module) -> str:
    """A key of a module's structure and numbers; pickles of equal modules differ."""
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update((name + _tensor_key(tensor)).encode())
    return digest.hexdigest()


def _canonical(value: Any) -> Any:
    """A parameter as plain values; equal parameters have equal hashes."""
    if isinstance(value, nn.Module):
        return type(value).__qualname__, module_key(value)
    if isinstance(value, BaseEstimator):
        # The length of training, and where numbers are held, do not change the identity of a fit.
        others = [*getattr(value, "length_parameters", tuple)(), *getattr(value, "placement_parameters", ())]
        parameters = {name: part for name, part in value.get_params(deep=False).items() if name not in others}
        return type(value).__qualname__, _canonical(parameters)
    if isinstance(value, dict):
        return [(str(key), _canonical(item)) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))]
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, torch.Tensor):
        return _tensor_key(value)
    if isinstance(value, torch.device):
        return str(value)
    return value


def fit_fingerprint(estimator: Any, random_state: int | None, *data: Any, **replaced: Any) -> str:
    """Name of a fit, which is the same for the same parameters, seed and data.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimator; its parameters count, and with ``warm_start`` its fitted parameters.
    random_state : int or None
        The seed, if the user gave one.
    *data : array, sparse matrix, sequence of paths, or None
        Arguments of `fit`.
    **replaced
        Objects that replace shorthands of parameters.

    Returns
    -------
    str
        Twenty hexadecimal digits.

    Raises
    ------
    ValueError
        If a parameter cannot be hashed, such as a lambda.
    """
    parameters = {name: value for name, value in estimator.get_params(deep=False).items() if name not in _NEUTRAL}
    fitted = None
    if estimator.warm_start and hasattr(estimator, "n_iter_"):
        more = ("network_", "_states", "_state_rows")
        fitted = {"parameters": estimator._parameters()} | {name: getattr(estimator, name, None) for name in more}
    known = [None if part is None else identity(part) for part in data]
    try:
        digest = joblib.hash(
            (type(estimator).__name__, _canonical(parameters | replaced), random_state, _canonical(fitted), known)
        )
    except Exception as error:
        # Pickling a user's object may raise anything.
        raise ValueError(
            f"checkpoint_dir needs parameters that can be pickled, to know this fit again ({error}): use named "
            "functions instead of lambdas, or checkpoint_dir=None."
        ) from error
    return str(digest)[:20]
