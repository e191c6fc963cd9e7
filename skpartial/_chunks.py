"""Data that come in chunks: iterables, Parquet files, Hugging Face data sets.

A fit reads its rows many times and in any order, which most of these do not allow. They are written to one file of
numbers, chunk by chunk. The fit uses it as a memory map, and it is deleted when the fit ends.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from skpartial.labels import LabelMatrix
from skpartial.labels._forms import check_same_names, is_vector, plain

__all__ = ["HubImages", "chunks_of", "is_chunked", "is_hub_dataset", "is_pair", "pairs_of", "read_chunks"]

# Size of a chunk that is read from a table, in bytes, or in rows if the size of a row is unknown.
_CHUNK_BYTES, _CHUNK_ROWS = 64 << 20, 4096


def is_hub_dataset(X: Any) -> bool:
    """Whether X is a data set from the library `datasets`, or behaves like one."""
    return all(hasattr(X, name) for name in ("column_names", "num_rows", "with_format", "__getitem__"))


def _is_table_file(X: Any) -> bool:
    """Whether X is a pyarrow Parquet file or data set: tables that are read in batches of rows."""
    of_pyarrow = type(X).__module__.partition(".")[0] == "pyarrow"
    return of_pyarrow and not hasattr(X, "shape") and (hasattr(X, "iter_batches") or hasattr(X, "to_batches"))


def is_chunked(X: Any) -> bool:
    """Whether X yields its rows in chunks, and has to be read by iteration."""
    if isinstance(X, torch.Tensor):  # some have no shape
        return False
    if is_hub_dataset(X) or _is_table_file(X):
        return True
    has_rows = any(hasattr(X, name) for name in ("shape", "__array__", "__getitem__"))
    return isinstance(X, Iterable) and not has_rows and not isinstance(X, set | frozenset | Mapping | str | bytes)


def chunks_of(X: Any) -> Iterator[Any]:
    """The chunks of chunked data: arrays, sparse matrices or frames, or pairs of one of these and labels."""
    if is_hub_dataset(X):
        numbers = X.with_format("numpy")
        for start in range(0, X.num_rows, _CHUNK_ROWS):
            columns = numbers[start : min(start + _CHUNK_ROWS, X.num_rows)]
            yield _joined({name: np.asarray(columns[name]) for name in X.column_names})
        return
    if _is_table_file(X):
        yield from map(_of_batch, X.iter_batches(_batch_rows(X)) if hasattr(X, "iter_batches") else X.to_batches())
        return
    for chunk in X:
        yield _of_batch(chunk) if type(chunk).__module__.partition(".")[0] == "pyarrow" else chunk


def _batch_rows(file: Any) -> int:
    """Number of rows per chunk of a Parquet file, from the memory per row."""
    metadata = file.metadata
    total = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
    return max(1, _CHUNK_BYTES * metadata.num_rows // max(1, total))


def _of_batch(batch: Any) -> NDArray[Any]:
    """The numbers of a pyarrow batch: columns of numbers, or of lists of equal length."""

    def column(values: Any) -> NDArray[Any]:
        if hasattr(values, "combine_chunks"):
            values = values.combine_chunks()
        if not hasattr(values, "value_lengths"):
            numbers: NDArray[Any] = values.to_numpy(zero_copy_only=False)
            return numbers
        if values.null_count or len(set(values.value_lengths().to_pylist())) > 1:
            raise ValueError("X holds lists of different lengths: every row must have the same number of values.")
        flat = values.flatten().to_numpy(zero_copy_only=False)
        rows: NDArray[Any] = flat.reshape(len(values), -1)
        return rows

    return _joined({name: column(batch.column(i)) for i, name in enumerate(batch.schema.names)})


def _joined(columns: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Columns of numbers, 1-D or 2-D, side by side."""
    for name, values in columns.items():
        if values.dtype.kind not in "biuf":
            raise ValueError(
                f"Column {name!r} of X holds {values.dtype}, not numbers: select the columns that are features."
            )
    if len(columns) == 1:
        (values,) = columns.values()
        return values if values.ndim > 1 else values[:, None]
    return np.concatenate([v.reshape(len(v), -1) for v in columns.values()], axis=1)


def is_pair(chunk: Any) -> bool:
    """Whether a chunk is a pair (features, labels)."""
    return isinstance(chunk, tuple | list) and len(chunk) == 2 and len(getattr(chunk[0], "shape", ())) > 1


def pairs_of(X: Any, y: Any, sample_weight: Any = None) -> Iterator[tuple[Any, Any, Any]]:
    """Chunks of rows with their labels and weights, which come in pairs with X, in chunks of their own, or as a whole.

    Raises
    ------
    ValueError
        If the numbers of rows and labels differ.
    """
    labels = chunks_of(y) if is_chunked(y) else None
    weights = chunks_of(sample_weight) if is_chunked(sample_weight) else None
    start = 0
    for number, chunk in enumerate(chunks_of(X)):
        rows, own = chunk if is_pair(chunk) else (chunk, None)
        _check_chunk(rows, number, "X")
        stop = start + rows.shape[0]
        if own is not None and y is not None:
            raise ValueError("X yields pairs of features and labels, so y must be None.")
        if labels is not None:
            own = next(labels, None)
        elif y is not None:
            own = _slice(y, start, stop)
        if own is None:
            raise ValueError(
                f"Chunk {number} of X has no labels: pass y, whole or in chunks, or pairs (features, labels) as X."
            )
        if weights is not None:
            weight = next(weights, None)
            if weight is None:
                raise ValueError(f"Chunk {number} of X has no sample_weight: pass weights for each chunk of X.")
        else:
            weight = None if sample_weight is None else _slice(sample_weight, start, stop)
        yield rows, own, weight
        start = stop
    left = next(labels, None) if labels is not None else None
    total = start if labels is not None or y is None else _n_rows(y)
    if start == 0:
        raise ValueError("X yields no chunk: an exhausted iterator must be created again.")
    if left is not None or total != start:
        raise ValueError(f"y has more rows than X, which has {start}.")
    if weights is not None:
        if next(weights, None) is not None:
            raise ValueError(f"sample_weight has more chunks than X, which has {start} rows.")
    elif sample_weight is not None and _n_rows(sample_weight) != start:
        raise ValueError(f"sample_weight holds {_n_rows(sample_weight)} weights for the {start} rows of X.")


def _n_rows(values: Any) -> int:
    return int(values.shape[0]) if hasattr(values, "shape") else len(values)


def _check_chunk(rows: Any, number: int, name: str) -> None:
    """Refuse a chunk that does not hold several rows."""
    if len(getattr(rows, "shape", ())) < 2:
        what = f"has shape {tuple(rows.shape)}" if hasattr(rows, "shape") else f"is a {type(rows).__name__}"
        raise ValueError(
            f"Chunk {number} of {name} {what}: an iterable must yield arrays of rows, or pairs (features, labels)."
        )


def _slice(values: Any, start: int, stop: int) -> Any:
    rows = values.iloc[start:stop] if hasattr(values, "iloc") else values[start:stop]
    n_found = rows.shape[0] if hasattr(rows, "shape") else len(rows)
    if n_found < stop - start:
        raise ValueError(f"X has at least {stop} rows, but y or sample_weight has {start + n_found}.")
    return rows


@contextmanager
def read_chunks(X: Any, y: Any, X_val: Any, y_val: Any, *, images: bool = False) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Make X, y, X_val and y_val usable where they come in chunks.

    Dense rows are in a file that is deleted in the end; sparse rows and labels are in memory. Data that do not come in
    chunks are returned unchanged. Images of a data set are read one by one.
    """
    with ExitStack() as stack:
        found: list[Any] = []
        for rows, labels, name in ((X, y, "X"), (X_val, y_val, "X_val")):
            if images and is_hub_dataset(rows):
                rows = HubImages(rows)
            if not is_chunked(rows):
                if is_chunked(labels):
                    labels = _stacked_labels(list(chunks_of(labels)))
                found += [rows, labels]
                continue
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="skpartial-", ignore_cleanup_errors=True))
            found += _written(rows, labels, Path(folder) / "rows", name)
        yield tuple(found)


def _written(X: Any, y: Any, path: Path, name: str) -> tuple[Any, Any]:
    """Rows as a memory map, or in memory if they are sparse, and all labels."""
    labels: list[Any] = []
    rows = _rows_alone(X, name) if y is not None else _noted(pairs_of(X, y), labels)
    written = _write_rows(rows, path, name)
    if y is None:
        y = _stacked_labels(labels)
    elif is_chunked(y):
        y = _stacked_labels(list(chunks_of(y)))
    return written, y


def _noted(pairs: Iterable[tuple[Any, Any, Any]], labels: list[Any]) -> Iterator[Any]:
    """The rows of pairs; their labels are appended to a list."""
    for rows, own, _ in pairs:
        labels.append(own)
        yield rows


def _rows_alone(X: Any, name: str) -> Iterator[Any]:
    """Chunks of rows without labels."""
    for number, rows in enumerate(chunks_of(X)):
        if is_pair(rows):
            raise ValueError(f"{name} yields pairs of features and labels, so y must be None.")
        _check_chunk(rows, number, name)
        yield rows


def _write_rows(chunks: Iterable[Any], path: Path, name: str) -> Any:
    """Concatenate chunks of rows: into a memory map, or a sparse matrix in memory."""
    first: NDArray[Any] | None = None
    sparse: list[Any] = []
    columns: list[Any] | None = None
    n_rows = 0
    with open(path, "wb") as file:
        for number, rows in enumerate(chunks):
            given = list(rows.columns) if hasattr(rows, "columns") else None
            if number and given != columns:
                raise ValueError(f"Chunk {number} of {name} has different columns from the chunk before.")
            columns = given
            if number and sp.issparse(rows) != bool(sparse):
                raise ValueError(f"Chunks of {name} must be all dense or all sparse, but chunk {number} differs.")
            if sp.issparse(rows):
                sparse.append(sp.csr_array(rows))
                continue
            array = rows.detach().cpu().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows)
            if array.dtype.kind not in "biuf":
                raise ValueError(f"{name} must hold numbers, but chunk {number} holds {array.dtype}.")
            first = array[:0] if first is None else first
            if array.shape[1:] != first.shape[1:]:
                raise ValueError(
                    f"Chunk {number} of {name} has shape {array.shape}, but rows of the first one have shape "
                    f"{first.shape[1:]}."
                )
            if not np.can_cast(array.dtype, first.dtype, "safe"):
                raise ValueError(
                    f"Chunk {number} of {name} holds {array.dtype}, but the first one holds {first.dtype}: "
                    f"convert all to one type, such as chunk.astype({array.dtype.name!r})."
                )
            file.write(np.ascontiguousarray(array, dtype=first.dtype).data)
            n_rows += len(array)
    if sparse:
        return sp.vstack(sparse, format="csr")
    if first is None or not n_rows:
        raise ValueError(f"{name} yields no rows: an exhausted iterator must be created again.")
    return np.memmap(path, dtype=first.dtype, mode="r", shape=(n_rows, *first.shape[1:]))


def _stacked_labels(chunks: Sequence[Any]) -> Any:
    """Labels of chunks as one vector or label matrix."""
    if is_vector(chunks[0]) and len(getattr(chunks[0], "shape", (0,))) == 1:
        return np.concatenate([plain(chunk, "y") for chunk in chunks])
    matrices = [LabelMatrix.encode(chunk) for chunk in chunks]
    for matrix, (before, after) in zip(matrices[1:], itertools.pairwise(matrices)):
        check_same_names(before.names, after.names, "y", "the chunk before", "use the same label names in every chunk")
        if matrix.n_labels != before.n_labels:
            raise ValueError(f"y has {matrix.n_labels} labels in one chunk and {before.n_labels} in the one before.")
    parts = [matrix.values for matrix in matrices]
    whole = sp.vstack(parts, format="csr") if any(matrix.is_sparse for matrix in matrices) else np.concatenate(parts)
    return LabelMatrix(whole, matrices[0].names)


class HubImages(Sequence[Any]):
    """The images of a Hugging Face data set, by row.

    Parameters
    ----------
    dataset : Dataset
        With a single column, or with a column named "image".
    """

    def __init__(self, dataset: Any) -> None:
        names = list(dataset.column_names)
        if len(names) > 1 and "image" not in names:
            raise ValueError(f"X has the columns {names}: choose the one with the images by X.select_columns([name]).")
        self._dataset, self._name = dataset, "image" if "image" in names else names[0]

    def __len__(self) -> int:
        return int(self._dataset.num_rows)

    def __getitem__(self, row: Any) -> Any:
        return self._dataset[int(row)][self._name]
