"""Label matrices from lists of annotations."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_choice
from skpartial.labels._fields import annotation_fields
from skpartial.labels._frames import assemble, check_ids, check_names, check_output, is_missing
from skpartial.labels._recode import Codings, check_shares, described, make_codings, recoded_values
from skpartial.labels._shares import check_threshold, decided, shares_of

__all__ = ["from_annotations"]

_COLUMNS = ("row", "label", "value")


def _refuse_missing(value: Any, at: int, what: str) -> None:
    """Refuse an annotation without a row or label."""
    if is_missing(value):
        raise ValueError(
            f"The {what} of annotation {at} is missing ({value!r}): leave out annotations without a {what}, such as by "
            f"annotations.dropna(subset=[{what!r}]) for a DataFrame with a column of this name."
        )


def _look_up(values: list[Any], names: Sequence[Any], what: str) -> NDArray[np.int64]:
    """Positions of rows or labels among their names."""
    position = {name: i for i, name in enumerate(names)}
    try:
        found = np.fromiter((position.get(value, -1) for value in values), dtype=np.int64, count=len(values))
    except TypeError:
        raise ValueError(f"The {what}s of annotations must be hashable: strings, numbers or tuples.") from None
    if (found < 0).any():
        first = int(np.argmin(found))
        _refuse_missing(values[first], first, what)
        shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
        raise ValueError(
            f"The {what} {values[first]!r} of annotation {first} is not in {what}_names, which holds {shown}: add it, "
            "or leave the annotation out."
        )
    return found


def _positions(values: list[Any], size: int | None, what: str) -> NDArray[np.int64]:
    """Rows or labels given by position."""
    names = f"{what}_names"
    if not set(map(type, values)) <= {int}:
        for i, value in enumerate(values):
            if isinstance(value, Real) and not isinstance(value, bool) and float(value).is_integer():
                continue
            _refuse_missing(value, i, what)
            if isinstance(value, str):
                raise ValueError(f"The {what} {value!r} of annotation {i} is a name, but {names} is None: pass it.")
            raise ValueError(f"The {what} of annotation {i} must be a position, or one of {names}; got {value!r}.")
    positions = np.array(values, dtype=np.int64)
    wrong = (positions < 0) | (positions >= (np.iinfo(np.int64).max if size is None else size))
    if wrong.any():
        first = int(np.argmax(wrong))
        limit = "negative" if size is None else f"outside 0 to {size - 1}"
        raise ValueError(
            f"The {what} {positions[first]} of annotation {first} is {limit}. Without {names} it is taken for a "
            f"position: pass {names} if it is an identifier."
        )
    return positions


def _size(positions: NDArray[np.int64], what: str) -> int:
    """Number of rows or labels, if only the positions determine it."""
    size, occurring = int(positions.max(initial=-1)) + 1, len(np.unique(positions))
    if size > 2 * occurring:
        raise ValueError(
            f"The {what}s of annotations are taken for positions up to {size - 1}, but only {occurring} of these "
            f"occur. If they are identifiers, pass {what}_names; if they are positions, pass n_{what}s."
        )
    return size


def _signs(
    values: NDArray[Any], labels: NDArray[np.int64], codings: Codings, *, false_is_absent: bool
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The values as 1, -1 and 0, and a mask of the values that have a meaning."""
    signs, coded = recoded_values(values, codings.common)
    if false_is_absent and values.dtype.kind in "bO":
        false = np.fromiter((isinstance(v, (bool, np.bool_)) and not v for v in values), dtype=bool, count=len(values))
        signs[false], coded[false] = -1, True
    for label, coding in codings.own.items():
        entries = labels == label
        signs[entries], coded[entries] = recoded_values(values[entries], coding)
    return signs, coded


def _check_coded(values: NDArray[Any], labels: NDArray[np.int64], coded: NDArray[np.bool_], codings: Codings) -> None:
    if coded.all():
        return
    first = int(np.argmin(coded))
    value = values[first].item() if isinstance(values[first], np.generic) else values[first]
    cure = "present, absent and unknown, such as present=1, absent=0 if 0 means absent"
    if isinstance(value, float) and 0 < value < 1:
        cure = "threshold, with present=1 and absent=0, if it is a share of annotators"
    raise ValueError(
        f"The value of annotation {first} is {value!r}, which none of {described(codings.of(int(labels[first])))} "
        f"covers. Define the values by the arguments {cure}."
    )


def _mean_shares(key: NDArray[np.int64], shares: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The mean share of each annotated entry."""
    said = ~np.isnan(shares)
    entries, where = np.unique(key[said], return_inverse=True)
    return entries, np.bincount(where, weights=shares[said]) / np.bincount(where)


def _contradicted(key: NDArray[np.int64], signs: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int8], int]:
    """Entries without repetitions, in order, and the index of one with contradictory annotations, or -1."""
    order = np.argsort(key, kind="stable")
    key, signs = key[order], signs[order]
    repeated = key[1:] == key[:-1]
    disagree = repeated & (signs[1:] != signs[:-1])
    first = np.concatenate([np.ones(min(1, len(key)), dtype=bool), ~repeated])
    return key[first], signs[first], int(key[1:][disagree][0]) if disagree.any() else -1


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
    unknown: Any = (),
    aggregate: str | None = None,
    threshold: Any = None,
    output: str = "dense",
    return_names: bool = False,
) -> Any:
    """Make a label matrix from a list of annotations; entries without annotations are unknown.

    With `row_names`, rows are looked up in it by value; without it, they are positions. Numeric identifiers therefore
    need `row_names`, or they are taken for positions. The same holds for labels and `label_names`.

    Parameters
    ----------
    annotations : DataFrame, iterable of tuples or of dicts, or ndarray of shape (n_annotations, 2 or 3)
        Annotations ``(row, label, value)``, or ``(row, label)`` if all are positive, such as images and categories in
        COCO. Annotations may be repeated; contradictions need `aggregate`.
    n_rows : int or None, default=None
        Number of rows, if rows are positions. None ends after the last annotated row; pass a number if the last rows
        may have no annotation.
    label_names : sequence or None, default=None
        Names of all labels, in the desired order: strings, numbers or anything hashable. None takes the strings that
        occur, sorted; numbers are then positions.
    n_labels : int or None, default=None
        Number of labels, if labels are positions. None ends after the last annotated label.
    row_names : sequence or None, default=None
        The names of the rows (file names, image ids) in the order of X: strings, numbers or anything hashable, such as
        ``X.index``.
    columns : sequence of three or two, default=("row", "label", "value")
        Columns of a DataFrame, or keys of dicts, with rows, labels and values; without values if all annotations are
        positive. A nested list is a composite key, looked up as a tuple: ``[["patient", "study"], "label", "value"]``.
    present, absent : scalar, list or dict, default=1 and -1
        The value or values that mean present and absent, or a dict of values per label, as in :func:`recode`. By
        default, True and False mean present and absent, too.
    unknown : scalar, list, dict or None, default=()
        The value or values that mean unknown, such as "?". ``np.nan`` and None stand for missing values.
    aggregate : {"mean"} or None, default=None
        How to resolve contradictions between annotators. "mean" takes the share of annotations that say present among
        those that say present or absent, to which `threshold` applies. None refuses contradictions.
    threshold : float, (float, float) or None, default=None
        A label is present from this share on, in [0.5, 1], and absent if at least the same share says absent;
        otherwise, and at exactly one half, it is unknown. A pair holds the highest share for absent and the lowest
        share for present. None means 0.5, the majority, with `aggregate`. With ``present=1, absent=0``, values between
        0 and 1 are shares themselves, with or without `aggregate`.
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
        Only with ``return_names=True``: the names of the labels, None if they have none.

    Raises
    ------
    ValueError
        If annotations contradict each other without `aggregate`, name an unknown row or label, or hold an undefined
        value; if more than half of the positions up to the last one do not occur, as with identifiers, and their number
        is not given.

    See Also
    --------
    from_names : For lists of the positive labels per row.

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
    >>> from_annotations([(0, "cat"), (2, "dog")], n_rows=3)
    array([[1, 0],
           [0, 0],
           [0, 1]], dtype=int8)
    >>> votes = [(0, "cat", 1), (0, "cat", 1), (0, "cat", 0), (0, "dog", 0.2), (1, "dog", 1), (1, "dog", 0)]
    >>> from_annotations(votes, absent=0, aggregate="mean", threshold=0.6)
    array([[ 1, -1],
           [ 0,  0]], dtype=int8)
    """
    check_output(output)
    if aggregate is not None:
        check_choice(None, "aggregate", aggregate, ("mean",))
    row, label, value = annotation_fields(annotations, columns)
    if value is None:
        for name, given, default in (
            ("present", present, 1),
            ("absent", absent, -1),
            ("unknown", unknown, ()),
            ("aggregate", aggregate, None),
            ("threshold", threshold, None),
        ):
            if given is not default:
                raise ValueError(
                    f"{name}={given!r} has no effect on annotations that are pairs (row, label) without values: leave "
                    "it out, or pass triples."
                )
        value = np.ones(len(row), dtype=np.int8)
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
            _refuse_missing(label[odd], odd, "label")
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
        raise ValueError("annotations is empty: pass n_rows and label_names to get a matrix of unknown labels.")

    codings = make_codings(present, absent, unknown, range(n_labels) if ids is None else ids, absent_default=-1)
    # True equals 1 in any case; False equals 0, which is undefined by default.
    by_default = isinstance(present, int) and isinstance(absent, int) and (present, absent) == (1, -1)
    signs, coded = _signs(value, labels, codings, false_is_absent=by_default)
    key = rows * n_labels + labels
    if aggregate is not None or threshold is not None:
        between = codings.common["present"] == [1] and codings.common["absent"] == [0] and not codings.own
        if aggregate is None and not between:
            check_shares(codings.common, threshold)
        shares, coded = shares_of(value, signs, coded, between=between)
        _check_coded(value, labels, coded, codings)
        if aggregate is not None:
            key, shares = _mean_shares(key, shares)
        signs = decided(shares, check_threshold(0.5 if threshold is None else threshold))
    else:
        _check_coded(value, labels, coded, codings)
    known = signs != 0
    key, signs, contradicted = _contradicted(key[known], signs[known])
    if contradicted >= 0:
        at_row, at_label = divmod(contradicted, n_labels)
        row_called = repr(row_names[at_row]) if row_names is not None else str(at_row)
        label_called = repr(names[at_label]) if names is not None else str(at_label)
        raise ValueError(
            f"annotations say both present and absent for row {row_called}, label {label_called}: resolve it, or pass "
            "aggregate='mean' to decide by the share that says present."
        )
    Y = assemble(key // n_labels, key % n_labels, signs, (n_rows, n_labels), output, label_names=names, index=row_names)
    return (Y, names) if return_names else Y
