"""Sources of images: arrays, tensors, memory maps, paths, or anything that can be indexed by row."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from skpartial._checks import check_unmasked
from skpartial._fingerprint import identity, numbers_key
from skpartial._tensors import check_tensor
from skpartial.exceptions import ImageReadError
from skpartial.images._decode import as_pixels, converted, if_transparent, read_image, same_type, takes, to_tensor

__all__ = ["ImageSource", "as_source", "holds_images"]


class ImageSource(ABC):
    """Images by row, resized to one size; indexing by rows gives a subset without copying.

    Parameters
    ----------
    n_rows : int
        Number of images.
    size : (height, width)
        Size to which they are resized, ignoring their aspect ratio.
    channels : int, default=3
        Number of channels of the network.
    """

    def __init__(self, n_rows: int, size: tuple[int, int], channels: int = 3) -> None:
        self.n_rows, self.size, self.channels = n_rows, size, channels
        self.shape = (n_rows,)

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: NDArray[np.int64]) -> ImageSource:
        return _Rows(self, rows)

    #: Whether reading is only a slice of memory.
    is_cheap: bool = False

    @abstractmethod
    def read(self, row: int) -> Tensor:
        """One image, uint8 in [0, 255] or float32 in [0, 1], shape (channels, height, width)."""

    @abstractmethod
    def identity(self, rows: NDArray[np.int64] | None = None) -> str:
        """A key of the contents of some rows, or of all; files are identified by path, size and time."""

    def read_rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Several images, shape (b, channels, height, width)."""
        return torch.stack(same_type([self.read(int(row)) for row in rows]))

    def _resize(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) == self.size:
            return images
        return F.resize(images, list(self.size), antialias=True)


class _Rows(ImageSource):
    def __init__(self, source: ImageSource, rows: NDArray[np.int64]) -> None:
        super().__init__(len(rows), source.size, source.channels)
        self.source, self.rows = source, rows
        self.is_cheap = source.is_cheap

    @override
    def read(self, row: int) -> Tensor:
        return self.source.read(int(self.rows[row]))

    @override
    def identity(self, rows: NDArray[np.int64] | None = None) -> str:
        return self.source.identity(self.rows if rows is None else self.rows[rows])

    @override
    def read_rows(self, rows: NDArray[np.int64]) -> Tensor:
        return self.source.read_rows(self.rows[rows])


class ArraySource(ImageSource):
    """Pixels in one array, memory map or tensor of shape (n, H, W, C), (n, C, H, W) or (n, H, W)."""

    def __init__(self, X: Any, size: tuple[int, int], channels: int, *, channels_last: bool) -> None:
        super().__init__(X.shape[0], size, channels)
        self.X, self.channels_last = X, channels_last
        sides = X.shape[1:3] if channels_last or len(X.shape) == 3 else X.shape[2:4]
        self.is_cheap = tuple(sides) == size and isinstance(X, np.ndarray | Tensor)

    @override
    def read(self, row: int) -> Tensor:
        return self._prepare(self.X[row : row + 1], f"X[{row}]")[0]

    @override
    def identity(self, rows: NDArray[np.int64] | None = None) -> str:
        return numbers_key(self.X, rows)

    @override
    def read_rows(self, rows: NDArray[np.int64]) -> Tensor:
        if not isinstance(self.X, np.ndarray | Tensor):
            return super().read_rows(rows)
        if not isinstance(self.X, Tensor):
            return self._prepare(self.X[rows], "X")
        # The oldest supported PyTorch cannot index uint16.
        plain = self.X.view(torch.int16) if self.X.dtype == torch.uint16 else self.X
        return self._prepare(plain[torch.from_numpy(rows)].view(self.X.dtype), "X")

    def _prepare(self, images: Any, what: str) -> Tensor:
        images = _tensor(images, what)
        if images.ndim == 3:
            images = images[:, None]
        elif self.channels_last:
            images = images.permute(0, 3, 1, 2)
        return self._resize(as_pixels(images, what, self.channels).contiguous())


class ItemSource(ImageSource):
    """A sequence whose items are paths, arrays or Pillow images."""

    def __init__(self, items: Any, size: tuple[int, int], channels: int) -> None:
        super().__init__(len(items), size, channels)
        self.items = items

    @override
    def identity(self, rows: NDArray[np.int64] | None = None) -> str:
        return identity([self.items[row] for row in (range(self.n_rows) if rows is None else rows.tolist())])

    @override
    def read(self, row: int) -> Tensor:
        item = self.items[row]
        what = f"X[{row}]"
        if isinstance(item, str | os.PathLike):
            return self._resize(read_image(item, self.size, self.channels))
        if isinstance(item, Image.Image):
            return self._resize(to_tensor(converted(item, what, self.channels), self.channels).contiguous())
        if isinstance(item, bytes):
            raise ImageReadError(f"{what} is a bytes object: pass the path of a file, or an array.")
        if isinstance(item, Mapping) or _is_record(item):
            raise ImageReadError(
                f"{what} is a {type(item).__name__} of an image and other data, as returned by torch data sets: X "
                "takes only images, such as [item[0] for item in X], and y takes the labels."
            )
        image = _tensor(item, what)
        if image.ndim == 2:
            image = image[None]
        elif image.ndim == 3 and _channels_last(tuple(image.shape), self.channels):
            image = image.permute(2, 0, 1)
        if image.ndim != 3 or not takes(self.channels, image.shape[0]) or not image.numel():
            given = min(image.shape[0], image.shape[2]) if image.ndim == 3 else 1
            raise ImageReadError(
                f"{what} is not an image: it has shape {tuple(image.shape)}, not (H, W), (H, W, C) or (C, H, W) with "
                f"{_wanted(self.channels)}{if_transparent(self.channels, given)}."
            )
        return self._resize(as_pixels(image, what, self.channels).contiguous())


def _is_record(item: Any) -> bool:
    """Whether an item is an image or path together with other data, and not nested pixel values of an image."""
    if not isinstance(item, list | tuple) or not len(item):
        return False
    if isinstance(item[0], str | os.PathLike | Image.Image):
        return True
    shapes = [getattr(part, "shape", None) for part in item]
    return len(shapes[0] or ()) >= 2 and any(shape != shapes[0] for shape in shapes)


def _tensor(numbers: Any, what: str) -> Tensor:
    if isinstance(numbers, Tensor):
        return check_tensor(numbers, what)
    try:
        array = np.array(numbers)  # copies only a few images: memory maps may be read-only
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (TypeError, ValueError) as error:
        raise ImageReadError(f"{what} is neither an image nor the path of one: {error}") from None


def _elongation(height: int, width: int) -> float:
    return max(height, width) / min(height, width)


def _channels_last(shape: tuple[int, ...], channels: int) -> bool | None:
    """Whether an image with three axes has channels last; None if they are neither last nor first."""
    last, first = takes(channels, shape[2]), takes(channels, shape[0])
    if last and first:
        # Both are possible if a side is that short: choose the interpretation with the squarer image.
        return 0 in shape or _elongation(shape[0], shape[1]) <= _elongation(shape[1], shape[2])
    return last if last or first else None


def _wanted(channels: int) -> str:
    return f"{channels} channels, as the network takes{', or 1' if channels == 3 else ''}"


def _unframed(X: Any) -> Any:
    """The array of a Series or of a DataFrame with one column; anything else unchanged."""
    if not hasattr(X, "iloc"):
        return X
    X = np.asarray(X)
    return X[:, 0] if X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind not in "biufc" else X


# How names of image files end.
_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")


def holds_images(X: Any) -> bool:
    """Whether X looks like images, or paths that end like those of images, rather than rows of features."""
    X = _unframed(X)
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) != 1:
        return len(shape) >= 3
    first: Any = next(iter(X), None) if isinstance(X, list | tuple | Dataset) or shape is not None else None
    name = first[0] if isinstance(first, list | tuple) and len(first) else first
    if isinstance(name, str):
        return name.lower().endswith(_ENDINGS)
    if isinstance(first, os.PathLike) or _is_record(first):
        return True
    try:
        return np.ndim(first) >= 2
    except (TypeError, ValueError):  # a list of anything
        return False


def as_source(X: Any, size: tuple[int, int], channels: int = 3) -> ImageSource:
    """Make a source from images as users pass them.

    Parameters
    ----------
    X : array, memory map, tensor, or sequence of paths, arrays or Pillow images
        Pixels of shape (n, H, W, C), (n, C, H, W) or (n, H, W): uint8 in [0, 255], uint16 in [0, 65535], or floating
        point in [0, 1]. A lazy array only needs `shape` and `__getitem__`.
    size : (height, width)
        Size to which they are resized.
    channels : int, default=3
        Number of channels of the network. One channel is repeated for three; otherwise images must have this number.
        Files and Pillow images are converted to RGB for 3, or to grey for 1.

    Returns
    -------
    ImageSource
        The source; no pixels are copied.

    Raises
    ------
    ValueError
        If X is of another type or shape.
    """
    check_unmasked("X", X)
    X = check_tensor(X, "X") if isinstance(X, Tensor) else _unframed(X)
    if isinstance(X, str | bytes | os.PathLike):
        raise ValueError(f"X is a single path, {os.fspath(X)!r}: pass a list of paths.")
    shape = tuple(getattr(X, "shape", ()))
    if len(shape) in (3, 4) and getattr(X, "dtype", None) != np.dtype(object):
        if 0 in shape:
            raise ValueError(f"X has shape {shape}, but must have at least one image with at least one pixel.")
        if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
            raise ValueError(
                f"X has shape {shape}, which looks like a single image (H, W, C): pass X[None] for one image, or "
                "wider grey images as (n, H, W)."
            )
        grey = False if takes(channels, 1) else None
        last = _channels_last(shape[1:], channels) if len(shape) == 4 else grey
        if last is None:
            given = 1 if len(shape) == 3 else min(shape[1], shape[3])
            raise ValueError(
                f"X has shape {shape}: images must be (n, H, W, C) or (n, C, H, W) with {_wanted(channels)}"
                f"{if_transparent(channels, given)}."
            )
        return ArraySource(X, size, channels, channels_last=last)
    if len(shape) > 1:
        raise ValueError(
            f"X has shape {shape}, but a backbone takes images: an array of shape (n, H, W, C) or (n, C, H, W), or a "
            "list of paths. For rows of features use backbone=None."
        )
    if not hasattr(X, "__len__") or not hasattr(X, "__getitem__") or isinstance(X, Mapping):
        raise ValueError(f"X is a {type(X).__name__}: pass an array of images, or a list of paths.")
    if not len(X):
        raise ValueError("X holds no images.")
    return ItemSource(X, size, channels)
