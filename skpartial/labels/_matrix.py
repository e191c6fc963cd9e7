"""The label matrix: one internal type for all forms in which users pass labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.labels._forms import RaggedRows, column_names, plain
from skpartial.labels._memory import check_fits
from skpartial.labels._text import OTHER_FORMS, advice_on_text

__all__ = ["LabelMatrix", "present_share"]

# Entries per block in dense passes, so that temporaries do not have the size of the whole matrix.
_BLOCK_ENTRIES = 1 << 22


def _names(Y: Any, name: str) -> NDArray[Any] | None:
    names = column_names(Y)
    if names is None:
        return None
    if len(set(names)) != len(names):
        twice = next(column for i, column in enumerate(names) if column in names[:i])
        raise ValueError(f"{name} has more than one column named {twice!r}; label names must be unique.")
    return np.asarray(names, dtype=object)


def _not_numbers(name: str, what: str, cure: str = OTHER_FORMS) -> ValueError:
    return ValueError(
        f"Unknown label type: {name} {what}; a label matrix holds 1 (present), -1 (absent) and 0 (unknown). {cure}"
    )


def _cure_of_nan(name: str, has_minus_one: bool) -> str:
    """Advice on NaN, which depends on the meaning of the other values; only their author knows it."""
    if has_minus_one:
        return (
            "It holds both NaN and -1, and -1 can have two meanings. If -1 is uncertain and 0 absent, as in the "
            f"tables of CheXpert: skpartial.labels.recode({name}, present=1, absent=0, unknown=[-1, np.nan]). If -1 "
            f"is absent and 0 unknown, fill NaN with 0: {name}.fillna(0) for a DataFrame. "
            "skpartial.labels.from_nan is for 1, 0 and NaN only."
        )
    return (
        "If 0 means absent, convert {0, 1, NaN} with skpartial.labels.from_nan; if 0 means unknown "
        f"already, fill NaN with 0: {name}.fillna(0) for a DataFrame."
    )


def _check_values(values: NDArray[Any], name: str) -> None:
    if values.dtype == bool or values.size == 0:
        return
    if values.dtype.kind not in "iuf":
        raise _not_numbers(name, f"has dtype {values.dtype}")
    # In blocks, because comparisons make temporaries of the same size.
    step = max(1, _BLOCK_ENTRIES * len(values) // values.size)
    blocks = [slice(start, start + step) for start in range(0, len(values), step)]
    for rows in blocks:
        block = values[rows]
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise ValueError(
                f"Input {name} contains NaN or infinity; a label matrix marks an unknown label with 0. "
                + _cure_of_nan(name, any((values[rows] == -1).any() for rows in blocks))
            )
        if block.min() < -1 or block.max() > 1 or (block.dtype.kind == "f" and (block != np.rint(block)).any()):
            odd = np.unique(block[(block != -1) & (block != 0) & (block != 1)])[:3]
            cure = "skpartial.labels.recode converts other codes."
            if odd.tolist() == [2]:
                cure += " If scikit-learn's cross_val_predict renumbered them, use skpartial.model_selection's."
            elif block.dtype.kind == "u" and odd.tolist() == [np.iinfo(block.dtype).max]:
                cure = (
                    f"Unsigned numbers ({block.dtype}) cannot hold -1: if this is 2 * {name} - 1, take "
                    f"skpartial.labels.recode({name}, present=1, absent=0) of the original {name} instead."
                )
            raise ValueError(
                f"Unknown label type: {name} holds {', '.join(map(str, odd.tolist()))}; a label matrix holds only "
                f"1 (present), -1 (absent) and 0 (unknown). {cure}"
            )


def _numbers(array: NDArray[Any], name: str, names: NDArray[Any] | None) -> NDArray[Any]:
    """Convert an array of objects to numbers; return any other array unchanged. `names` are those of the columns."""
    if array.dtype.kind not in "OUS":
        return array
    if any(isinstance(value, (str, bytes)) for value in array.flat):
        # NumPy would convert the string "1" to the number 1.
        raise _not_numbers(name, *advice_on_text(array, names, name))
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise _not_numbers(name, "holds values that are not numbers") from None


def _sparse_values(Y: Any, name: str) -> sp.csr_array:
    """Copy Y to a CSR array, without duplicates or stored zeros."""
    if Y.ndim != 2:
        raise ValueError(f"{name} must be a matrix of shape (n_rows, n_labels), got shape {Y.shape}.")
    if Y.format not in ("csr", "csc", "coo"):
        Y = sp.coo_array(Y)
    _check_values(Y.data, name)
    # A copy, because sorting and summing must not change the user's matrix.
    values = sp.csr_array(Y, copy=True)
    values.sum_duplicates()
    if values.nnz != Y.nnz:
        # Duplicate entries were summed, possibly with overflow: sum their absolute values in wide integers.
        stored = sp.coo_array(Y)
        # By tocsr, which sums duplicates in every version of scipy; csr_array does not before 1.14.
        sizes = sp.coo_array((np.abs(stored.data.astype(np.int64)), (stored.row, stored.col)), shape=Y.shape)
        sizes = sizes.tocsr().tocoo()
        if (sizes.data > 1).any():
            first = int(np.argmax(sizes.data > 1))
            raise ValueError(
                f"{name} stores more than one value at row {sizes.row[first]}, label {sizes.col[first]}; a sparse "
                "label matrix holds each known entry once."
            )
    values = values.astype(np.int8)
    values.eliminate_zeros()
    return values


def _dense_copy(values: sp.csr_array) -> NDArray[np.int8]:
    check_fits(values.shape, "A label matrix", "leave it sparse, or take fewer rows or labels at a time")
    dense: NDArray[np.int8] = values.toarray()
    return dense


def present_share(present: Any, known: Any) -> Any:
    """Share of positives among known entries, with half an entry of each sign added; for counts of any shape."""
    return (present + 0.5) / (known + 1)


class LabelMatrix:
    """Labels of n rows over L labels: 1 present, -1 absent, 0 unknown.

    The rest of the package only handles labels of this type.

    Parameters
    ----------
    values : ndarray of int8 or csr_array of int8, shape (n, L)
        The entries. A sparse matrix stores only known entries: its implicit zeros are unknown.
    names : ndarray of str, shape (L,), or None, default=None
        The names of the labels.

    See Also
    --------
    LabelMatrix.encode : Make a label matrix from any supported form.

    Examples
    --------
    >>> from skpartial.labels import LabelMatrix
    >>> Y = LabelMatrix.encode([[1, 0, -1], [0, 1, 1]])
    >>> Y.count(1, axis=0)
    array([1, 1, 1])
    >>> Y.proportion_known(axis=1)
    array([0.66666667, 0.66666667])
    """

    def __init__(self, values: NDArray[np.int8] | sp.csr_array, names: NDArray[Any] | None = None) -> None:
        # Any: scipy.sparse has no types, and a check with issparse would not narrow the union.
        self.values: Any = values
        self.names = names

    @classmethod
    def encode(cls, Y: Any, *, name: str = "y") -> LabelMatrix:
        """Make a label matrix from any supported form.

        Parameters
        ----------
        Y : array-like, DataFrame, pyarrow table, sparse matrix or Tensor, shape (n, L)
            Values in {-1, 0, 1} of any integer, float or bool dtype (True is present, False unknown). In a sparse
            matrix or tensor, the stored 1 and -1 are known and all other entries are unknown. Masked entries of a
            masked array are unknown. Names are taken from the columns of a DataFrame (pandas, polars) or pyarrow table.
            A LabelMatrix is returned unchanged.
        name : str, default="y"
            Name of the argument in error messages.

        Returns
        -------
        LabelMatrix
            Holds a copy or a view of Y, which is never written to.

        Raises
        ------
        ValueError
            If Y is not two-dimensional, is empty, or holds values other than -1, 0 or 1; if a sparse matrix stores
            an entry more than once; if a DataFrame has two columns with the same name.
        """
        if isinstance(Y, LabelMatrix):
            return Y
        names = _names(Y, name)
        try:
            array = plain(Y, name, masked=0)  # masked entries are unknown
        except RaggedRows:
            raise _not_numbers(name, "has rows of different lengths") from None
        if sp.issparse(array):
            values = _sparse_values(array, name)
            cls._check_shape(values.shape, name)
            return cls(values, names)
        if array.ndim != 2:
            raise ValueError(f"{name} must be a matrix of shape (n_rows, n_labels), got shape {array.shape}.")
        array = _numbers(array, name, names)
        cls._check_shape(array.shape, name)
        _check_values(array, name)
        return cls(np.ascontiguousarray(array, dtype=np.int8), names)

    @staticmethod
    def _check_shape(shape: tuple[int, ...], name: str) -> None:
        if 0 in shape:
            raise ValueError(f"{name} has shape {shape}, but needs at least one row and one label.")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and number of labels."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return self.shape[1]

    @property
    def is_sparse(self) -> bool:
        """Whether only the known entries are stored."""
        return sp.issparse(self.values)

    def __len__(self) -> int:
        return self.n_rows

    def __repr__(self) -> str:
        known = self.n_known / (self.n_rows * self.n_labels)
        return f"LabelMatrix({self.n_rows} rows, {self.n_labels} labels, {known:.1%} known)"

    def rows(self, index: Any) -> NDArray[np.int8]:
        """Dense labels of some rows.

        Parameters
        ----------
        index : slice or array of int or bool
            Which rows.

        Returns
        -------
        ndarray of int8, shape (n_chosen, L)
            May be a view: do not write to it.

        Raises
        ------
        ValueError
            If the labels are sparse and these rows do not fit into memory as a dense matrix.
        """
        chosen = self.values[index]
        return _dense_copy(chosen) if sp.issparse(chosen) else chosen

    def take(self, index: Any) -> LabelMatrix:
        """The label matrix of some rows.

        Parameters
        ----------
        index : slice or array of int or bool
            Which rows.

        Returns
        -------
        LabelMatrix
            In the same storage, with the same names.
        """
        return LabelMatrix(self.values[index], self.names)

    def toarray(self) -> NDArray[np.int8]:
        """The labels as a dense matrix.

        Returns
        -------
        ndarray of int8, shape (n, L)
            A copy.

        Raises
        ------
        ValueError
            If the labels are sparse and do not fit into memory as a dense matrix.
        """
        return _dense_copy(self.values) if self.is_sparse else self.values.copy()

    def count(self, sign: int | None = None, *, axis: int) -> NDArray[np.int64]:
        """Count the positive, negative or known entries.

        Parameters
        ----------
        sign : {1, -1} or None, default=None
            1 counts positive entries, -1 negative ones, None known ones.
        axis : {0, 1}
            0 counts per label, 1 per row.

        Returns
        -------
        ndarray of int64, shape (L,) or (n,)
            The counts.
        """
        if sp.issparse(self.values):
            chosen = self.values.data != 0 if sign is None else self.values.data == sign
            if axis == 0:
                return np.bincount(self.values.indices[chosen], minlength=self.n_labels).astype(np.int64)
            ends = np.concatenate([[0], np.cumsum(chosen, dtype=np.int64)])
            return np.diff(ends[self.values.indptr])
        counts = np.zeros(self.shape[1 - axis], dtype=np.int64)
        step = max(1, _BLOCK_ENTRIES // self.n_labels)
        for start in range(0, self.n_rows, step):
            block = self.values[start : start + step]
            found = np.count_nonzero(block if sign is None else block == sign, axis=axis)
            if axis == 0:
                counts += found
            else:
                counts[start : start + step] = found
        return counts

    @property
    def n_known(self) -> int:
        """Number of known entries."""
        return int(np.count_nonzero(self.values.data if sp.issparse(self.values) else self.values))

    @property
    def has_absent(self) -> bool:
        """Whether there is any known negative."""
        values = self.values.data if sp.issparse(self.values) else self.values
        return values.size > 0 and bool(values.min() < 0)

    def proportion_known(self, *, axis: int) -> NDArray[np.float64]:
        """The proportion of known entries.

        Parameters
        ----------
        axis : {0, 1}
            0 per label, 1 per row.

        Returns
        -------
        ndarray of float64, shape (L,) or (n,)
            Values in [0, 1].
        """
        return self.count(axis=axis) / self.shape[axis]

    def cooccurrence(self) -> NDArray[np.int64]:
        """Count the rows in which two labels are both known to be positive.

        Returns
        -------
        ndarray of int64, shape (L, L)
            Symmetric; the diagonal counts the rows in which a label is positive.

        Raises
        ------
        ValueError
            If the result does not fit into memory.
        """
        check_fits((self.n_labels,) * 2, "The co-occurrence of labels", "take fewer labels", itemsize=8)
        if sp.issparse(self.values):
            present = self.values.astype(np.int64)
            present.data = (present.data == 1).astype(np.int64)
            present.eliminate_zeros()
            return np.asarray((present.T @ present).toarray(), dtype=np.int64)
        counts = np.zeros((self.n_labels, self.n_labels), dtype=np.int64)
        # float32 counts exactly up to 2**24 rows, and its matrix product is far faster than that of integers.
        step = max(1, min(1 << 24, _BLOCK_ENTRIES // self.n_labels))
        for start in range(0, self.n_rows, step):
            present = (self.values[start : start + step] == 1).astype(np.float32)
            counts += np.rint(present.T @ present).astype(np.int64)
        return counts
