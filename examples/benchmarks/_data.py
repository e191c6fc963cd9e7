"""Data sets and settings that the benchmarks share."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from skpartial.datasets import make_digit_scenes

__all__ = ["DataSet", "Split", "add_arguments", "limit_threads", "load", "names", "split", "synthetic"]

_FILES = {"ucmerced": "ucmerced_resnet50", "scene": "scene", "yeast": "yeast", "corel5k": "corel5k"}
_DIGITS = "digit_scenes"
_N_DIGIT_SCENES = 2000
_QUICK_ROWS, _QUICK_LABELS = 600, 12


class DataSet(NamedTuple):
    """Features and complete labels.

    Parameters
    ----------
    name : str
        What it is called.
    X : ndarray or csr_array of float32, shape (n, d)
        Features as published, not rescaled.
    Y : ndarray of int8, shape (n, L)
        1 present, 0 absent.
    """

    name: str
    X: Any
    Y: NDArray[np.int8]


class Split(NamedTuple):
    """Training and test part of a data set; labels as in `DataSet`."""

    X_train: Any
    Y_train: NDArray[np.int8]
    X_test: Any
    Y_test: NDArray[np.int8]


def add_arguments(parser: ArgumentParser) -> None:
    """Options that every benchmark on real features has."""
    parser.add_argument(
        "--data",
        metavar="DIR",
        default=os.environ.get("SKPARTIAL_DATA"),
        help="directory with features/*.npz (default: the environment variable SKPARTIAL_DATA; without either the "
        "benchmark runs on skpartial's digit scenes)",
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help=f"some of {', '.join(_FILES)}, {_DIGITS}")
    parser.add_argument("--quick", "--smoke", action="store_true", help="few rows and labels: does it run?")
    parser.add_argument("--threads", type=int, default=1, help="threads of every method (default: 1)")


def names(directory: str | None, wanted: list[str] | None) -> list[str]:
    """Data sets to run on: those asked for, else all that are there."""
    available = [name for name in _FILES if directory is not None and _path(directory, name).exists()]
    if wanted is None:
        return available or [_DIGITS]
    for name in wanted:
        if name != _DIGITS and name not in available:
            raise SystemExit(
                f"{name} is not among the data sets here ({', '.join([*available, _DIGITS])}): pass --data."
            )
    return wanted


def load(name: str, directory: str | None, *, quick: bool = False, n_scenes: int = _N_DIGIT_SCENES) -> DataSet:
    """Read a data set, or the first rows and the most frequent labels of it."""
    if name == _DIGITS:
        scenes = make_digit_scenes(n_scenes, random_state=0)
        X, Y = scenes.data, (scenes.target == 1).astype(np.int8)
    else:
        assert directory is not None
        with np.load(_path(directory, name)) as file:
            if "n_labels" in file:
                Y = np.unpackbits(file["Y"], axis=1)[:, : int(file["n_labels"])].astype(np.int8)
            else:
                Y = file["Y"].astype(np.int8)
            if "X" in file:
                X = file["X"].astype(np.float32)
            else:
                X = sp.csr_array((file["X_data"], file["X_indices"], file["X_indptr"]), shape=file["X_shape"])
    if quick:
        # Spread over the file, whose rows may be sorted by class.
        rows = np.linspace(0, len(Y) - 1, min(len(Y), _QUICK_ROWS)).astype(np.intp)
        X, Y = X[rows], Y[rows]
        Y = Y[:, np.sort(np.argsort(-Y.sum(axis=0), kind="stable")[:_QUICK_LABELS])]
    return DataSet(name, X, Y)


def synthetic(name: str, shape: tuple[int, int, int], seed: int) -> DataSet:
    """Non-negative features of 64 factors and noise, as a network's are, and labels that depend on the factors."""
    n, d, n_labels = shape
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n, 64)).astype(np.float32)
    X = factors @ rng.standard_normal((64, d)).astype(np.float32) / 8
    X += rng.standard_normal((n, d)).astype(np.float32)
    np.maximum(X, 0, out=X)
    logits = factors @ rng.standard_normal((64, n_labels)) / 2 + rng.logistic(size=(n, n_labels))
    # From rare to frequent.
    cuts = [np.quantile(column, 1 - share) for column, share in zip(logits.T, np.geomspace(0.02, 0.3, n_labels))]
    return DataSet(name, X, (logits > cuts).astype(np.int8))


def split(data: DataSet, *, test_size: float, seed: int) -> Split:
    """Stratified by all labels at once, so that rare ones come to lie in both parts."""
    splitter = MultilabelStratifiedShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    train, test = next(splitter.split(np.zeros((len(data.Y), 1)), data.Y))
    return Split(data.X[train], data.Y[train], data.X[test], data.Y[test])


def mean_squared_distance(X: Any) -> float:
    """Of the rows from their mean: what ``alpha="auto"`` is relative to."""
    dense = np.asarray(X.toarray() if sp.issparse(X) else X, dtype=np.float64)
    return float(np.square(dense - dense.mean(0)).sum(1).mean())


@contextmanager
def limit_threads(n_threads: int) -> Iterator[None]:
    """Give every library the same number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        with threadpool_limits(n_threads):
            yield
    finally:
        torch.set_num_threads(before)


def _path(directory: str, name: str) -> Path:
    return Path(directory) / "features" / f"{_FILES[name]}.npz"
