"""The fields of a list of annotations: rows, labels and, unless all are positive, values."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_unmasked
from skpartial.labels._forms import is_table
from skpartial.labels._frames import as_list

__all__ = ["annotation_fields"]

_CURE = "; name those of rows, labels and values by columns=(..., ..., ...), or columns=(..., ...) for positives only"


def _check_columns(columns: Any) -> list[Any]:
    listed = [columns] if isinstance(columns, str) else list(columns)
    names = [tuple(column) if isinstance(column, list) else column for column in listed]
    if len(names) not in (2, 3) or len(set(names)) != len(names):
        raise ValueError(
            f"columns must name the columns of rows, labels and values, or of rows and labels for positives only; got "
            f"{columns!r}."
        )
    return names


def _field(column: Hashable, given: Sequence[Any], take: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The contents of a column, or of several as tuples; and the first column that is missing."""
    parts = [column] if column in given or not isinstance(column, tuple) else list(column)
    absent = next((part for part in parts if part not in given), None)
    if absent is not None:
        return None, absent
    return (take(column) if parts == [column] else [take(part) for part in parts]), None


def annotation_fields(annotations: Any, columns: Any) -> tuple[list[Any], list[Any], NDArray[Any] | None]:
    """Extract rows, labels and values of annotations.

    Parameters
    ----------
    annotations : DataFrame, iterable of tuples or of dicts, or ndarray of shape (n_annotations, 2 or 3)
        As passed to `from_annotations`.
    columns : sequence
        Columns of a DataFrame, or keys of dicts; several in a tuple or list are one composite key.

    Returns
    -------
    rows, labels : list
        As given.
    values : ndarray or None
        As given; None for pairs of row and label.
    """
    names = _check_columns(columns)
    check_unmasked("annotations", annotations)
    if is_table(annotations):
        given = list(getattr(annotations, "column_names", annotations.columns))
        fields = []
        for column in names:
            field, absent = _field(column, given, lambda name: annotations[name])
            if absent is not None:
                raise ValueError(f"annotations has no column {absent!r}; its columns are {given}{_CURE}.")
            fields.append(list(zip(*map(as_list, field))) if isinstance(field, list) else field)
        rows, labels = (as_list(field) for field in fields[:2])
        return rows, labels, np.asarray(fields[2]) if len(fields) == 3 else None
    if isinstance(annotations, Mapping):
        raise ValueError("annotations is a dict; pass a list of triples (row, label, value), or a DataFrame.")
    if isinstance(annotations, np.ndarray):
        if annotations.ndim != 2 or annotations.shape[1] not in (2, 3):
            raise ValueError(
                "annotations must be of shape (n_annotations, 3), with row, label and value, or (n_annotations, 2) for "
                f"positives only; got {annotations.shape}."
            )
        values = annotations[:, 2] if annotations.shape[1] == 3 else None
        return as_list(annotations[:, 0]), as_list(annotations[:, 1]), values
    entries = [_entry(annotation, i, names) for i, annotation in enumerate(annotations)]
    sizes = [len(entry) for entry in entries]
    if len(set(sizes)) > 1:
        odd = next(i for i, size in enumerate(sizes) if size != sizes[0])
        raise ValueError(
            f"annotations must all be triples (row, label, value), or all be pairs (row, label) of positives; there "
            f"are {sizes[0]} fields at position 0 and {sizes[odd]} at position {odd}."
        )
    rows, labels = ([entry[field] for entry in entries] for field in range(2))
    if sizes and sizes[0] == 2:
        return rows, labels, None
    # NumPy would convert mixed types to strings.
    return rows, labels, np.fromiter((entry[2] for entry in entries), dtype=object, count=len(entries))


def _entry(annotation: Any, i: int, columns: list[Any]) -> Sequence[Any]:
    """The fields of an annotation."""
    if isinstance(annotation, Mapping):
        fields = []
        for column in columns:
            field, absent = _field(column, list(annotation), annotation.__getitem__)
            if absent is not None:
                raise ValueError(f"Annotation {i} has no {absent!r}; its keys are {list(annotation)}{_CURE}.")
            fields.append(tuple(field) if isinstance(column, tuple) and column not in annotation else field)
        return fields
    if isinstance(annotation, str) or not hasattr(annotation, "__len__") or len(annotation) not in (2, 3):
        raise ValueError(
            f"annotations must hold triples (row, label, value), pairs (row, label) of positives, or dicts, got "
            f"{annotation!r} at position {i}."
        )
    fields_of: Sequence[Any] = annotation
    return fields_of
