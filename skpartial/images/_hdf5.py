"""Images in HDF5 files, which pickle, take rows in any order, and stay where they are until they are read."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skpartial._files import what_is_no_file

__all__ = ["HDF5Images"]


class _DataSet:
    """A data set of a file, opened when it is first read, in each process by itself."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name
        self._opened: tuple[int, Any] | None = None

    def open(self) -> Any:
        # A process that was forked must not read through the file of another.
        if self._opened is None or self._opened[0] != os.getpid():
            import h5py

            self._opened = os.getpid(), h5py.File(self.path, "r")
        return self._opened[1][self.name]

    def __reduce__(self) -> Any:
        return _DataSet, (self.path, self.name)


class HDF5Images:
    """Images in a data set of an HDF5 file, as X of searches, of shuffled splits and of worker processes.

    A data set of h5py itself does as X of a single fit, but it cannot be pickled, and takes rows in increasing order
    only. This one is pickled by the path of its file and its name, and opened again in every process. An index of rows
    gives another HDF5Images, which has read nothing yet.

    Parameters
    ----------
    path : str or path-like
        An HDF5 file. It must not be open for writing elsewhere.
    name : str
        Of a data set in it, of shape (n, H, W, C), (n, C, H, W) or (n, H, W).

    Attributes
    ----------
    shape : tuple of int
        Of the rows that are chosen.
    dtype : numpy.dtype
        Of the numbers.

    Raises
    ------
    ImportError
        If h5py is not installed.
    OSError
        If the file cannot be opened.
    ValueError
        If it has no such data set.

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
            raise ValueError(f"HDF5Images: {file!r} has no data set of images {name!r}: pass the path of one in it.")
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
        """One image as an array by its row, or some rows by a slice, indices or a mask, of which none is read yet."""
        if isinstance(rows, tuple):
            rows, *rest = rows
            if any(index is not Ellipsis for index in rest):
                raise IndexError("HDF5Images can be indexed by rows only: use numpy.asarray first.")
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
        """The numbers of all rows."""
        if copy is False:
            raise ValueError("HDF5Images are read from a file, which is a copy.")
        # HDF5 gives rows in increasing order, each of them once.
        rows, place = np.unique(self._rows, return_inverse=True)
        data = self._source.open()
        together = len(rows) and rows[-1] - rows[0] + 1 == len(rows)
        read: NDArray[Any] = data[rows[0] : rows[-1] + 1] if together else data[rows]
        return np.asarray(read[place.reshape(-1)], dtype=dtype)

    def hdf5_location(self) -> tuple[str, str, NDArray[np.int64]]:
        """The path of the file, the name of the data set, and the rows in it."""
        return self._source.path, self._source.name, self._rows
