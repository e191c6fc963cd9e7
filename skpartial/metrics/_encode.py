"""Input of all metrics: true labels with one rule for unknown entries, predictions and scores."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skpartial._checks import check_choice, check_unmasked
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import check_same_names, column_names, plain

Unknown = Literal["ignore", "absent"]
T = TypeVar("T")

# Entries per block: small enough to keep a block's temporaries in the processor's cache (2**16 to 2**18 measured the
# same). It also bounds the memory of a metric.
_BLOCK_ENTRIES = 1 << 17
# Smallest block of labels: scores are stored by rows, so narrower blocks would fetch each cache line several times.
_BLOCK_LABELS = 8
_TRANSPOSED_ROWS = 2000
# More threads than this only wait for the interpreter lock, which is taken between array operations.
_MAX_THREADS = 8


def row_blocks(shape: tuple[int, int]) -> list[slice]:
    """Split the rows of a matrix of this shape into blocks of bounded size."""
    n_rows, n_labels = shape
    step = max(1, _BLOCK_ENTRIES // n_labels)
    return [slice(start, min(n_rows, start + step)) for start in range(0, n_rows, step)]


def label_blocks(shape: tuple[int, int]) -> list[slice]:
    """Split the labels of a matrix of this shape into blocks of bounded size."""
    n_rows, n_labels = shape
    step = max(_BLOCK_LABELS, _BLOCK_ENTRIES // n_rows)
    return [slice(start, min(n_labels, start + step)) for start in range(0, n_labels, step)]


def for_each(function: Callable[[slice], T], blocks: list[slice]) -> list[T]:
    """Call a function for each block, in as many threads as PyTorch uses (OMP_NUM_THREADS, the cores).

    NumPy releases the interpreter lock while it sorts and computes, so the threads run in parallel.
    """
    n_threads = min(len(blocks), torch.get_num_threads(), _MAX_THREADS)
    if n_threads < 2:
        return [function(block) for block in blocks]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, blocks))


def transposed(matrix: NDArray[Any], columns: slice) -> NDArray[Any]:
    """Copy some columns of a matrix into contiguous rows.

    It copies pieces that fit in the processor's first cache, which takes half the time for narrow dtypes.
    """
    part = matrix[:, columns]
    rows = np.empty(part.shape[::-1], dtype=matrix.dtype)
    for start in range(0, len(part), _TRANSPOSED_ROWS):
        rows[:, start : start + _TRANSPOSED_ROWS] = part[start : start + _TRANSPOSED_ROWS].T
    return rows


class Truth:
    """True labels with the rule for unknown entries applied.

    Parameters
    ----------
    y_true : array-like, DataFrame or sparse matrix, shape (n, L)
        Values in {-1, 0, 1}.
    unknown : {"ignore", "absent"}
        Whether unknown entries are left out or count as negative.
    sample_weight : array-like, shape (n,) or (n, L), or None, default=None
        Weights of rows or entries.
    rows_only : bool, default=False
        Whether the metric is a mean over rows, for which weights of entries are meaningless.

    Attributes
    ----------
    weights : ndarray of float64, shape (n,) or (n, L), or None
        The weights as an array.

    Raises
    ------
    ValueError
        If `unknown` is invalid, if it is "ignore" and `y_true` has no known negative, or if the weights are invalid.
    """

    def __init__(self, y_true: Any, unknown: Unknown, sample_weight: Any = None, *, rows_only: bool = False) -> None:
        check_choice(None, "unknown", unknown, ("ignore", "absent"))
        self.unknown = unknown
        self.labels = LabelMatrix.encode(y_true, name="y_true")
        self.shape = self.labels.shape
        if unknown == "ignore" and not self.labels.has_absent:
            raise ValueError(
                "y_true holds no known negative (-1), and over known entries alone every prediction of positive labels "
                'is perfect. Pass unknown="absent" to count entries of 0 as negative.'
            )
        self.complete = unknown == "absent" or self.labels.n_known == self.shape[0] * self.shape[1]
        self._by_label = sp.csc_array(self.labels.values) if self.labels.is_sparse else None
        self.weights = _check_weights(sample_weight, self.shape, self.labels.names, rows_only)

    def _masks(self, values: NDArray[np.int8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        return values == 1, None if self.complete else values != 0

    def of_rows(self, rows: slice) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Masks of the positives of some rows and of the entries that count, shape (b, L); None if all count."""
        return self._masks(self.labels.rows(rows))

    def of_labels(self, labels: slice) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Masks of the positives of some labels and of the entries that count, shape (b, n); None if all count."""
        if self._by_label is None:
            return self._masks(transposed(self.labels.values, labels))
        return self._masks(np.ascontiguousarray(self._by_label[:, labels].toarray().T))

    def weights_of_rows(self, rows: slice) -> NDArray[np.float64] | None:
        """Weights of the entries of some rows, shape (b, 1) or (b, L); None if all weigh the same."""
        if self.weights is None:
            return None
        return self.weights[rows, None] if self.weights.ndim == 1 else self.weights[rows]

    def weights_of_labels(self, labels: slice) -> NDArray[np.float64] | None:
        """Weights of the entries of some labels, shape (1, n) or (b, n); None if all weigh the same."""
        if self.weights is None:
            return None
        return self.weights[None] if self.weights.ndim == 1 else transposed(self.weights, labels)


def _check_weights(
    sample_weight: Any, shape: tuple[int, int], names: Any, rows_only: bool
) -> NDArray[np.float64] | None:
    """Weights as an array of float64 with the shape of the rows or of the labels."""
    if sample_weight is None:
        return None
    check_same_names(names, column_names(sample_weight), "sample_weight", "y_true")
    array = plain(sample_weight, "sample_weight")
    if sp.issparse(array) or array.dtype.kind not in "biuf":
        raise ValueError("sample_weight must be a dense array of real numbers.")
    if array.shape == shape and rows_only:
        raise ValueError(
            f"sample_weight must have shape ({shape[0]},), one weight per row, for a score that is a mean over rows."
        )
    if array.shape not in (shape, shape[:1]):
        raise ValueError(
            f"sample_weight must have shape ({shape[0]},) or {shape}, one weight per row or per entry, got "
            f"{array.shape}."
        )
    weights: NDArray[np.float64] = array.astype(np.float64, copy=False)
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight must hold finite numbers of at least 0.")
    if not weights.any():
        raise ValueError("sample_weight is zero everywhere, so there is nothing to score.")
    return weights


def as_predictions(y_pred: Any, shape: tuple[int, int], *, names: Any = None) -> LabelMatrix:
    """Check predicted labels; every value but 1 means predicted negative. `names` are those of the true labels."""
    check_unmasked("y_pred", y_pred)
    try:
        predicted = LabelMatrix.encode(y_pred, name="y_pred")
    except ValueError as error:
        raise ValueError(f"{error} Predictions are 1 (present) and 0 (absent); threshold scores first.") from None
    if predicted.shape != shape:
        raise ValueError(f"y_pred has shape {predicted.shape}, but y_true has shape {shape}.")
    check_same_names(names, predicted.names, "y_pred", "y_true")
    return predicted


def as_scores(scores: Any, shape: tuple[int, int], *, stacked: bool = False, names: Any = None) -> NDArray[Any]:
    """Check scores: an array of real numbers with the shape of the labels, or K such arrays if `stacked`.

    `names` are those of the true labels; columns with other names are refused.
    """
    given, scores = column_names(scores), plain(scores, "scores")
    if sp.issparse(scores):
        raise TypeError("scores is a sparse matrix, but every entry needs a score: pass scores.toarray().")
    if scores.dtype.kind not in "biuf":
        raise ValueError(f"scores must hold real numbers, got an array of dtype {scores.dtype}.")
    if scores.shape != shape and not (stacked and scores.ndim == 3 and scores.shape[1:] == shape):
        expected = f"{shape} or (K, {shape[0]}, {shape[1]})" if stacked else f"{shape}"
        raise ValueError(f"scores must have the shape of y_true, {expected}, got {scores.shape}.")
    check_same_names(names, given, "scores", "y_true")
    return scores
