"""Label matrices from lists of names and from classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from skpartial.labels._forms import is_table, plain
from skpartial.labels._frames import (
    as_list,
    assemble,
    check_ids,
    check_names,
    check_output,
    index_of,
    is_missing,
    missing_entries,
)

__all__ = ["from_classes", "from_names"]


def _names_of_row(i: int, names: Any) -> list[Any]:
    """Check and return the names in a row of `from_names`."""
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise ValueError(f"Row {i} of present must be a list of names, [] for none, got {names!r}.")
    row = as_list(names)
    try:
        counts = Counter(row)
    except TypeError:
        raise ValueError(
            f"Row {i} of present holds a name that is not hashable: use strings, numbers or tuples."
        ) from None
    for name, count in counts.items():
        if is_missing(name):
            raise ValueError(f"Row {i} of present holds {name!r}: leave missing names out, and use [] for none.")
        if count > 1 and not isinstance(name, str):
            raise ValueError(
                f"Row {i} of present holds {name!r} {count} times, but a row lists each present label once. For a "
                "matrix of 0 and 1 use skpartial.labels.recode."
            )
    return row


def _sorted_names(rows: list[list[Any]]) -> list[Any]:
    """The names that occur, sorted."""
    occurring: set[Any] = set().union(*rows)
    try:
        return sorted(occurring)
    except TypeError:
        raise ValueError("present holds names of different types, which cannot be sorted: pass label_names.") from None


def from_names(
    present: Iterable[Iterable[Any]],
    label_names: Sequence[Any] | None = None,
    *,
    output: str = "dense",
    return_names: bool = False,
) -> Any:
    """Make a label matrix from lists of the labels that are present in each row; all others are unknown.

    Parameters
    ----------
    present : iterable of n lists, tuples or sets of names, or Series of such
        Names of the labels known to be present in each row, in the order of X; an empty list for none. Names are
        strings, numbers (as returned by scikit-learn's `load_svmlight_file` with ``multilabel=True``), or anything
        hashable.
    label_names : sequence or None, default=None
        Names of all labels, in the desired order. None takes the names that occur, sorted; pass the names if some label
        may not occur.
    output : {"dense", "sparse", "pandas"}, default="dense"
        An ndarray, a csr_array of the known entries, or a pandas DataFrame with the label names as columns, which an
        estimator keeps as ``label_names_``, and the index of a Series.
    return_names : bool, default=False
        Whether to return the label names, too.

    Returns
    -------
    Y : ndarray, csr_array or DataFrame of int8, shape (n, L)
        1 present, 0 unknown.
    names : list of str
        Only with ``return_names=True``: the names of the labels, as strings.

    Raises
    ------
    ValueError
        If `present` is a dict or a DataFrame, or if a row is not a list of names, repeats a number (as rows of a matrix
        of 0 and 1 do), or holds a name that is not in `label_names`.

    See Also
    --------
    from_annotations : If negatives are known, too.
    recode : If a name left out means that the label is absent: ``recode(Y, present=1, absent=0)``.

    Examples
    --------
    >>> from skpartial.labels import from_names
    >>> Y, names = from_names([["cat"], ["dog", "cat"], []], return_names=True)
    >>> names
    ['cat', 'dog']
    >>> Y
    array([[1, 0],
           [1, 1],
           [0, 0]], dtype=int8)
    >>> from_names([(0.0, 2.0), (1.0,)], label_names=range(4))
    array([[1, 0, 1, 0],
           [0, 1, 0, 0]], dtype=int8)
    """
    check_output(output)
    if is_table(present):
        raise ValueError(
            "present is a DataFrame: pass the column with the lists of names. For columns of values use "
            "skpartial.labels.recode; for one line per pair of row and label use from_annotations."
        )
    if isinstance(present, Mapping):
        raise ValueError(
            "present is a dict: pass list(present.values()), or, in the order of X, "
            "[present.get(row, []) for row in X.index]."
        )
    rows = [_names_of_row(i, names_of_row) for i, names_of_row in enumerate(present)]
    ids = _sorted_names(rows) if label_names is None else check_ids(label_names, "label_names")
    if not rows or not ids:
        raise ValueError("present names no label in any row: pass at least one row, and label_names.")
    names = check_names(map(str, ids), "label_names")
    position = {name: j for j, name in enumerate(ids)}
    for i, row in enumerate(rows):
        unknown = next((name for name in row if name not in position), None)
        if unknown is not None:
            raise ValueError(f"Row {i} of present holds {unknown!r}, which is not in label_names.")
    pairs = np.array(
        [(i, j) for i, row in enumerate(rows) for j in sorted({position[name] for name in row})], dtype=np.int64
    ).reshape(-1, 2)
    Y = assemble(
        pairs[:, 0],
        pairs[:, 1],
        np.ones(len(pairs), np.int8),
        (len(rows), len(names)),
        output,
        label_names=names,
        index=index_of(present),
    )
    return (Y, names) if return_names else Y


def from_classes(
    y: Any, classes: Sequence[Any] | None = None, *, output: str = "dense", return_names: bool = False
) -> Any:
    """Make a label matrix from one class per row: that class is present, all others are unknown.

    An image of a multi-class data set may show more than the one class that it is labelled with: this is the single
    positive setting. If the other classes are known to be absent, use ``recode(Y, present=1, absent=0)``.

    Parameters
    ----------
    y : array-like or Series, shape (n,)
        The class of each row: numbers or strings.
    classes : sequence or None, default=None
        All classes, in the desired order. None takes the classes that occur, sorted.
    output : {"dense", "sparse", "pandas"}, default="dense"
        An ndarray, a csr_array of the known entries, or a pandas DataFrame with the classes as columns and the
        index of a Series.
    return_names : bool, default=False
        Whether to return the names of the classes, too.

    Returns
    -------
    Y : ndarray, csr_array or DataFrame of int8, shape (n, L)
        1 for the class of the row, 0 (unknown) elsewhere.
    names : list of str
        Only with ``return_names=True``: the classes as strings.

    Raises
    ------
    ValueError
        If y is not one-dimensional, has missing values, or holds a class that is not in `classes`.

    Examples
    --------
    >>> from skpartial.labels import from_classes
    >>> from_classes(["dog", "cat", "dog"])
    array([[0, 1],
           [1, 0],
           [0, 1]], dtype=int8)
    """
    check_output(output)
    index = index_of(y)
    labels = plain(y, "y")
    if labels.ndim != 1:
        raise ValueError(f"y must be of shape (n_rows,), one class per row; got shape {labels.shape}.")
    missing = missing_entries(labels)
    if missing.any():
        raise ValueError(f"y has no class at row {int(np.argmax(missing))}, but every row needs one.")
    if classes is None:
        try:
            listed = sorted(set(labels.tolist()))
        except TypeError:
            raise ValueError("y holds values of different types, which cannot be sorted: pass classes.") from None
    else:
        listed = list(np.asarray(classes).tolist())
    if len(set(listed)) != len(listed):
        raise ValueError("classes holds a class more than once.")
    if not len(labels) or not listed:
        raise ValueError("y and classes must not be empty.")
    position = {kind: j for j, kind in enumerate(listed)}
    columns = np.empty(len(labels), dtype=np.int64)
    for i, kind in enumerate(labels.tolist()):
        if kind not in position:
            raise ValueError(f"y holds {kind!r} at row {i}, which is not in classes.")
        columns[i] = position[kind]
    names = [str(kind) for kind in listed]
    Y = assemble(
        np.arange(len(labels)),
        columns,
        np.ones(len(labels), np.int8),
        (len(labels), len(listed)),
        output,
        label_names=names,
        index=index,
    )
    return (Y, names) if return_names else Y
