"""The known entries of labels, block by block, and labels made from modified entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial._checks import check_choice
from skpartial.labels._forms import is_table
from skpartial.labels._frames import frame_like
from skpartial.labels._matrix import _BLOCK_ENTRIES, LabelMatrix

__all__ = ["Block", "KnownEntries", "smallest"]


class Block(NamedTuple):
    """The known entries of some consecutive rows, row by row."""

    start: int
    counts: NDArray[np.int64]
    columns: NDArray[np.int64]
    signs: NDArray[np.int8]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each entry, counted from the block's first."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def only(self, keep: NDArray[np.bool_]) -> Block:
        """The block with a subset of its entries."""
        ends = np.concatenate([[0], np.cumsum(keep)])
        counts = np.diff(ends[np.concatenate([[0], np.cumsum(self.counts)])])
        return Block(self.start, counts, self.columns[keep], self.signs[keep])


class KnownEntries:
    """The known entries of the user's labels, in blocks, and the conversion back to the user's format.

    Every simulator sees known entries only, in row-major order, so that dense and sparse labels draw the same
    random numbers and no dense copy of sparse labels is made.
    """

    def __init__(self, Y: Any, zero: str) -> None:
        check_choice(None, "zero", zero, ("absent", "unknown"))
        self.given = Y
        self.matrix = LabelMatrix.encode(Y, name="Y")
        self.n_rows, self.n_labels = self.matrix.shape
        zeros = self.n_rows * self.n_labels - self.matrix.n_known
        self.zeros_absent = zero == "absent" and zeros > 0
        if self.zeros_absent and self.matrix.has_absent:
            raise ValueError(
                "Y holds -1 and 0, so its zeros are unknown entries, but simulators start from complete labels: "
                "{-1, 1}, or {0, 1} with 0 absent. Pass zero='unknown' to start from the known entries."
            )

    def blocks(self) -> Iterator[Block]:
        values = self.matrix.values
        if sp.issparse(values) and not self.zeros_absent:
            step = max(1, _BLOCK_ENTRIES // max(1, int(np.diff(values.indptr).max())))
            for start in range(0, self.n_rows, step):
                ends = values.indptr[start : start + step + 1].astype(np.int64)
                entries = slice(ends[0], ends[-1])
                yield Block(start, np.diff(ends), values.indices[entries].astype(np.int64), values.data[entries])
            return
        step = max(1, _BLOCK_ENTRIES // self.n_labels)
        for start in range(0, self.n_rows, step):
            block = self.matrix.rows(slice(start, start + step))
            if self.zeros_absent:
                block = np.where(block == 1, 1, -1).astype(np.int8)
            counts = np.count_nonzero(block, axis=1).astype(np.int64)
            flat = np.flatnonzero(block)
            yield Block(start, counts, flat % self.n_labels, block.ravel()[flat])

    def result(self, blocks: Iterator[Block]) -> Any:
        """Blocks of new entries, in the format that the user passed."""
        values = self._values(blocks)
        if isinstance(self.given, LabelMatrix):
            return LabelMatrix(values, self.given.names)
        return frame_like(self.given, values) if is_table(self.given) else values

    def _values(self, blocks: Iterator[Block]) -> Any:
        if not self.matrix.is_sparse:
            dense = np.zeros(self.matrix.shape, dtype=np.int8)
            for block in blocks:
                dense[block.start + block.rows, block.columns] = block.signs
            return dense
        pieces = list(blocks)
        indptr = np.concatenate([[0], np.cumsum(np.concatenate([piece.counts for piece in pieces]))])
        # 32-bit indices if they suffice: half the memory, and parts of scikit-learn accept no others.
        dtype = np.int32 if max(int(indptr[-1]), self.n_labels) <= np.iinfo(np.int32).max else np.int64
        columns = np.concatenate([piece.columns.astype(dtype) for piece in pieces])
        signs = np.concatenate([piece.signs for piece in pieces])
        return sp.csr_array((signs, columns, indptr.astype(dtype)), shape=self.matrix.shape)


def smallest(keys: NDArray[np.float64], counts: NDArray[np.int64], n_kept: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mask of the entries with the smallest keys in each row; `keys` holds all rows one after the other."""
    width = int(counts.max(initial=0))
    there = np.arange(width) < counts[:, None]
    padded = np.full(there.shape, np.inf)
    padded[there] = keys
    keep = np.zeros(there.shape, dtype=bool)
    # A stable sort puts the padding last even if keys are infinite.
    np.put_along_axis(keep, np.argsort(padded, axis=1, kind="stable"), np.arange(width) < n_kept[:, None], axis=1)
    return keep[there]
