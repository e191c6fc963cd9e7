"""Weights of rows, entries and classes, as a user may pass them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from sklearn.utils import check_array

from skpartial import _sklearn_compat
from skpartial._checks import check_unmasked
from skpartial._inputs import EncodedTarget
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import check_label_names, column_names, listed_names, plain

__all__ = ["check_class_weight", "check_sample_weight"]


def check_sample_weight(sample_weight: Any, X: Any, target: EncodedTarget) -> NDArray[Any] | None:
    """Validate weights of rows or entries.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or (n, L), number, or None
        Non-negative weights.
    X : array-like of shape (n, d)
        Validated features.
    target : EncodedTarget
        Labels: 1-D y has row weights only.

    Returns
    -------
    ndarray of float64 of shape (n,) or (n, L), or None
        None where no weights were given.

    Raises
    ------
    ValueError
        If weights are negative, not finite, all zero, or have the wrong shape.
    """
    if sample_weight is None:
        return None
    n_rows, n_labels, binary = X.shape[0], target.labels.n_labels, target.binary
    expected = f"({n_rows},)" if binary else f"({n_rows},) or ({n_rows}, {n_labels})"
    check_label_names(target.labels.names, column_names(sample_weight), "sample_weight")
    if not isinstance(sample_weight, Number):
        sample_weight = plain(sample_weight, "sample_weight")
    if sp.issparse(sample_weight):
        raise ValueError("sample_weight must be a dense array, got a sparse one.")
    weights: NDArray[Any]
    try:
        given = np.asarray(sample_weight)
        given = given if np.iscomplexobj(given) else given.astype(np.float64)
    except (TypeError, ValueError):
        given = np.empty(0, dtype=np.complex128)
    if np.iscomplexobj(given):
        raise ValueError(f"sample_weight must hold real numbers and have shape {expected}, got {sample_weight!r}.")
    if given.ndim == 0:
        sample_weight = float(given)
    elif given.size == 0 or given.ndim > 2:
        raise ValueError(f"sample_weight.shape == {given.shape}, expected {expected}.")
    if given.ndim == 2:
        weights = check_array(sample_weight, dtype=np.float64, input_name="sample_weight")
        if binary or weights.shape != (n_rows, n_labels):
            raise ValueError(f"sample_weight.shape == {weights.shape}, expected {expected}.")
        if (weights < 0).any():
            raise ValueError("Negative values in data passed to `sample_weight`: weights must not be below 0.")
    else:
        proxy = X if not isinstance(X, torch.Tensor) else np.empty((n_rows, 0))
        weights = _sklearn_compat.check_sample_weight(sample_weight, proxy, dtype=np.float64, ensure_non_negative=True)
    if not weights.any():
        raise ValueError("sample_weight is zero everywhere, so there is nothing to train on.")
    return np.ascontiguousarray(weights)


def check_class_weight(
    class_weight: Any,
    target: EncodedTarget,
    unknown: Literal["ignore", "absent", "estimate"],
    sample_weight: NDArray[Any] | None,
    dtype: torch.dtype = torch.float64,
) -> NDArray[np.float64] | None:
    """Weights of the negative, unknown and positive entries of every label.

    Parameters
    ----------
    class_weight : None, "balanced", array-like of shape (L,) or (L, 2), dict or Series
        As documented in the estimators.
    target : EncodedTarget
        Labels and classes.
    unknown : {"ignore", "absent", "estimate"}
        How the loss treats unknown entries; with "absent" they have the weight of negatives.
    sample_weight : ndarray or None
        Sample weights, for "balanced".
    dtype : torch.dtype, default=torch.float64
        Type of the computation.

    Returns
    -------
    ndarray of float64, shape (L, 3), or None
        Columns for -1, 0 and 1, up to a factor.

    Raises
    ------
    ValueError
        If its form is invalid, a weight is negative or not finite, or ratios exceed the range of the type.
    """
    if class_weight is None:
        return None
    n_labels = target.labels.n_labels
    weights = np.ones((n_labels, 2))
    if isinstance(class_weight, str) and class_weight == "balanced":
        weights = _balanced(target.labels, unknown, sample_weight)
    elif isinstance(class_weight, Mapping) or hasattr(class_weight, "to_dict"):
        by_name = dict(class_weight if isinstance(class_weight, Mapping) else class_weight.to_dict())
        if not target.binary and (target.labels.names is None or (by_name and by_name.keys() <= {-1, 0, 1})):
            _refuse_classes(by_name, target.labels.names, n_labels)
        names = target.classes.tolist() if target.labels.names is None else list(target.labels.names)
        strange = [key for key in by_name if key not in set(names)]
        if strange:
            what = "classes" if target.binary else "labels"
            raise ValueError(f"class_weight names {strange[0]!r}, which is not among the {what} {listed_names(names)}.")
        chosen = [by_name.get(value, 1.0) for value in names]
        if target.binary:
            weights[0] = chosen
        else:
            weights[:, 1] = chosen
    else:
        check_unmasked("class_weight", class_weight)
        try:
            given = np.asarray(plain(class_weight, "class_weight"), dtype=np.float64)
        except (TypeError, ValueError):
            given = np.empty(0)
        if given.shape == (n_labels,):
            weights[:, 1] = given
        elif given.shape == (n_labels, 2):
            weights = given
        else:
            raise ValueError(
                f"class_weight must be None, 'balanced', or an array of shape ({n_labels},) or ({n_labels}, 2), "
                f"got {class_weight!r}."
            )
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
        raise ValueError("class_weight must hold finite weights of at least 0, and not only zeros.")
    middle = weights[:, 0] if unknown == "absent" else np.ones(n_labels)
    return _of_ordinary_size(np.column_stack([weights[:, 0], middle, weights[:, 1]]), dtype)


def _refuse_classes(class_weight: dict[Any, Any], names: NDArray[Any] | None, n_labels: int) -> None:
    """Refuse a dict without names of labels for a label matrix."""
    if class_weight.keys() <= {-1, 0, 1} and 1 in class_weight:
        absent = class_weight.get(-1, class_weight.get(0, 1))
        raise ValueError(
            f"class_weight has the keys {', '.join(map(repr, class_weight))}, but with a label matrix its keys are "
            "names of labels, and its values the weights of positives. If these are weights of negatives and "
            f"positives, pass class_weight=numpy.tile([{absent!r}, {class_weight[1]!r}], ({n_labels}, 1)), which has a "
            "row per label."
        )
    if names is None:
        raise ValueError(
            "class_weight is a dict, but y has no label names: pass y as a DataFrame, or class_weight as an array of "
            f"shape ({n_labels},), the weights of positives, or ({n_labels}, 2), those of negatives and positives."
        )


def _of_ordinary_size(weights: NDArray[np.float64], dtype: torch.dtype) -> NDArray[np.float64]:
    """Class weights scaled below 1, as only ratios count; refused if the computation's type cannot hold the ratios.

    They are divided by a power of two, which is exact.
    """
    scaled = np.ldexp(weights, -np.frexp(weights.max())[1])
    positive = weights[weights > 0]
    # If a weight became zero, labels would lose their known entries, and a later message would blame the labels.
    if (scaled[weights > 0] < torch.finfo(dtype).tiny).any():
        raise ValueError(
            f"class_weight holds weights between {positive.min():.3g} and {positive.max():.3g} (1 where it names "
            f"none), whose ratio {str(dtype).removeprefix('torch.')} cannot hold: pass weights that are closer to each "
            "other" + (", or X in float64." if dtype == torch.float32 else ".")
        )
    return scaled


def _balanced(labels: LabelMatrix, unknown: str, sample_weight: NDArray[Any] | None) -> NDArray[np.float64]:
    """Weights that give both signs of a label equal totals, and keep their sum."""
    mass = np.zeros((2, labels.n_labels))
    step = max(1, (1 << 20) // labels.n_labels)
    for start in range(0, labels.n_rows, step):
        block = labels.rows(slice(start, start + step))
        weight = np.ones((len(block), 1)) if sample_weight is None else sample_weight[start : start + step]
        weight = weight[:, None] if weight.ndim == 1 else weight
        absent = block <= 0 if unknown == "absent" else block < 0
        mass[0] += (absent * weight).sum(0)
        mass[1] += ((block == 1) * weight).sum(0)
    total = mass.sum(0)
    both = (mass > 0).all(0)
    return np.where(both, total / np.where(both, 2 * mass, 1), 1.0).T
