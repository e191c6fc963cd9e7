"""Validation and encoding of X, y and priors as users pass them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import validate_data

from skpartial._checks import check_unmasked
from skpartial._tensors import check_tensor
from skpartial._warnings import warn
from skpartial.features._matrix import CHUNK_BYTES
from skpartial.features._rows import is_large_map, release
from skpartial.labels import LabelMatrix
from skpartial.labels._data import probabilities
from skpartial.labels._forms import (
    check_label_names,
    column_names,
    has_masked_rows,
    is_table,
    is_vector,
    plain,
)
from skpartial.labels._frames import missing_entries

__all__ = [
    "EncodedTarget",
    "check_features",
    "check_label_prior",
    "encode_target",
    "rows_of_labels",
]


def check_features(estimator: BaseEstimator, X: Any, *, reset: bool, maps: bool = False) -> Any:
    """Validate features, and return them as an ndarray, CSR matrix or tensor, copied only if necessary.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimator; its `n_features_in_` is set or checked.
    X : array-like, DataFrame, sparse matrix or Tensor, shape (n, d)
        Features.
    reset : bool
        Whether to set `n_features_in_`, as in a fit.
    maps : bool, default=False
        Whether X holds feature maps instead, of shape (n, C, h, w).

    Returns
    -------
    ndarray, csr_array or Tensor
        Of any numeric type.

    Raises
    ------
    ValueError
        If X has masked entries, a wrong number of dimensions or features, or is not numeric, not finite or empty.
    """
    check_unmasked("X", X)
    if isinstance(X, torch.Tensor):
        X = check_tensor(X, "X")
    shape = getattr(X, "shape", None) or np.shape(X) if maps else getattr(X, "shape", (0, 0))
    if maps and len(shape) != 4:
        raise ValueError(
            f"head={estimator.head!r} takes feature maps of shape (n, C, h, w), but X has {len(shape)} dimensions: "
            "pass maps, or head='linear' for features."
        )
    if maps and 0 in shape:
        raise ValueError(f"X has shape {tuple(shape)}, but feature maps need at least one row, channel and region.")
    if not maps and len(shape) in (3, 4):
        of_maps = (
            " If X holds feature maps, average them over their regions first, or use a head that pools them, such as "
            "skpartial.heads.AveragePooling()."
        )
        raise ValueError(
            f"X has {len(shape)} dimensions, but head={estimator.head!r} takes features of shape (n, d). If X holds "
            "images, set a network, such as backbone='resnet50', or extract features first with "
            f"skpartial.ImageFeatures.{of_maps if len(shape) == 4 else ''}"
        )
    if hasattr(X, "columns") and len(shape) == 2 and shape[1] == 0:
        raise ValueError(f"X is a DataFrame of shape {tuple(shape)}, but needs at least one column.")
    if not isinstance(X, torch.Tensor):
        large = is_large_map(X)
        # The check for NaN sums the values, and the sum of large finite ones may overflow.
        with np.errstate(over="ignore", invalid="ignore"):
            X = validate_data(
                estimator,
                X,
                reset=reset,
                accept_sparse="csr",
                dtype="numeric",
                order=None,
                allow_nd=maps,
                ensure_all_finite=not large,
            )
            if large:
                _check_finite_in_parts(X)
        if X.dtype.kind not in "biuf":
            raise ValueError(f"X must hold numbers, got {X.dtype}.")
        if X.dtype.kind == "b":
            X = X.view(np.uint8) if isinstance(X, np.ndarray) else X.astype(np.uint8)
        if X.dtype.kind == "f" and X.dtype.itemsize > 8:
            X = X.astype(np.float64)
        return X
    if X.ndim != (4 if maps else 2) or 0 in X.shape:
        raise ValueError(
            f"X must be a tensor of shape (n_rows, n_features) with at least one of each, got {tuple(X.shape)}."
        )
    if X.is_complex():
        raise ValueError("Complex data not supported: X must hold real numbers.")
    if X.is_floating_point() and not bool(torch.isfinite(X).all()):
        raise ValueError("Input X contains NaN or infinity.")
    if reset:
        estimator.n_features_in_ = X.shape[1]
        estimator.__dict__.pop("feature_names_in_", None)
    elif X.shape[1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {X.shape[1]} features, but {type(estimator).__name__} is expecting {estimator.n_features_in_} "
            "features as input."
        )
    return X


def _check_finite_in_parts(X: NDArray[Any]) -> None:
    """Refuse a large memory map that holds NaN or infinity, with scikit-learn's message."""
    step = max(1, CHUNK_BYTES * len(X) // X.nbytes)
    for start in range(0, len(X), step):
        assert_all_finite(X[start : start + step], input_name="X")
        release(X)


@dataclass(frozen=True)
class EncodedTarget:
    """Encoded labels y.

    Parameters
    ----------
    labels : LabelMatrix
        Labels, shape (n, L); (n, 1) with values in {-1, 1} for 1-D y.
    classes : ndarray
        The two classes of 1-D y; else [0, 1] for every label, shape (L, 2).
    binary : bool
        Whether y was 1-D: one label that is known in every row.
    """

    labels: LabelMatrix
    classes: NDArray[Any]
    binary: bool


def encode_target(
    estimator: BaseEstimator,
    y: Any,
    *,
    name: str = "y",
    classes: NDArray[Any] | None = None,
    matrix: bool = False,
) -> EncodedTarget:
    """Encode y: a label matrix, or 1-D y for plain binary classification.

    Parameters
    ----------
    estimator : BaseEstimator
        Named in error messages.
    y : array-like, DataFrame or sparse matrix, shape (n,) or (n, L)
        Labels.
    name : str, default="y"
        Name of y in error messages.
    classes : ndarray or None, default=None
        The two classes of 1-D y, if already known.
    matrix : bool, default=False
        Whether an array of one column is a label matrix whatever its values, as after a fit on a label matrix.

    Returns
    -------
    EncodedTarget
        Labels and classes.

    Raises
    ------
    ValueError
        If y is missing, holds invalid values, or is 1-D without exactly two classes.
    """
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires {name} to be passed, but the target {name} is None.")
    if is_vector(y):
        array = _as_array(y, name)
        if array.size == 0:
            raise ValueError(f"{name} has shape {array.shape}, but needs at least one row and one label.")
        if array.ndim == 1 or not matrix:
            vector = column_or_1d(y if array.dtype == object else array)
            return _encode_vector(vector, name, classes, column=array.ndim == 2)
    labels = LabelMatrix.encode(y, name=name)
    return EncodedTarget(labels, np.tile([0, 1], (labels.n_labels, 1)), binary=False)


def rows_of_labels(y: Any, name: str = "y") -> Any:
    """Labels in a form that scikit-learn can index by rows, and whose subsets are encoded like the whole.

    Parameters
    ----------
    y : array-like, table, sparse matrix, Tensor or LabelMatrix, shape (n,) or (n, L)
        Labels.
    name : str, default="y"
        Name of y in error messages.

    Returns
    -------
    ndarray, table or sparse matrix
        The input, if it has such a form.

    Raises
    ------
    ValueError
        If y is 1-D with masked entries, or an array of one column whose subsets would be read as different classes.
    """
    if is_vector(y):
        array = _as_array(y, name)
        if array.ndim == 2:
            _refuse_ambiguous(array, name, column=True)
        return array if isinstance(y, torch.Tensor | np.ma.MaskedArray) else y
    if isinstance(y, np.ma.MaskedArray | LabelMatrix) or has_masked_rows(y):
        labels = LabelMatrix.encode(y, name=name)
        return labels.values if labels.n_labels > 1 else sp.csr_array(labels.values)
    if is_table(y) or sp.issparse(y):
        return y
    read = plain(y, name)
    return read if isinstance(y, torch.Tensor) else y


def _as_array(y: Any, name: str) -> NDArray[Any]:
    array: NDArray[Any] = plain(y, name)
    first = array[0] if array.ndim == 1 and array.dtype == object and len(array) else None
    if isinstance(first, list | tuple | set | np.ndarray):
        raise ValueError(
            f"{name} holds lists: convert lists of names to a label matrix with skpartial.labels.from_names."
        )
    if np.iscomplexobj(array):
        raise ValueError(f"Complex data not supported: {name} must hold real numbers.")
    return array


# Unambiguous forms, whatever values a subset holds.
_ONE_LABEL = "For one label with unknown entries, pass a DataFrame of one column, or scipy.sparse.csr_array({})"

_NO_WRAPPER = (
    " If MultiOutputClassifier, OneVsRestClassifier or another wrapper splits the label matrix into columns, leave it "
    "out: the classifier takes all labels at once."
)


def _refuse_ambiguous(y: NDArray[Any], name: str, *, column: bool) -> None:
    """Refuse a vector with both -1 and 0: subsets with only one of the two would mean something else."""
    if y.dtype.kind not in "fiu":
        return
    found = set(np.unique(y).tolist())
    if found == {-1, 0, 1} or (column and found == {-1, 0}):
        matrix = name if column else f"{name}.reshape(-1, 1)"
        what = f"{name} is an array of one column, which is read as two classes, but" if column else f"1-D {name}"
        raise ValueError(
            f"{what} holds {'-1, 0 and 1' if 1 in found else '-1 and 0'}, which is ambiguous: Only binary "
            f"classification is supported. {_ONE_LABEL.format(matrix)}; for more classes use "
            f"skpartial.labels.from_classes.{'' if column else _NO_WRAPPER}"
        )


def _values(array: NDArray[Any]) -> NDArray[Any]:
    try:
        return np.unique(array)
    except TypeError:
        return np.unique(array.astype(str))


def _refuse_missing(y: NDArray[Any], name: str) -> None:
    """Refuse missing values, which would be an error in scikit-learn or, among strings, become a class of their own."""
    missing = missing_entries(y)
    if not missing.any():
        return
    found = _values(y[~missing]).tolist()
    cure = ", or convert the classes to a label matrix."
    if all(value in (0, 1) for value in found):
        cure = f"; for one label with unknown entries, pass skpartial.labels.from_nan(pandas.DataFrame({name}))."
    elif all(value in (-1, 1) for value in found):
        cure = f"; for one label with unknown entries, pass pandas.DataFrame({name}).fillna(0)."
    raise ValueError(
        f"Input {name} contains NaN: row {int(np.argmax(missing))} has no class, and every row of a 1-D {name} needs "
        f"one. Leave such rows out{cure}"
    )


def _encode_vector(y: NDArray[Any], name: str, classes: NDArray[Any] | None, *, column: bool) -> EncodedTarget:
    _refuse_missing(y, name)
    if y.dtype.kind == "f" or (y.dtype == object and all(isinstance(value, float) for value in y)):
        # The message for infinity, from scikit-learn.
        y = check_array(y, ensure_2d=False, dtype=np.float64 if y.dtype == object else None, input_name=name)
    _refuse_ambiguous(y, name, column=column)
    found = _values(y)
    kind = type_of_target(y, input_name=name, raise_unknown=True)
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind}. {name} must be a label matrix of shape (n_rows, n_labels) with values in "
            "{-1, 0, 1}, or a vector of two classes."
        )
    if len(found) > 2:
        raise ValueError(
            f"Only binary classification is supported. The 1-D target {name} holds {len(found)} classes; use "
            "skpartial.labels.from_classes to convert them to a label matrix."
        )
    if classes is None:
        if len(found) < 2:
            cure = f" {_ONE_LABEL.format(name)}." if column else ""
            raise ValueError(
                f"1-D {name} holds only one class, {found.tolist()[0]!r}, but a classifier needs both.{cure}"
            )
        classes = found
    elif not np.isin(found, classes).all():
        raise ValueError(f"1-D {name} holds the classes {found.tolist()}, expected {np.asarray(classes).tolist()}.")
    if column:
        # scikit-learn's estimator checks require this reading and the first words.
        shown = " and ".join(map(repr, np.asarray(classes).tolist()))
        warn(
            f"A column-vector {name} was passed when a 1d array was expected: an array of one column is read as two "
            f"classes, {shown}, as everywhere in scikit-learn. {_ONE_LABEL.format(name)}; for two classes "
            f"{name}.ravel().",
            DataConversionWarning,
        )
    present = np.asarray(y == classes[1])
    return EncodedTarget(
        LabelMatrix(np.where(present, 1, -1).astype(np.int8)[:, None]), np.asarray(classes), binary=True
    )


def check_label_prior(label_prior: Any, target: EncodedTarget) -> NDArray[Any] | None:
    """Validate the user's prior probabilities that labels are positive.

    Parameters
    ----------
    label_prior : array-like, DataFrame or Tensor of shape (n, L), or None
        Probabilities in [0, 1], NaN where there is no prior; for 1-D y those of the second class, shape (n,).
    target : EncodedTarget
        Labels.

    Returns
    -------
    ndarray of shape (n, L), or None
        None if no prior was given.

    Raises
    ------
    ValueError
        If its shape, columns or values are invalid.
    """
    if label_prior is None:
        return None
    check_label_names(target.labels.names, column_names(label_prior), "label_prior")
    label_prior = plain(label_prior, "label_prior")
    if sp.issparse(label_prior):
        raise ValueError("label_prior must be a dense array with NaN where there is no prior, got a sparse one.")
    if target.binary and np.ndim(label_prior) == 1:
        label_prior = np.asarray(label_prior)[:, None]
    return probabilities(label_prior, target.labels.shape, "label_prior")
