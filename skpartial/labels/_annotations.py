"""A label matrix from a list of annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_unmasked
from skpartial.labels._forms import is_table
from skpartial.labels._frames import as_list, assemble, check_ids, check_names, check_output
from skpartial.labels._recode import described, make_coding, recoded_values

__all__ = ["from_annotations"]

_COLUMNS = ("row", "label", "value")


def _fields(annotations: Any, columns: Sequence[Any]) -> tuple[list[Any], list[Any], NDArray[Any]]:
    """Rows, labels and values."""
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    if len(columns) != 3 or len(set(columns)) != 3:
        raise ValueError(f"columns must name the columns of rows, labels and values, three of them; got {columns!r}.")
    cure = "; say which hold rows, labels and values by columns=(..., ..., ...)"
    check_unmasked("annotations", annotations)
    if is_table(annotations):
        given = list(getattr(annotations, "column_names", annotations.columns))
        absent = next((column for column in columns if column not in given), None)
        if absent is not None:
            raise ValueError(f"annotations has no column {absent!r}; its columns are {given}{cure}.")
        rows, labels, values = (annotations[column] for column in columns)
        return as_list(rows), as_list(labels), np.asarray(values)
    if isinstance(annotations, Mapping):
        raise ValueError("annotations is a dict; pass a list of triples (row, label, value), or a DataFrame.")
    if isinstance(annotations, np.ndarray):
        if annotations.ndim != 2 or annotations.shape[1] != 3:
            raise ValueError(
                f"annotations must be of shape (n_annotations, 3), with row, label and value; got {annotations.shape}."
            )
        return as_list(annotations[:, 0]), as_list(annotations[:, 1]), annotations[:, 2]
    triples = list(annotations)
    for i, triple in enumerate(triples):
        if isinstance(triple, Mapping):
            absent = next((column for column in columns if column not in triple), None)
            if absent is not None:
                raise ValueError(f"Annotation {i} has no {absent!r}; its keys are {list(triple)}{cure}.")
            triples[i] = [triple[column] for column in columns]
        elif isinstance(triple, str) or not hasattr(triple, "__len__") or len(triple) != 3:
            raise ValueError(
                f"annotations must hold triples (row, label, value) or dicts, got {triple!r} at position {i}."
            )
    rows, labels, values = ([triple[field] for triple in triples] for field in range(3))
    # Of mixed types NumPy would make strings.
    return rows, labels, np.fromiter(values, dtype=object, count=len(values))


def _look_up(values: list[Any], names: Sequence[Any], what: str) -> NDArray[np.int64]:
    """Positions of rows or labels among their names."""
    position = {name: i for i, name in enumerate(names)}
    try:
        found = np.fromiter((position.get(value, -1) for value in values), dtype=np.int64, count=len(values))
    except TypeError:
        raise ValueError(f"The {what}s of annotations must be hashable: strings, numbers or tuples.") from None
    if (found < 0).any():
        first = int(np.argmin(found))
        shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        raise ValueError(
            f"The {what} {values[first]!r} of annotation {first} is not in {what}_names, which holds {shown}: add it "
            "there, or leave the annotation out."
        )
    return found


def _positions(values: list[Any], size: int | None, what: str) -> NDArray[np.int64]:
    """Rows or labels that are given by position."""
    names = f"{what}_names"
    if not set(map(type, values)) <= {int}:
        for i, value in enumerate(values):
            if isinstance(value, Real) and not isinstance(value, bool) and float(value).is_integer():
                continue
            if isinstance(value, str):
                raise ValueError(f"The {what} {value!r} of annotation {i} is a name, but {names} is None: pass it.")
            raise ValueError(f"The {what} of annotation {i} must be a position, or one of {names}; got {value!r}.")
    positions = np.array(values, dtype=np.int64)
    wrong = (positions < 0) | (positions >= (np.iinfo(np.int64).max if size is None else size))
    if wrong.any():
        first = int(np.argmax(wrong))
        limit = "negative" if size is None else f"outside 0 to {size - 1}"
        raise ValueError(
            f"The {what} {positions[first]} of annotation {first} is {limit}. Without {names} it is read as a "
            f"position: pass {names} where it is an identifier."
        )
    return positions


def _size(positions: NDArray[np.int64], what: str) -> int:
    """Number of rows or labels where nothing but the positions tells it."""
    size, occurring = int(positions.max(initial=-1)) + 1, len(np.unique(positions))
    if size > 2 * occurring:
        raise ValueError(
            f"The {what}s of annotations are read as positions and go up to {size - 1}, but only {occurring} of these "
            f"occur. Where they are identifiers, pass {what}_names; where they are positions, pass n_{what}s."
        )
    return size


def _signs(values: NDArray[Any], coding: dict[str, list[Any]], *, false_is_absent: bool) -> NDArray[np.int8]:
    """1, -1 and 0 for what the values mean."""
    signs, coded = recoded_values(values, coding)
    if false_is_absent and values.dtype.kind in "bO":
        false = np.fromiter((isinstance(v, (bool, np.bool_)) and not v for v in values), dtype=bool, count=len(values))
        signs[false], coded[false] = -1, True
    if not coded.all():
        first = int(np.argmin(coded))
        value = values[first].item() if isinstance(values[first], np.generic) else values[first]
        raise ValueError(
            f"The value of annotation {first} is {value!r}, which none of {described(coding)} covers. Say what values "
            "mean by the arguments present, absent and unknown: present=1, absent=0 where 0 means absent."
        )
    return signs


def from_annotations(
    annotations: Any,
    n_rows: int | None = None,
    label_names: Sequence[Any] | None = None,
    *,
    n_labels: int | None = None,
    row_names: Sequence[Any] | None = None,
    columns: Sequence[Any] = _COLUMNS,
    present: Any = 1,
    absent: Any = -1,
    unknown: Any = None,
    output: str = "dense",
    return_names: bool = False,
) -> Any:
    """Make a label matrix of a list of annotations; what nobody annotated is unknown.

    Rows are looked up by value among `row_names` where these are given, and are positions where not. Identifiers that
    happen to be numbers need `row_names`, as all others do; they would be taken for positions. The same goes for labels
    and `label_names`.

    Parameters
    ----------
    annotations : DataFrame, iterable of triples or of dicts, or ndarray of shape (n_annotations, 3)
        ``(row, label, value)`` each. An annotation may be repeated, but not contradicted.
    n_rows : int or None, default=None
        Number of rows, where rows are positions. None ends after the last annotated row: give it where the last rows
        may have no annotation.
    label_names : sequence or None, default=None
        The names of all labels, in the order wanted: strings, numbers or anything hashable. None takes the names that
        occur, sorted, where they are strings; numbers are then positions.
    n_labels : int or None, default=None
        Number of labels, where labels are positions. None ends after the last annotated one.
    row_names : sequence or None, default=None
        The names of the rows (file names, image ids) in the order of X: strings, numbers or anything hashable, such as
        ``X.index``.
    columns : sequence of three str, default=("row", "label", "value")
        Which columns of a DataFrame, or keys of dicts, hold rows, labels and values.
    present, absent : scalar or list, default=1 and -1
        The value or values that say present and absent. By default True and False are read so, too.
    unknown : scalar, list or None, default=None
        The value or values of annotations that say nothing, such as "?". ``np.nan`` stands for missing values.
    output : {"dense", "sparse", "pandas"}, default="dense"
        An ndarray, a csr_array of the known entries, or a pandas DataFrame with the label names as columns, which an
        estimator keeps as ``label_names_``, and the row names as index.
    return_names : bool, default=False
        Whether to return the label names, too.

    Returns
    -------
    Y : ndarray, csr_array or DataFrame of int8, shape (n_rows, n_labels)
        1 present, -1 absent, 0 unknown.
    names : list of str or None
        Only with ``return_names=True``: the names of the labels, None where they have none.

    Raises
    ------
    ValueError
        If annotations contradict each other, name an unknown row or label, or hold a value without a meaning; if more
        than half of the positions up to the last one do not occur, as with identifiers, and no number is given.

    See Also
    --------
    from_names : Where only presences are listed.

    Examples
    --------
    >>> from skpartial.labels import from_annotations
    >>> annotations = [(0, "cat", 1), (0, "dog", -1), (2, "dog", True)]
    >>> Y, names = from_annotations(annotations, n_rows=4, return_names=True)
    >>> names
    ['cat', 'dog']
    >>> Y
    array([[ 1, -1],
           [ 0,  0],
           [ 0,  1],
           [ 0,  0]], dtype=int8)
    >>> from_annotations(
    ...     [{"photo": 1001, "species": "cat", "seen": "yes"}, {"photo": 1000, "species": "cat", "seen": "no"}],
    ...     columns=("photo", "species", "seen"),
    ...     present="yes",
    ...     absent="no",
    ...     row_names=[1000, 1001, 1002],
    ... )
    array([[-1],
           [ 1],
           [ 0]], dtype=int8)
    """
    check_output(output)
    coding = make_coding(present, absent, unknown)
    row, label, value = _fields(annotations, columns)
    # True equals 1 in any case; False equals 0, which by default has no meaning.
    by_default = isinstance(present, int) and isinstance(absent, int) and (present, absent) == (1, -1)
    signs = _signs(value, coding, false_is_absent=by_default)
    if row_names is not None:
        row_names = check_ids(row_names, "row_names")
        if n_rows is not None and n_rows != len(row_names):
            raise ValueError(f"n_rows is {n_rows}, but row_names has {len(row_names)} names.")
        n_rows = len(row_names)
        rows = _look_up(row, row_names, "row")
    else:
        rows = _positions(row, n_rows, "row")
    ids = None if label_names is None else check_ids(label_names, "label_names")
    if ids is None and n_labels is None and any(isinstance(name, str) for name in label):
        odd = next((i for i, name in enumerate(label) if not isinstance(name, str)), None)
        if odd is not None:
            raise ValueError(
                f"The label of annotation {odd} is {label[odd]!r}, but others are strings: pass label_names."
            )
        ids = sorted({str(name) for name in label})
    if ids is not None:
        if n_labels is not None and n_labels != len(ids):
            raise ValueError(f"n_labels is {n_labels}, but label_names has {len(ids)} names.")
        n_labels = len(ids)
        labels = _look_up(label, ids, "label")
    else:
        labels = _positions(label, n_labels, "label")
    names = None if ids is None else check_names(map(str, ids), "label_names")
    n_rows = _size(rows, "row") if n_rows is None else n_rows
    n_labels = _size(labels, "label") if n_labels is None else n_labels
    if not n_rows or not n_labels:
        raise ValueError("annotations is empty: give n_rows and label_names for a matrix of unknown labels.")

    known = signs != 0
    key, signs = (rows * n_labels + labels)[known], signs[known]
    order = np.argsort(key, kind="stable")
    key, signs = key[order], signs[order]
    repeated = key[1:] == key[:-1]
    contradicted = repeated & (signs[1:] != signs[:-1])
    if contradicted.any():
        at_row, at_label = divmod(int(key[1:][contradicted][0]), n_labels)
        row_called = repr(row_names[at_row]) if row_names is not None else str(at_row)
        label_called = repr(names[at_label]) if names is not None else str(at_label)
        raise ValueError(f"annotations say both present and absent for row {row_called}, label {label_called}.")
    first = np.concatenate([np.ones(min(1, len(key)), dtype=bool), ~repeated])
    key, signs = key[first], signs[first]
    Y = assemble(key // n_labels, key % n_labels, signs, (n_rows, n_labels), output, label_names=names, index=row_names)
    return (Y, names) if return_names else Y
