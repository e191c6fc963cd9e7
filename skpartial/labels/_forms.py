"""The forms in which users pass matrices and vectors.

Of the libraries with such forms, only PyTorch is imported, which is required anyway.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skpartial._checks import check_unmasked
from skpartial.labels._frames import missing_entries

__all__ = [
    "RaggedRows",
    "are_positions",
    "check_label_names",
    "check_same_names",
    "column_names",
    "fitted_label_names",
    "has_masked_rows",
    "is_table",
    "is_vector",
    "listed_names",
    "names_or_positions",
    "plain",
]


class RaggedRows(ValueError):
    """Nested sequences of different lengths, which NumPy cannot convert to an array."""


def is_table(values: Any) -> bool:
    """Whether values have named columns: a data frame (of pandas or polars), or a table of pyarrow."""
    # The columns last: a LazyFrame warns when they are accessed.
    return (hasattr(values, "to_numpy") or hasattr(values, "column_names")) and hasattr(values, "columns")


def has_masked_rows(values: Any) -> bool:
    """Whether values are a sequence that contains masked arrays, whose masks NumPy would drop."""
    return isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values)


def is_vector(values: Any) -> bool:
    """Whether values have the form of a vector: one dimension, or an array of one column, as in scikit-learn.

    The values do not matter, so that a subset is read like the whole. Tables, sparse matrices, masked matrices and
    label matrices with one label are matrices.
    """
    if is_table(values) or sp.issparse(values) or has_masked_rows(values) or hasattr(values, "proportion_known"):
        return False
    if isinstance(values, torch.Tensor) and (values.is_nested or values.layout != torch.strided):
        return False
    try:
        shape = values.shape if hasattr(values, "shape") else np.asarray(values).shape
    except ValueError:  # rows of different lengths, which are refused elsewhere
        return False
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1 and not isinstance(values, np.ma.MaskedArray))


def column_names(values: Any) -> list[str] | None:
    """The column names of a table; None for anything else."""
    if not is_table(values):
        return None
    # The attribute `columns` of a pyarrow table holds the data, not the names.
    return [str(name) for name in getattr(values, "column_names", values.columns)]


def plain(values: Any, name: str, *, masked: Any = None) -> Any:
    """Convert values of any form to an array, or to a SciPy sparse matrix if they are sparse.

    Parameters
    ----------
    values : array-like, masked array, data frame, pyarrow table, Tensor or sparse matrix
        Values of any shape. Missing values of a table (NaN, None, pandas.NA, nulls) become NaN.
    name : str
        Name of the values in error messages.
    masked : scalar or None, default=None
        Value for masked entries; None refuses them.

    Returns
    -------
    ndarray or sparse matrix
        May be the input, or a view of it: do not write to it.

    Raises
    ------
    ValueError
        If there are masked entries and `masked` is None, or the form is not supported, such as a structured array; the
        subclass RaggedRows for rows of different lengths.
    """
    if sp.issparse(values):
        return values
    if isinstance(values, torch.Tensor):
        return _of_tensor(values, name)
    if hasattr(values, "collect") and hasattr(values, "lazy"):
        raise ValueError(f"{name} is a {type(values).__name__}, which has no values yet: pass {name}.collect().")
    if has_masked_rows(values):
        values = np.ma.array(values)
    if isinstance(values, np.ma.MaskedArray):
        if masked is None:
            check_unmasked(name, values)
        values = np.ma.getdata(values if masked is None or not np.ma.is_masked(values) else values.filled(masked))
    try:
        array = np.asarray(values)
    except ValueError:
        raise RaggedRows(f"{name} has rows of different lengths: pass a rectangular array.") from None
    except TypeError as error:  # arrays on another device, for instance
        raise ValueError(f"{name} is a {type(values).__name__} that NumPy cannot read: {error}") from None
    if array.dtype.names is not None:
        raise ValueError(
            f"{name} is a structured array with the fields {', '.join(array.dtype.names)}: pass "
            f"pandas.DataFrame({name}), which has named columns, or a matrix."
        )
    return _numbers_if_any(array) if is_table(values) and array.dtype == object else array


def _of_tensor(values: torch.Tensor, name: str) -> Any:
    if values.is_nested:
        raise ValueError(f"{name} is a nested tensor, whose rows may differ in length: pass a dense tensor.")
    values = values.detach()
    try:
        if values.layout == torch.strided:
            return _on_host(values)
        # Without coalescing, which would sum duplicate entries.
        entries = values.to_sparse_coo()
        if entries.dense_dim():
            raise ValueError(f"{name} is a sparse tensor of dense parts: pass {name}.to_dense().")
        return sp.coo_array((_on_host(entries._values()), tuple(_on_host(entries._indices()))), shape=values.shape)
    except (RuntimeError, TypeError, NotImplementedError):
        raise ValueError(
            f"{name} is a {type(values).__name__} of type {values.dtype} and layout {values.layout}, which NumPy "
            "cannot hold: pass a dense tensor, an array or a scipy.sparse matrix."
        ) from None


def _on_host(tensor: torch.Tensor) -> NDArray[Any]:
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        tensor = tensor.float()  # bfloat16 and other types that NumPy lacks
    array: NDArray[Any] = tensor.numpy(force=True)
    return array


def _numbers_if_any(array: NDArray[Any]) -> NDArray[Any]:
    """Objects of a table as numbers, if all of its values are numbers."""
    array = np.where(missing_entries(array), np.nan, array)
    if any(isinstance(value, str | bytes) for value in array.flat):
        return array  # NumPy would convert the string "1" to the number 1
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return array


# -------------------------------------------------------------------------------------------------- names of labels


def fitted_label_names(estimator: Any) -> NDArray[Any] | None:
    """Label names of a fitted estimator, of a search's best one or of a pipeline's last step; None without any."""
    names: NDArray[Any] | None = getattr(estimator, "label_names_", None)
    if names is not None:
        return names
    for inner in ("best_estimator_", "estimator_"):
        if hasattr(estimator, inner):
            return fitted_label_names(getattr(estimator, inner))
    steps = getattr(estimator, "steps", None)
    return fitted_label_names(steps[-1][1]) if steps else None


def names_or_positions(label_names: Any, n_labels: int, what: str) -> list[str]:
    """Names of labels as strings, checked for their number; None stands for positions.

    Parameters
    ----------
    label_names : array-like of str or None
        Names from the user, or columns of a table.
    n_labels : int
        Number of labels.
    what : str
        Name of the labelled object in error messages.

    Returns
    -------
    list of str
        The `n_labels` names.
    """
    names = [str(name) for name in (range(n_labels) if label_names is None else label_names)]
    if len(names) != n_labels:
        raise ValueError(f"label_names holds {len(names)} names, but {what} has {n_labels} labels.")
    return names


def check_label_names(expected: Any, given: Any, name: str) -> None:
    """Refuse labels whose names, or their order, differ from the fit.

    Parameters
    ----------
    expected : sequence of str or None
        Names in the fit, or positions as strings if it had none.
    given : sequence of str or None
        Names now; None is not checked.
    name : str
        Name of the labels in error messages.
    """
    _check_names(expected, given, name, "fit", f"in fit: pass {name}[clf.label_names_]")


def check_same_names(expected: Any, given: Any, name: str, reference: str, cure: str = "") -> None:
    """Refuse a table whose columns, or their order, differ from another table.

    Parameters
    ----------
    expected : sequence of str or None
        Column names of the other table.
    given : sequence of str or None
        Column names of this table; no check if one of the two has no names, or positions as names.
    name, reference : str
        Names of the two tables in error messages.
    cure : str, default=""
        Advice on a different order; by default, to reorder the columns like the other table.
    """
    if given is not None and not are_positions(given):
        cure = cure or f"pass {name}[{reference}.columns]"
        _check_names(expected, given, name, reference, f"in {reference}: {cure}")


def are_positions(names: Any) -> bool:
    """Whether names count from 0, as in a table without names."""
    return all(str(value) == str(position) for position, value in enumerate(names))


def _check_names(expected: Any, given: Any, name: str, reference: str, order: str) -> None:
    if given is None or expected is None or are_positions(expected) or list(given) == list(expected):
        return
    if set(given) == set(expected):
        raise ValueError(f"The labels of {name} must be in the same order as {order}.")
    strange = [value for value in given if value not in set(expected)]
    missing = [value for value in expected if value not in set(given)]
    raise ValueError(
        f"The labels of {name} must be those of {reference}: unexpected {listed_names(strange) or 'none'}, missing "
        f"{listed_names(missing) or 'none'}."
    )


def listed_names(names: list[Any]) -> str:
    """The first few names, for a message."""
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
