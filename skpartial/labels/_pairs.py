"""Matrices over pairs of labels, such as graphs, as users pass them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial.labels._forms import are_positions, column_names, listed_names, plain

__all__ = ["label_pairs"]


def label_pairs(matrix: Any, label_names: Sequence[str] | NDArray[Any] | None, n_labels: int, name: str) -> Any:
    """Validate a matrix with a number per pair of labels, and put it in the order of the labels.

    Parameters
    ----------
    matrix : array-like, DataFrame or sparse matrix, shape (L, L)
        One row and one column per label. Names of rows or columns, unless they are positions, determine the order.
    label_names : sequence of str, or None
        Names of the labels. If they are None or positions, names in the matrix are ignored.
    n_labels : int
        Number of labels L.
    name : str
        Name of the matrix in error messages.

    Returns
    -------
    ndarray or sparse matrix of float64, shape (L, L)
        May be the input: do not write to it.

    Raises
    ------
    ValueError
        If it does not hold numbers, its shape or names are wrong, or its names are in a different order on one side and
        missing on the other.
    """
    rows = [str(label) for label in matrix.index] if hasattr(matrix, "iloc") else None
    order = _order(rows, column_names(matrix), label_names, name)
    values = plain(matrix, name)
    try:
        values = values.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a matrix of numbers.") from None
    if values.shape != (n_labels, n_labels):
        raise ValueError(
            f"{name} must have shape {(n_labels, n_labels)}, a row and a column per label, got {values.shape}."
        )
    return values if order is None else values[np.ix_(*order)]


def _order(
    rows: list[str] | None, columns: list[str] | None, label_names: Sequence[str] | NDArray[Any] | None, name: str
) -> tuple[list[int], list[int]] | None:
    """Positions of the labels' rows and columns; None if names do not determine them."""
    expected = [] if label_names is None else [str(label) for label in label_names]
    places = {}
    for axis, names in (("index", rows), ("columns", columns)):
        if names is None or are_positions(names):
            continue
        if sorted(names) != sorted(expected):
            if are_positions(expected):
                continue
            missing = [label for label in expected if label not in names]
            detail = f": {listed_names(missing)} missing in its {axis}" if missing else ""
            raise ValueError(f"{name} must name each label once, in its index and in its columns{detail}.")
        places[axis] = [names.index(label) for label in expected]
    if not places:
        return None
    in_place = list(range(len(expected)))
    if len(places) == 1 and in_place not in places.values():
        raise ValueError(
            f"{name} has the labels in a different order from y in its {next(iter(places))} only: name them in both "
            "its index and its columns."
        )
    return places.get("index", in_place), places.get("columns", in_place)
