"""The label matrix: one internal type for every form in which a user may pass labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.labels._forms import RaggedRows, column_names, plain
from skpartial.labels._memory import check_fits

__all__ = ["LabelMatrix", "present_share"]

# Rows handled at a time where a dense pass would otherwise make temporaries of the whole matrix.
_BLOCK_ENTRIES = 1 << 22


def _names(Y: Any, name: str) -> NDArray[Any] | None:
    names = column_names(Y)
    if names is None:
        return None
    if len(set(names)) != len(names):
        twice = next(column for i, column in enumerate(names) if column in names[:i])
        raise ValueError(f"{name} has more than one column named {twice!r}; every label needs a name of its own.")
    return np.asarray(names, dtype=object)


def _not_numbers(name: str, what: str) -> ValueError:
    return ValueError(
        f"Unknown label type: {name} {what}; a label matrix holds 1 (present), -1 (absent) and 0 (unknown). "
        "skpartial.labels has from_names, from_annotations and recode for other forms."
    )


def _cure_of_nan(name: str, has_minus_one: bool) -> str:
    """What to do about NaN, which depends on what the other values mean; nothing but their author can tell."""
    if has_minus_one:
        return (
            "It holds both NaN and -1, and -1 has two meanings. Where -1 is uncertain and 0 absent, as in the "
            f"tables of CheXpert: skpartial.labels.recode({name}, present=1, absent=0, unknown=[-1, np.nan]). Where -1 "
            f"is absent and 0 unknown already, fill NaN with 0: {name}.fillna(0) for a DataFrame. "
            "skpartial.labels.from_nan is for 1, 0 and NaN only."
        )
    return (
        "Where 0 means absent in it, convert {0, 1, NaN} with skpartial.labels.from_nan; where 0 means unknown "
        f"already, fill NaN with 0: {name}.fillna(0) for a DataFrame."
    )


def _check_values(values: NDArray[Any], name: str) -> None:
    if values.dtype == bool or values.size == 0:
        return
    if values.dtype.kind not in "iuf":
        raise _not_numbers(name, f"has dtype {values.dtype}")
    # Comparisons make temporaries as large as what they compare, hence the blocks.
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
            raise ValueError(
                f"Unknown label type: {name} holds {', '.join(map(str, odd.tolist()))}; a label matrix holds only "
                f"1 (present), -1 (absent) and 0 (unknown). {cure}"
            )


def _numbers(array: NDArray[Any], name: str) -> NDArray[Any]:
    """An array of objects as one of numbers; any other one as it is."""
    if array.dtype != object:
        return array
    if any(isinstance(value, (str, bytes)) for value in array.flat):
        # NumPy would read the string "1" as the number 1.
        raise _not_numbers(name, "holds values that are not numbers")
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise _not_numbers(name, "holds values that are not numbers") from None


def _sparse_values(Y: Any, name: str) -> sp.csr_array:
    """Y as a CSR array of its own, without duplicates or stored zeros."""
    if Y.ndim != 2:
        raise ValueError(f"{name} must be a matrix of shape (n_rows, n_labels), got shape {Y.shape}.")
    if Y.format not in ("csr", "csc", "coo"):
        Y = sp.coo_array(Y)
    _check_values(Y.data, name)
    # A copy: sorting and adding up must not touch what the user passed.
    values = sp.csr_array(Y, copy=True)
    values.sum_duplicates()
    if values.nnz != Y.nnz:
        # Entries stored more than once were added up, possibly with overflow: add up their sizes in wide integers.
        stored = sp.coo_array(Y)
        # By way of tocsr, which adds up in every version of scipy; csr_array itself does not before 1.14.
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
    """Share of presences among known entries, after half an entry of each sign is added; of counts of any shape."""
    return (present + 0.5) / (known + 1)


class LabelMatrix:
    """Labels of n rows over L labels: 1 present, -1 absent, 0 unknown.

    The rest of the package sees labels only through this type, whatever the user passed.

    Parameters
    ----------
    values : ndarray of int8 or csr_array of int8, shape (n, L)
        The entries. A sparse matrix stores known entries only: its implicit zeros are unknown.
    names : ndarray of str, shape (L,), or None, default=None
        The names of the labels.

    See Also
    --------
    LabelMatrix.encode : Make a label matrix from anything a user may pass.

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
        """Make a label matrix from whatever holds one.

        Parameters
        ----------
        Y : array-like, DataFrame, pyarrow table, sparse matrix or Tensor, shape (n, L)
            Values in {-1, 0, 1} of any integer, float or bool dtype (True is present, False unknown). Of a sparse
            matrix or tensor, the stored 1 and -1 are known and everything else is unknown; masked entries of a masked
            array are unknown. The columns of a DataFrame (pandas, polars) or pyarrow table give the names. A
            LabelMatrix is returned as it is.
        name : str, default="y"
            What error messages call the argument.

        Returns
        -------
        LabelMatrix
            Holds a copy or a view of Y that is never written to.

        Raises
        ------
        ValueError
            If Y is not two-dimensional, is empty, or holds another value than -1, 0 or 1; if a sparse matrix stores
            an entry more than once; if a DataFrame has two columns of one name.
        """
        if isinstance(Y, LabelMatrix):
            return Y
        names = _names(Y, name)
        try:
            array = plain(Y, name, masked=0)  # what is masked is not known
        except RaggedRows:
            raise _not_numbers(name, "has rows of different lengths") from None
        if sp.issparse(array):
            values = _sparse_values(array, name)
            cls._check_shape(values.shape, name)
            return cls(values, names)
        array = _numbers(array, name)
        if array.ndim != 2:
            raise ValueError(f"{name} must be a matrix of shape (n_rows, n_labels), got shape {array.shape}.")
        cls._check_shape(array.shape, name)
        _check_values(array, name)
        return cls(np.ascontiguousarray(array, dtype=np.int8), names)

    @staticmethod
    def _check_shape(shape: tuple[int, ...], name: str) -> None:
        if 0 in shape:
            raise ValueError(f"{name} has shape {shape}: it needs at least one row and one label.")

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
        """How many entries are present, absent or known.

        Parameters
        ----------
        sign : {1, -1} or None, default=None
            1 counts present entries, -1 absent ones, None known ones.
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
        """Whether any entry is known to be absent."""
        values = self.values.data if sp.issparse(self.values) else self.values
        return values.size > 0 and bool(values.min() < 0)

    def proportion_known(self, *, axis: int) -> NDArray[np.float64]:
        """The proportion of entries that are known.

        Parameters
        ----------
        axis : {0, 1}
            0 for each label, 1 for each row.

        Returns
        -------
        ndarray of float64, shape (L,) or (n,)
            Values in [0, 1].
        """
        return self.count(axis=axis) / self.shape[axis]

    def cooccurrence(self) -> NDArray[np.int64]:
        """How often two labels are known to be present together.

        Returns
        -------
        ndarray of int64, shape (L, L)
            Symmetric; the diagonal counts the rows in which a label is present.

        Raises
        ------
        ValueError
            If there are so many labels that it does not fit into memory.
        """
        check_fits((self.n_labels,) * 2, "The co-occurrence of labels", "take fewer labels", itemsize=8)
        if sp.issparse(self.values):
            present = self.values.astype(np.int64)
            present.data = (present.data == 1).astype(np.int64)
            present.eliminate_zeros()
            return np.asarray((present.T @ present).toarray(), dtype=np.int64)
        counts = np.zeros((self.n_labels, self.n_labels), dtype=np.int64)
        # float32 counts exactly up to 2**24 rows, and its product is far faster than an integer one.
        step = max(1, min(1 << 24, _BLOCK_ENTRIES // self.n_labels))
        for start in range(0, self.n_rows, step):
            present = (self.values[start : start + step] == 1).astype(np.float32)
            counts += np.rint(present.T @ present).astype(np.int64)
        return counts
