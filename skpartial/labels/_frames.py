"""Input and output of data frames, without importing their library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial._checks import check_choice
from skpartial.labels._memory import check_fits

OUTPUTS = ("dense", "sparse", "pandas")


def is_missing(value: Any) -> bool:
    """Whether a single value is None, NaN, NaT or pandas.NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def missing_entries(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Mask of the missing entries of an array."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "mM":
        return np.isnat(values)
    if values.dtype.kind != "O":
        return np.zeros(values.shape, dtype=bool)
    found = np.fromiter((is_missing(value) for value in values.flat), dtype=bool, count=values.size)
    return found.reshape(values.shape)


def frame_like(frame: Any, values: NDArray[np.int8]) -> Any:
    """A data frame of new values with the columns and index of a given one; a pyarrow table for a pyarrow table."""
    if hasattr(frame, "iloc"):
        return type(frame)(values, index=frame.index, columns=frame.columns)
    if hasattr(frame, "column_names"):
        return type(frame).from_arrays(list(values.T), names=frame.column_names)
    return type(frame)(values, schema=list(frame.columns))


def check_output(output: str) -> None:
    """Refuse an invalid `output` before any work."""
    check_choice(None, "output", output, OUTPUTS)


def assemble(
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
    values: NDArray[np.int8],
    shape: tuple[int, int],
    output: str,
    *,
    label_names: Sequence[str] | None = None,
    index: Any = None,
) -> Any:
    """The label matrix with the given known entries, without duplicates, in one of the three output formats."""
    if output == "sparse":
        matrix = sp.csr_array((values, (rows, columns)), shape=shape, dtype=np.int8)
        matrix.sort_indices()
        return matrix
    check_fits(shape, "A label matrix", "take output='sparse'")
    dense = np.zeros(shape, dtype=np.int8)
    dense[rows, columns] = values
    if output == "dense":
        return dense
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError("output='pandas' needs pandas; install it, or use return_names=True.") from error
    return pd.DataFrame(dense, index=index, columns=label_names)


def as_list(values: Any) -> list[Any]:
    """A vector of any kind as a list of Python objects, if its type converts to them."""
    if isinstance(values, np.ndarray) and values.dtype.kind not in "mM":
        listed: list[Any] = values.tolist()
        return listed
    return list(values.to_pylist() if hasattr(values, "to_pylist") else values)  # pyarrow


def index_of(values: Any) -> Any:
    """The index of a pandas object, None for anything else."""
    return values.index if hasattr(values, "iloc") else None


def check_ids(ids: Any, argument: str) -> list[Any]:
    """Names from the user, of any hashable type, as a list without duplicates."""
    if isinstance(ids, str):
        raise ValueError(f"{argument} must be a list of names, got the string {ids!r}.")
    listed = as_list(ids)
    try:
        counts = Counter(listed)
    except TypeError:
        raise ValueError(f"{argument} must hold hashable values: strings, numbers or tuples.") from None
    missing = next((position for position, value in enumerate(listed) if is_missing(value)), None)
    if missing is not None:
        raise ValueError(f"{argument} has a missing value at position {missing}.")
    if len(counts) != len(listed):
        twice = next(value for value, count in counts.items() if count > 1)
        raise ValueError(f"{argument} holds {twice!r} more than once.")
    return listed


def check_names(names: Any, argument: str) -> list[str]:
    """Names from the user, as a list of strings without duplicates."""
    listed = check_ids(names, argument)
    odd = [name for name in listed if not isinstance(name, str)]
    if odd:
        raise ValueError(f"{argument} must hold strings, got {odd[0]!r} of type {type(odd[0]).__name__}.")
    return [str(name) for name in listed]
