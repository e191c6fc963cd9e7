"""Features of images, cached on disk per image as plain numbers in .npy files; nothing in them is executed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from skpartial._checks import check_number, wrong_value
from skpartial._documentation import Documented
from skpartial._warnings import warn

__all__ = ["FeatureStore", "Shelf", "as_store", "image_keys"]

# Seconds after which a file without an index counts as abandoned by its process.
_ABANDONED = 3600
# Bytes of features per file.
_FILE_BYTES = 64 << 20
# The key of an image, and a checksum of its features.
_INDEX = np.dtype([("image", "S32"), ("checksum", "<u4")])
_FOLDER, _VALUES, _KEYS = "features-", ".features.npy", ".index.npy"


class FeatureStore(Documented, BaseEstimator):
    """A folder for cached features of images, limited in size.

    An image is identified by the path, size and modification time of its file, or by its pixels. Features are
    identified by the image, the weights of the network, the image size, the normalisation and the precision, so any
    subset of images, such as the folds of a search, can use features that were computed for another. Files hold plain
    numbers and checksums, and nothing in them is executed; damaged features are computed again, with a warning. Several
    processes may use a folder at once.

    Parameters
    ----------
    path : str or path-like
        Folder, created if necessary; "~" is the home directory. It may be deleted at any time.
    max_bytes : float, default=20e9
        If the folder takes more, the least recently used files are deleted.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.images import Backbone, FeatureStore, ImageFeatures
    >>> images = make_digit_scenes(20, random_state=0).images
    >>> backbone = Backbone("resnet18", weights=None, image_size=32)
    >>> with TemporaryDirectory() as folder:
    ...     features = ImageFeatures(backbone, memory=FeatureStore(folder, max_bytes=1e9)).fit(images)
    ...     _ = features.transform(images)
    ...     features.transform(images[5:15]).shape      # the network does not run again
    (10, 512)
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: float = 20e9) -> None:
        self.path = path
        self.max_bytes = max_bytes

    def shelf(self, key: str, n_features: int) -> Shelf:
        """The part of the folder for one network.

        Parameters
        ----------
        key : str
            Letters and digits that identify the network, its weights and the preparation of images.
        n_features : int
            Width d of the features.

        Returns
        -------
        Shelf
            Reads and stores features of images.

        Raises
        ------
        ValueError
            If `path` or `max_bytes` is invalid.
        NotADirectoryError
            If `path` is a file.
        """
        if not isinstance(self.path, str | os.PathLike):
            raise wrong_value(self, "path", "a path", self.path)
        max_bytes = check_number(self, "max_bytes", self.max_bytes, "(0, inf]")
        root = Path(self.path).expanduser()
        if root.exists() and not root.is_dir():
            raise NotADirectoryError(f"memory must be a folder, but {str(root)!r} is a file.")
        return Shelf(root, key, n_features, max_bytes)


def as_store(memory: Any) -> FeatureStore | None:
    """The store for `memory`: from a folder, a store, a joblib Memory, whose folder is used, or None."""
    if memory is None or isinstance(memory, FeatureStore):
        return memory
    if isinstance(memory, str | os.PathLike):
        return FeatureStore(memory)
    backend = getattr(memory, "store_backend", memory)
    if backend is None:
        return None
    location = getattr(backend, "location", None)
    if not isinstance(location, str | os.PathLike):
        raise ValueError(f"memory must be a folder, a FeatureStore, a joblib.Memory or None, got {memory!r}.")
    return FeatureStore(Path(location) / "skpartial")


class Shelf:
    """Features of one network: files with the features of some images each, and their indices.

    Parameters
    ----------
    root : Path
        The folder of all networks.
    key : str
        Key of the network.
    n_features : int
        Width d of the features.
    max_bytes : float
        Limit for all networks together.
    """

    def __init__(self, root: Path, key: str, n_features: int, max_bytes: float) -> None:
        self.root, self.folder = root, root / f"{_FOLDER}{key}"
        self.n_features, self.max_bytes = n_features, max_bytes
        self._pending: list[tuple[NDArray[np.bytes_], NDArray[np.float32]]] = []

    def read(self, images: NDArray[np.bytes_]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read the cached features of some images.

        Parameters
        ----------
        images : ndarray of S32, shape (n,)
            Keys of the images; may have duplicates.

        Returns
        -------
        features : ndarray of float32, shape (n, d)
            Features; undefined where `found` is False.
        found : ndarray of bool, shape (n,)
            Whether features were found.
        """
        features = np.empty((len(images), self.n_features), dtype=np.float32)
        found = np.zeros(len(images), dtype=bool)
        order = np.argsort(images, kind="stable")
        ordered = images[order]
        for index in sorted(self.folder.glob(f"*{_KEYS}")):
            if found.all():
                break
            try:
                self._read_file(index, ordered, order, features, found)
            except FileNotFoundError:
                continue  # another process deleted it
            except (OSError, ValueError, EOFError) as error:
                reason = " ".join(str(error).split())
                warn(f"The features in {index} are damaged ({reason}) and are computed again.")
                self._delete(index)
        return features, found

    def _read_file(
        self,
        index: Path,
        ordered: NDArray[np.bytes_],
        order: NDArray[np.int64],
        features: NDArray[np.float32],
        found: NDArray[np.bool_],
    ) -> None:
        # A mapped file cannot claim to be larger than it is.
        keys = np.load(index, mmap_mode="r", allow_pickle=False)
        values_file = _values_of(index)
        kept = np.load(values_file, mmap_mode="r", allow_pickle=False)
        if keys.dtype != _INDEX or keys.ndim != 1:
            raise ValueError("it holds other types of data")
        keys = np.array(keys)
        if kept.dtype != np.dtype("<f4") or kept.shape != (len(keys), self.n_features):
            raise ValueError(f"{values_file.name} has shape {kept.shape} of {kept.dtype}")
        first = np.searchsorted(ordered, keys["image"], side="left")
        last = np.searchsorted(ordered, keys["image"], side="right")
        wanted = np.flatnonzero(last > first)
        good = []
        for at in wanted.tolist():
            row = np.array(kept[at])
            if zlib.crc32(row.tobytes()) == keys["checksum"][at]:
                rows = order[first[at] : last[at]]
                features[rows], found[rows] = row, True
                good.append(at)
        if len(wanted):
            with contextlib.suppress(OSError):
                os.utime(index)  # mark as used
        if len(good) < len(wanted):
            self._pending.append((keys["image"][good], np.array(kept[good])))  # the file will be deleted
            raise ValueError(f"{len(wanted) - len(good)} images differ from their checksums")

    def add(self, images: NDArray[np.bytes_], features: NDArray[np.float32]) -> None:
        """Store features of images, at the latest when `flush` is called."""
        self._pending.append((images, features))
        if sum(part.nbytes for _, part in self._pending) >= _FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write added features."""
        if not self._pending:
            return
        features = np.concatenate([part for _, part in self._pending]).astype("<f4", copy=False)
        keys = np.empty(len(features), dtype=_INDEX)
        keys["image"] = np.concatenate([images for images, _ in self._pending])
        keys["checksum"] = [zlib.crc32(np.ascontiguousarray(row).tobytes()) for row in features]
        self._pending = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = uuid.uuid4().hex
            # The index is written last: without it, features are not read.
            for ending, array in ((_VALUES, features), (_KEYS, keys)):
                unfinished = self.folder / f"{name}{ending}.part"
                with open(unfinished, "wb") as file:
                    np.save(file, array, allow_pickle=False)
                os.replace(unfinished, self.folder / f"{name}{ending}")
        except OSError as error:
            # For example a full disk. Computed features are not lost.
            warn(f"Features cannot be stored in {self.folder}: {error.strerror or error}.")
            return
        self._shrink()

    def _shrink(self) -> None:
        """Delete the least recently used files until the folder is small enough."""
        files = []
        for unfinished in (*self.root.glob(f"{_FOLDER}*/*.part"), *self.root.glob(f"{_FOLDER}*/*{_VALUES}")):
            # Files left by a killed process, not files that another process is writing.
            with contextlib.suppress(OSError):
                if time.time() - unfinished.stat().st_mtime > _ABANDONED and not _index_of(unfinished).exists():
                    unfinished.unlink()
        for index in self.root.glob(f"{_FOLDER}*/*{_KEYS}"):
            with contextlib.suppress(OSError):
                size = sum(file.stat().st_size for file in (index, _values_of(index)))
                files.append((index.stat().st_mtime_ns, size, index))
        total = sum(size for _, size, _ in files)
        for _, size, index in sorted(files):
            if total <= self.max_bytes:
                break
            self._delete(index)
            total -= size

    @staticmethod
    def _delete(index: Path) -> None:
        for file in (index, _values_of(index)):
            with contextlib.suppress(OSError):
                file.unlink()


def _values_of(index: Path) -> Path:
    return index.with_name(index.name.removesuffix(_KEYS) + _VALUES)


def _index_of(file: Path) -> Path:
    return file.with_name(file.name.partition(".")[0] + _KEYS)


def image_keys(identities: Iterable[str]) -> NDArray[np.bytes_]:
    """Keys of equal length for images, from their identities."""
    return np.array([hashlib.sha256(text.encode()).hexdigest()[:32].encode() for text in identities], dtype="S32")
