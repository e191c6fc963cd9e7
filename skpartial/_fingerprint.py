"""Fingerprints of data and parameters, by which results and checkpoints are found again."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

__all__ = ["fit_fingerprint", "identity", "module_key", "rows_key"]

# Rows by which a training set is known again.
_KEY_ROWS = 256
# Parameters of an estimator that do not change what is trained.
_NEUTRAL = ("checkpoint_dir", "n_jobs", "verbose", "random_state")


def identity(X: Any) -> str:
    """A key of what X holds: of files their paths, sizes and times, of numbers the numbers."""
    if isinstance(X, torch.Tensor):
        return _tensor_key(X)
    if (location := _hdf5_location(X)) is not None:
        path, *rest = location
        return str(joblib.hash((_file_key(path), *rest)))
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
    """File, data set and rows of images in HDF5, which are known again as files are; None of anything else."""
    if hasattr(type(X), "hdf5_location"):  # HDF5Images
        location: tuple[Any, ...] = X.hdf5_location()
        return location
    if type(X).__module__.partition(".")[0] == "h5py":  # whose objects cannot be pickled
        return X.file.filename, X.name, None
    return None


def _tensor_key(tensor: torch.Tensor) -> str:
    """A key of a tensor's numbers, wherever and in whatever type it is; pickles of equal tensors differ."""
    whole = tensor.detach().cpu().contiguous()
    content = whole.reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{whole.dtype}{tuple(whole.shape)}".encode() + content).hexdigest()


def rows_key(X: Any) -> str:
    """A key of which rows these are, in which order: of some hundred of them, evenly spaced."""
    n_rows = X.shape[0]
    rows = np.unique(np.linspace(0, n_rows - 1, min(n_rows, _KEY_ROWS)).astype(np.int64))
    if hasattr(X, "read_rows"):  # images
        return f"{n_rows} {_tensor_key(X.read_rows(rows[:: max(1, len(rows) // 16)]))}"
    return f"{n_rows} {identity(X[rows])}"


def module_key(module: nn.Module) -> str:
    """A key of a module's structure and numbers; pickles of equal modules differ."""
    digest = hashlib.sha256(repr(module).encode())
    for name, tensor in module.state_dict().items():
        digest.update((name + _tensor_key(tensor)).encode())
    return digest.hexdigest()


def _canonical(value: Any) -> Any:
    """A parameter as plain values that hash alike whenever they are alike."""
    if isinstance(value, nn.Module):
        return type(value).__qualname__, module_key(value)
    if isinstance(value, BaseEstimator):
        return type(value).__qualname__, _canonical(value.get_params(deep=False))
    if isinstance(value, dict):
        return [(str(key), _canonical(item)) for key, item in sorted(value.items(), key=lambda pair: str(pair[0]))]
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, torch.Tensor):
        return _tensor_key(value)
    if isinstance(value, torch.device):
        return str(value)
    return value


def fit_fingerprint(estimator: Any, random_state: int | None, *data: Any) -> str:
    """Name of a fit: the same for the same parameters, seed and data.

    Parameters
    ----------
    estimator : BaseEstimator
        Whose parameters, and fitted parameters under ``warm_start``, count.
    random_state : int or None
        The seed, where the user gave one.
    *data : array, sparse matrix, sequence of paths, or None
        What `fit` was called with.

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
    fitted = estimator._parameters() if estimator.warm_start and hasattr(estimator, "n_iter_") else None
    known = [None if part is None else identity(part) for part in data]
    try:
        digest = joblib.hash(
            (type(estimator).__name__, _canonical(parameters), random_state, _canonical(fitted), known)
        )
    except Exception as error:
        # Whatever pickling a user's object may raise.
        raise ValueError(
            f"checkpoint_dir needs parameters that can be pickled, to know this fit again ({error}): use named "
            "functions instead of lambdas, or checkpoint_dir=None."
        ) from error
    return str(digest)[:20]
