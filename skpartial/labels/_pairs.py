"""Matrices of pairs of labels, as users pass them: graphs, for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial.labels._forms import are_positions, column_names, listed_names, plain

__all__ = ["label_pairs"]


def label_pairs(matrix: Any, label_names: Sequence[str] | NDArray[Any] | None, n_labels: int, name: str) -> Any:
    """A user's number for every pair of labels, in the order of the labels.

    Parameters
    ----------
    matrix : array-like, DataFrame or sparse matrix, shape (L, L)
        A row and a column for each label. Names of rows or columns, where these are not positions, put them in order.
    label_names : sequence of str, or None
        Names of the labels; without names, or with positions for names, other ones are not looked at.
    n_labels : int
        Number of labels L.
    name : str
        What error messages call the matrix.

    Returns
    -------
    ndarray or sparse matrix of float64, shape (L, L)
        Possibly what was passed: do not write to it.

    Raises
    ------
    ValueError
        If it holds anything but numbers, or has another shape, other names, or names in another order on one side and
        none on the other.
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
            f"{name} must have shape {(n_labels, n_labels)}, a row and a column for each label, got {values.shape}."
        )
    return values if order is None else values[np.ix_(*order)]


def _order(
    rows: list[str] | None, columns: list[str] | None, label_names: Sequence[str] | NDArray[Any] | None, name: str
) -> tuple[list[int], list[int]] | None:
    """Where the labels' rows and columns are; None where names do not say so."""
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
            f"{name} has the labels in another order than y in its {next(iter(places))} alone: name them in its index "
            "and in its columns."
        )
    return places.get("index", in_place), places.get("columns", in_place)
