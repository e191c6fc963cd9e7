"""Other encodings, converted to present 1, absent -1 and unknown 0 by explicit arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.labels._forms import has_masked_rows, is_table, plain
from skpartial.labels._frames import frame_like, is_missing, missing_entries

__all__ = ["from_nan", "recode"]

_HINT = "say what it means by the arguments of skpartial.labels.recode."
_HINT_NAN = (
    "where -1 is absent and 0 unknown already, fill NaN with 0 instead, Y.fillna(0) for a DataFrame; where -1 is "
    "uncertain and 0 absent, as in the tables of CheXpert, call skpartial.labels.recode(Y, present=1, absent=0, "
    "unknown=[-1, np.nan]). Other codes are for recode as well."
)
_MEANING = {"present": 1, "absent": -1, "unknown": 0}


def _listed(codes: Any) -> list[Any]:
    """One code or several, as a list."""
    if codes is None:
        return []
    if isinstance(codes, (list, tuple, set, frozenset)) or (isinstance(codes, np.ndarray) and codes.ndim == 1):
        return list(codes)
    return [codes]


def make_coding(present: Any, absent: Any, unknown: Any) -> dict[str, list[Any]]:
    """Which codes mean what, as lists; each code has one meaning."""
    coding = {"present": _listed(present), "absent": _listed(absent), "unknown": _listed(unknown)}
    if not coding["present"]:
        raise ValueError("present must be the code of a present label, or a list of codes; got none.")
    seen: list[tuple[Any, str]] = []
    for meaning, codes in coding.items():
        for code in codes:
            for other, earlier in seen:
                missing = is_missing(code), is_missing(other)
                if earlier != meaning and (all(missing) if any(missing) else code == other):
                    raise ValueError(f"{code!r} is given as {earlier} and as {meaning}; a code has one meaning.")
            seen.append((code, meaning))
    return coding


def described(coding: dict[str, list[Any]]) -> str:
    """The coding as a user would write it."""
    return ", ".join(
        f"{meaning}={codes[0] if len(codes) == 1 else codes!r}" for meaning, codes in coding.items() if codes
    )


def recoded_values(values: NDArray[Any], coding: dict[str, list[Any]]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """The values in the package's encoding, and which of them have a code."""
    missing = missing_entries(values)
    if values.dtype == object and missing.any():
        # Comparing pandas.NA to anything gives pandas.NA, which has no truth value.
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


def recode(Y: Any, *, present: Any, absent: Any = None, unknown: Any = None) -> Any:
    """Convert labels of another encoding to 1 (present), -1 (absent) and 0 (unknown).

    Which code means what is said, never guessed: the same numbers mean different things in different data sets, and
    0 in particular is absent in some and unknown in others.

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels in any encoding: numbers, strings, booleans, with or without missing values. Masked entries of a masked
        array are unknown.
    present : scalar or list
        The code or codes of a present label. ``np.nan`` stands for every missing value (NaN, None, pandas.NA).
    absent : scalar, list or None, default=None
        The code or codes of an absent label; None if there is none.
    unknown : scalar, list or None, default=None
        The code or codes of an unknown label; None if there is none.

    Returns
    -------
    ndarray of int8, DataFrame or csr_array of int8, shape (n, L)
        A DataFrame for a DataFrame, with its columns and index; a csr_array for a sparse matrix, of which 0 must be
        an `unknown` code.

    Raises
    ------
    ValueError
        If Y holds a value without a code, if a code has two meanings, or if the implicit zeros of a sparse Y are not
        unknown.

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
    """
    return _recode(Y, make_coding(present, absent, unknown), _HINT)


def _recode(Y: Any, coding: dict[str, list[Any]], hint: str) -> Any:
    """Recode; errors about values without a code end with the hint."""
    if has_masked_rows(Y):
        Y = np.ma.array(Y)
    hidden = np.ma.getmaskarray(Y) if isinstance(Y, np.ma.MaskedArray) else None
    values = plain(np.ma.getdata(Y) if hidden is not None else Y, "Y")
    if sp.issparse(values):
        return _recode_sparse(values, coding, hint)
    if values.ndim != 2:
        raise ValueError(f"Y must be a matrix of shape (n_rows, n_labels), got shape {values.shape}.")
    result, coded = recoded_values(values, coding)
    if hidden is not None:  # what is masked is not known, whatever lies behind
        result[hidden], coded[hidden] = 0, True
    if not coded.all():
        row, label = (int(index[0]) for index in np.nonzero(~coded))
        raise ValueError(
            f"Y holds {values[row, label]!s} at row {row}, label {label}, which none of {described(coding)} covers; "
            f"{hint}"
        )
    return frame_like(Y, result) if is_table(Y) else result


def _recode_sparse(Y: Any, coding: dict[str, list[Any]], hint: str) -> sp.csr_array:
    if Y.ndim != 2:
        raise ValueError(f"Y must be a matrix of shape (n_rows, n_labels), got shape {Y.shape}.")
    matrix = sp.csr_array(Y, copy=True)
    matrix.sum_duplicates()
    zero, zero_coded = recoded_values(np.zeros(1), coding)
    if matrix.nnz < matrix.shape[0] * matrix.shape[1] and (zero[0] != 0 or not zero_coded[0]):
        meaning = {1: "present", -1: "absent", 0: "without a code"}[int(zero[0])]
        raise ValueError(
            f"The implicit zeros of a sparse Y are {meaning} in {described(coding)}, but only unknown entries can be "
            "left out of a sparse label matrix; convert a dense one, Y.toarray(), or make 0 the code of unknown."
        )
    result, coded = recoded_values(matrix.data, coding)
    if not coded.all():
        entries = matrix.tocoo()
        first = int(np.argmin(coded))
        raise ValueError(
            f"Y holds {entries.data[first]!s} at row {entries.row[first]}, label {entries.col[first]}, which none of "
            f"{described(coding)} covers; {hint}"
        )
    recoded = sp.csr_array((result, matrix.indices, matrix.indptr), shape=matrix.shape)
    recoded.eliminate_zeros()
    return recoded


def from_nan(Y: Any) -> Any:
    """Convert labels of 1 (present), 0 (absent) and NaN (unknown).

    Not for tables in which 0 is unknown already, such as presence-only records put together by ``pandas.concat``, which
    leaves NaN where a part lacks a label: there fill NaN with 0, ``Y.fillna(0)``.

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
    return _recode(Y, make_coding(1, 0, np.nan), _HINT_NAN)
