"""Images in HDF5 files that can be pickled, indexed by rows in any order, and are only read on demand."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skpartial._files import what_is_no_file

__all__ = ["HDF5Images"]


class _DataSet:
    """A data set in a file, opened on first use, separately in each process."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self._opened: tuple[int, Any] | None = None

    def open(self) -> Any:
        # A forked process must not share the open file of its parent.
        if self._opened is None or self._opened[0] != os.getpid():
            import h5py

            self._opened = os.getpid(), h5py.File(self.path, "r")
        return self._opened[1][self.name]

    def __reduce__(self) -> Any:
        return _DataSet, (self.path, self.name)


class HDF5Images:
    """Images in a data set of an HDF5 file, for use as X in searches, shuffled splits and worker processes.

    A data set of h5py itself works as X of a single fit, but it cannot be pickled, and only takes rows in increasing
    order. HDF5Images is pickled by the path of its file and the name of the data set, and opened again in every
    process. Indexing by rows returns another HDF5Images without reading any image.

    Parameters
    ----------
    path : str or path-like
        HDF5 file. It must not be open for writing elsewhere.
    name : str
        Name of a data set in it, of shape (n, H, W, C), (n, C, H, W) or (n, H, W).

    Attributes
    ----------
    shape : tuple of int
        Shape of the selected rows.
    dtype : numpy.dtype
        Type of the pixels.

    Raises
    ------
    ImportError
        If h5py is not installed.
    OSError
        If the file cannot be opened.
    ValueError
        If the file has no such data set.

    Examples
    --------
    >>> import os, tempfile
    >>> import h5py
    >>> import numpy as np
    >>> from skpartial.images import HDF5Images
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "images.h5")
    >>> with h5py.File(path, "w") as file:
    ...     _ = file.create_dataset("train/images", data=np.zeros((10, 8, 8, 3), dtype=np.uint8))
    >>> X = HDF5Images(path, "train/images")
    >>> X[[7, 2, 2]].shape
    (3, 8, 8, 3)
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        file = os.path.abspath(os.fspath(path))
        try:
            import h5py
        except ImportError:
            raise ImportError("HDF5Images needs h5py: pip install h5py.") from None
        other = what_is_no_file(file)
        if other is not None:
            raise OSError(f"HDF5Images: path must be an HDF5 file, got {file!r}, which is {other}.")
        source = _DataSet(file, name)
        try:
            data = source.open()
        except KeyError:
            data = None
        if not isinstance(data, h5py.Dataset) or not data.shape:
            raise ValueError(f"HDF5Images: {file!r} has no data set of images named {name!r}.")
        self._set(source, np.arange(len(data)), data.shape[1:], data.dtype)

    def _set(self, source: _DataSet, rows: NDArray[np.int64], one: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._source, self._rows, self.dtype = source, rows, dtype
        self.shape: tuple[int, ...] = (len(rows), *one)
        self.ndim = len(self.shape)

    def __repr__(self) -> str:
        return f"HDF5Images({self._source.path!r}, {self._source.name!r}): {self.shape[0]} rows"

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:
        """One image as an array by its row, or an unread selection by a slice, indices or a mask."""
        if isinstance(rows, tuple):
            rows, *rest = rows
            if any(index is not Ellipsis for index in rest):
                raise IndexError("HDF5Images can only be indexed by rows: use numpy.asarray first.")
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = rows.astype(np.int64) if not rows.size else rows
        chosen = self._rows[rows]
        if np.ndim(chosen) == 0:
            return self._source.open()[int(chosen)]
        part = HDF5Images.__new__(HDF5Images)
        part._set(self._source, chosen, self.shape[1:], self.dtype)
        return part

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """The pixels of all rows."""
        if copy is False:
            raise ValueError("HDF5Images cannot be converted with copy=False: reading from a file makes a copy.")
        # HDF5 only reads distinct rows in increasing order.
        rows, place = np.unique(self._rows, return_inverse=True)
        data = self._source.open()
        together = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
        read: NDArray[Any] = data[rows[0] : rows[-1] + 1] if together else data[rows]
        return np.asarray(read[place.reshape(-1)], dtype=dtype)

    def hdf5_location(self) -> tuple[str, str, NDArray[np.int64]]:
        """The path of the file, the name of the data set, and the rows in it."""
        return self._source.path, self._source.name, self._rows
