"""Conversion of other encodings to 1 (present), -1 (absent) and 0 (unknown), by explicit arguments."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.labels._forms import column_names, has_masked_rows, is_table, plain
from skpartial.labels._frames import frame_like, is_missing, missing_entries
from skpartial.labels._memory import check_fits
from skpartial.labels._shares import check_threshold, decided, shares_of

__all__ = ["from_nan", "recode"]

_HINT = "define it by the arguments of skpartial.labels.recode."
_HINT_NAN = (
    "if -1 is absent and 0 unknown already, fill NaN with 0 instead, Y.fillna(0) for a DataFrame; if -1 is "
    "uncertain and 0 absent, as in the tables of CheXpert, call skpartial.labels.recode(Y, present=1, absent=0, "
    "unknown=[-1, np.nan]). Use recode for other codes, too."
)
_MEANING = {"present": 1, "absent": -1, "unknown": 0}


def _listed(codes: Any) -> list[Any]:
    """One code or several, as a list."""
    if isinstance(codes, (list, tuple, set, frozenset)) or (isinstance(codes, np.ndarray) and codes.ndim == 1):
        return list(codes)
    return [codes]


def _same(code: Any, other: Any) -> bool:
    missing = is_missing(code), is_missing(other)
    return all(missing) if any(missing) else bool(code == other)


def make_coding(present: Any, absent: Any, unknown: Any) -> dict[str, list[Any]]:
    """Lists of codes by meaning; each code has one meaning. None is no code, except in `unknown`: missing values."""
    coding = {
        "present": [] if present is None else _listed(present),
        "absent": [] if absent is None else _listed(absent),
        "unknown": _listed(unknown),
    }
    if not coding["present"]:
        raise ValueError("present must be the code of a present label, or a list of codes, got none.")
    seen: list[tuple[Any, str]] = []
    for meaning, codes in coding.items():
        for code in codes:
            for other, earlier in seen:
                if earlier != meaning and _same(code, other):
                    raise ValueError(f"{code!r} is given as {earlier} and as {meaning}, but a code has one meaning.")
            seen.append((code, meaning))
    return coding


def described(coding: dict[str, list[Any]]) -> str:
    """The coding as a user would write it."""
    return ", ".join(
        f"{meaning}={codes[0] if len(codes) == 1 else codes!r}" for meaning, codes in coding.items() if codes
    )


class Codings(NamedTuple):
    """Meanings of codes: common ones, and those of labels with their own codes, by position."""

    common: dict[str, list[Any]]
    own: dict[int, dict[str, list[Any]]]

    def of(self, label: int) -> dict[str, list[Any]]:
        """The codes of a label."""
        return self.own.get(label, self.common)


def make_codings(
    present: Any, absent: Any, unknown: Any, labels: Sequence[Hashable] | range, *, absent_default: Any = ()
) -> Codings:
    """Collect codes that are the same for all labels, or given per label in a dict.

    Codes of a label in a dict take precedence over codes for all labels. Labels that a dict leaves out have the default
    codes of the argument.

    Parameters
    ----------
    present, absent, unknown : scalar, list or dict
        Codes, or a dict of codes by label.
    labels : sequence
        Names of the labels.
    absent_default : scalar or list, default=()
        Codes for absent of labels that `absent` leaves out.

    Returns
    -------
    Codings
        Codes by position of the label.
    """
    given = {"present": present, "absent": absent, "unknown": unknown}
    default = {"present": 1, "absent": absent_default, "unknown": ()}
    by_label = {meaning: codes for meaning, codes in given.items() if isinstance(codes, Mapping)}
    common = make_coding(**{meaning: default[meaning] if meaning in by_label else given[meaning] for meaning in given})
    own: dict[int, dict[str, list[Any]]] = {}
    for label in dict.fromkeys(label for codes in by_label.values() for label in codes):
        if label not in labels:
            meaning = next(meaning for meaning, codes in by_label.items() if label in codes)
            shown = ", ".join(map(repr, labels[:3])) + (", ..." if len(labels) > 3 else "")
            raise ValueError(f"{meaning} has codes for the label {label!r}, which is not one of {shown}.")
        specific = {meaning: _listed(codes[label]) for meaning, codes in by_label.items() if label in codes}
        claimed = [code for codes in specific.values() for code in codes]
        rest = {
            meaning: [code for code in codes if not any(_same(code, other) for other in claimed)]
            for meaning, codes in common.items()
            if meaning not in specific
        }
        if "present" in rest and not rest["present"]:
            rest["present"] = common["present"]  # the contradiction to report
        own[labels.index(label)] = make_coding(**{meaning: (specific | rest)[meaning] for meaning in given})
    return Codings(common, own)


def recoded_values(values: NDArray[Any], coding: dict[str, list[Any]]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The values in the package's encoding, and a mask of the values that have a code."""
    missing = missing_entries(values)
    if values.dtype == object and missing.any():
        # Comparisons with pandas.NA give pandas.NA, which has no truth value.
        values = values.copy()
        values[missing] = None
    result = np.zeros(values.shape, dtype=np.int8)
    coded = np.zeros(values.shape, dtype=bool)
    for meaning, codes in coding.items():
        for code in codes:
            found = missing if is_missing(code) else np.asarray(values == code, dtype=bool)
            coded |= found
            if _MEANING[meaning]:
                result[found] = _MEANING[meaning]
    return result, coded


def recode(Y: Any, *, present: Any, absent: Any = None, unknown: Any = (), threshold: Any = None) -> Any:
    """Convert labels of another encoding to 1 (present), -1 (absent) and 0 (unknown).

    The meaning of codes is never guessed: the same numbers have different meanings in different data sets. In
    particular, 0 means absent in some and unknown in others.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels in any encoding: numbers, strings, booleans, with or without missing values. Masked entries of a
        masked array are unknown.
    present : scalar, list or dict
        The code or codes of a present label. ``np.nan`` stands for all missing values (NaN, None, pandas.NA). A dict
        holds codes per label, by column of a DataFrame or else by position. They take precedence over codes that other
        arguments give for all labels. Labels that the dict leaves out have the code 1.
    absent : scalar, list, dict or None, default=None
        The code or codes of an absent label; None if there is none, as for labels that a dict leaves out.
    unknown : scalar, list, dict or None, default=()
        The code or codes of an unknown label; no code by default, nor for labels that a dict leaves out. None means
        missing values, as in polars.
    threshold : float, (float, float) or None, default=None
        For shares of annotators, with ``present=1, absent=0``: a label is present from this share on, in [0.5, 1], and
        absent up to ``1 - threshold``; otherwise, and at exactly one half, it is unknown. A pair holds the highest
        share for absent and the lowest share for present.

    Returns
    -------
    ndarray of int8, DataFrame or csr_array of int8, shape (n, L)
        A DataFrame for a DataFrame, with its columns and index. A csr_array for a sparse matrix if 0 is an `unknown`
        code, else an ndarray, since every entry is then known.

    Raises
    ------
    ValueError
        If Y holds a value without a code, which includes the implicit zeros of a sparse Y, or if a code has two
        meanings.

    See Also
    --------
    from_nan : The common case of 1, 0 and NaN.

    Examples
    --------
    >>> from skpartial.labels import recode
    >>> recode([[1, 0, -1], [0, 1, 1]], present=1, absent=0, unknown=-1)
    array([[ 1, -1,  0],
           [-1,  1,  1]], dtype=int8)
    >>> recode([["yes", "?"], ["no", "maybe"]], present="yes", absent="no", unknown=["?", "maybe"])
    array([[ 1,  0],
           [-1,  0]], dtype=int8)

    An uncertain finding (-1) counts as present for one of two labels:

    >>> import pandas as pd
    >>> findings = pd.DataFrame({"Edema": [1, -1, 0], "Fracture": [-1, 0, 1]})
    >>> recode(findings, present={"Edema": [1, -1]}, absent=0, unknown=-1)
       Edema  Fracture
    0      1         0
    1      1        -1
    2     -1         1

    Two of three annotators decide:

    >>> recode([[1.0, 0.67], [0.33, 0.5]], present=1, absent=0, threshold=0.67)
    array([[ 1,  1],
           [-1,  0]], dtype=int8)
    """
    return _recode(Y, (present, absent, unknown), _HINT, threshold)


def check_shares(coding: dict[str, list[Any]], threshold: Any) -> tuple[float, float]:
    """Check the threshold, which requires the codes of shares."""
    if coding["present"] != [1] or coding["absent"] != [0]:
        raise ValueError(
            f"threshold is for shares between absent=0 and present=1, but the codes are {described(coding)}."
        )
    return check_threshold(threshold)


def _thresholded(
    values: NDArray[Any], codings: Codings, threshold: Any, signs: NDArray[np.int8], coded: NDArray[np.bool_]
) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """Signs of shares, if there is a threshold."""
    if threshold is None:
        return signs, coded
    if codings.own:
        raise ValueError("threshold cannot be combined with codes per label: shares mean the same for all labels.")
    limits = check_shares(codings.common, threshold)
    shares, coded = shares_of(values, signs, coded, between=True)
    return decided(shares, limits), coded


def _recode(Y: Any, codes: tuple[Any, Any, Any], hint: str, threshold: Any = None) -> Any:
    """Recode; errors about undefined values end with the hint."""
    if has_masked_rows(Y):
        Y = np.ma.array(Y)
    hidden = np.ma.getmaskarray(Y) if isinstance(Y, np.ma.MaskedArray) else None
    values = plain(np.ma.getdata(Y) if hidden is not None else Y, "Y")
    if values.ndim != 2:
        cure = f" For one label, pass {'Y.to_frame()' if hasattr(Y, 'to_frame') else 'pandas.DataFrame(Y)'}."
        cure = cure if values.ndim == 1 else ""
        raise ValueError(f"Y must be a matrix of shape (n_rows, n_labels), got shape {values.shape}.{cure}")
    if sp.issparse(values):
        if _zeros_are_unknown(values, codes):
            return _recode_sparse(values, codes, hint, threshold)
        check_fits(values.shape, "A label matrix", "make 0 the code of unknown, or take fewer rows or labels at a time")
        values = values.toarray()
    names = column_names(Y)
    codings = make_codings(*codes, list(Y.columns) if hasattr(Y, "iloc") else names or range(values.shape[1]))
    result, coded = recoded_values(values, codings.common)
    for label, coding in codings.own.items():
        result[:, label], coded[:, label] = recoded_values(values[:, label], coding)
    result, coded = _thresholded(values, codings, threshold, result, coded)
    if hidden is not None:  # masked entries are unknown, whatever their values
        result[hidden], coded[hidden] = 0, True
    if not coded.all():
        row, label = (int(index[0]) for index in np.nonzero(~coded))
        raise _without_code(values[row, label], row, label, codings, hint, names)
    return frame_like(Y, result) if is_table(Y) else result


def _without_code(
    value: Any, row: int, label: int, codings: Codings, hint: str, names: list[str] | None = None
) -> ValueError:
    called = str(label) if names is None else repr(names[label])
    if isinstance(value, str) and names is not None:
        hint = f"if {called} is not a column of labels, leave it out; else {_HINT}"
    if isinstance(value, float | np.floating) and 0 < value < 1:
        hint = "if it is a share of annotators, pass threshold=, with present=1 and absent=0."
    return ValueError(
        f"Y holds {value!s} at row {row}, label {called}, which none of {described(codings.of(label))} covers; {hint}"
    )


def _zeros_are_unknown(Y: Any, codes: tuple[Any, Any, Any]) -> bool:
    """Whether the implicit zeros of a sparse Y are unknown, so that the result can be sparse, too."""
    codings = make_codings(*codes, range(Y.shape[1]))
    unknown = True
    for coding in (codings.common, *codings.own.values()):
        zero, coded = recoded_values(np.zeros(1), coding)
        if not coded[0] and Y.nnz < Y.shape[0] * Y.shape[1]:
            raise ValueError(
                f"The implicit zeros of a sparse Y are without a code in {described(coding)}: make 0 the code of "
                "unknown or of absent."
            )
        unknown &= bool(coded[0]) and zero[0] == 0
    return unknown


def _recode_sparse(Y: Any, codes: tuple[Any, Any, Any], hint: str, threshold: Any) -> sp.csr_array:
    matrix = sp.csr_array(Y, copy=True)
    matrix.sum_duplicates()
    codings = make_codings(*codes, range(matrix.shape[1]))
    result, coded = recoded_values(matrix.data, codings.common)
    for label, coding in codings.own.items():
        entries = matrix.indices == label
        result[entries], coded[entries] = recoded_values(matrix.data[entries], coding)
    result, coded = _thresholded(matrix.data, codings, threshold, result, coded)
    if not coded.all():
        stored = matrix.tocoo()
        first = int(np.argmin(coded))
        raise _without_code(stored.data[first], stored.row[first], stored.col[first], codings, hint)
    recoded = sp.csr_array((result, matrix.indices, matrix.indptr), shape=matrix.shape)
    recoded.eliminate_zeros()
    return recoded


def from_nan(Y: Any) -> Any:
    """Convert labels of 1 (present), 0 (absent) and NaN (unknown).

    Do not use it if 0 already means unknown, as in presence-only records combined by ``pandas.concat``, which leaves
    NaN where a part lacks a label: fill NaN with 0 instead, ``Y.fillna(0)``.

    Parameters
    ----------
    Y : array-like or DataFrame, shape (n, L)
        Values in {0, 1} and missing values: NaN, None or pandas.NA. Booleans are read as 0 and 1.

    Returns
    -------
    ndarray of int8 or DataFrame, shape (n, L)
        1 present, -1 absent, 0 unknown; a DataFrame for a DataFrame, with its columns and index.

    Raises
    ------
    ValueError
        If Y holds another value.

    See Also
    --------
    recode : Any other encoding.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.labels import from_nan
    >>> from_nan([[1, 0, np.nan], [np.nan, 1, 1]])
    array([[ 1, -1,  0],
           [ 0,  1,  1]], dtype=int8)
    """
    return _recode(Y, (1, 0, np.nan), _HINT_NAN)
