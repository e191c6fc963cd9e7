"""Where images come from: arrays, tensors, memory maps, paths, or whatever can be indexed by row."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import override

from skpartial._tensors import check_tensor
from skpartial.exceptions import ImageReadError
from skpartial.images._decode import as_pixels, read_image, rgb, same_type

__all__ = ["ImageSource", "as_source", "holds_images"]

_CHANNELS = (1, 3, 4)


class ImageSource(ABC):
    """Images by row, each brought to one size; an index of rows gives some of them, none of which is copied.

    Parameters
    ----------
    n_rows : int
        How many there are.
    size : (height, width)
        What they are resized to, without regard to their aspect ratio.
    """

    def __init__(self, n_rows: int, size: tuple[int, int]) -> None:
        self.n_rows, self.size = n_rows, size
        self.shape = (n_rows,)

    def __len__(self) -> int:
        return self.n_rows

    def __getitem__(self, rows: NDArray[np.int64]) -> ImageSource:
        return _Rows(self, rows)

    #: Whether reading is a slice of memory and no more.
    is_cheap: bool = False

    @abstractmethod
    def read(self, row: int) -> Tensor:
        """One image, uint8 in [0, 255] or float32 in [0, 1], shape (3, height, width)."""

    def read_rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Several images, shape (b, 3, height, width)."""
        return torch.stack(same_type([self.read(int(row)) for row in rows]))

    def _resize(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) == self.size:
            return images
        return F.resize(images, list(self.size), antialias=True)


class _Rows(ImageSource):
    def __init__(self, source: ImageSource, rows: NDArray[np.int64]) -> None:
        super().__init__(len(rows), source.size)
        self.source, self.rows = source, rows
        self.is_cheap = source.is_cheap

    @override
    def read(self, row: int) -> Tensor:
        return self.source.read(int(self.rows[row]))

    @override
    def read_rows(self, rows: NDArray[np.int64]) -> Tensor:
        return self.source.read_rows(self.rows[rows])


class ArraySource(ImageSource):
    """Pixels in one array, memory map or tensor of shape (n, H, W, C), (n, C, H, W) or (n, H, W)."""

    def __init__(self, X: Any, size: tuple[int, int], *, channels_last: bool) -> None:
        super().__init__(X.shape[0], size)
        self.X, self.channels_last = X, channels_last
        sides = X.shape[1:3] if channels_last or len(X.shape) == 3 else X.shape[2:4]
        self.is_cheap = tuple(sides) == size and isinstance(X, np.ndarray | Tensor)

    @override
    def read(self, row: int) -> Tensor:
        return self._prepare(self.X[row : row + 1], f"X[{row}]")[0]

    @override
    def read_rows(self, rows: NDArray[np.int64]) -> Tensor:
        if not isinstance(self.X, np.ndarray | Tensor):
            return super().read_rows(rows)
        return self._prepare(self.X[torch.from_numpy(rows)] if isinstance(self.X, Tensor) else self.X[rows], "X")

    def _prepare(self, images: Any, what: str) -> Tensor:
        images = _tensor(images, what)
        if images.ndim == 3:
            images = images[:, None]
        elif self.channels_last:
            images = images.permute(0, 3, 1, 2)
        return self._resize(as_pixels(images, what).contiguous())


class ItemSource(ImageSource):
    """A sequence whose items are paths, arrays or Pillow images."""

    def __init__(self, items: Any, size: tuple[int, int]) -> None:
        super().__init__(len(items), size)
        self.items = items

    @override
    def read(self, row: int) -> Tensor:
        item = self.items[row]
        if isinstance(item, str | os.PathLike):
            return self._resize(read_image(item, self.size))
        if isinstance(item, bytes):
            raise ImageReadError(f"X[{row}] is a bytes object: pass the path of a file, or an array.")
        image = _tensor(rgb(item, f"X[{row}]") if isinstance(item, Image.Image) else item, f"X[{row}]")
        if image.ndim == 2:
            image = image[None]
        elif image.ndim == 3 and image.shape[2] in _CHANNELS:
            image = image.permute(2, 0, 1)
        if image.ndim != 3 or image.shape[0] not in _CHANNELS or not image.numel():
            raise ImageReadError(
                f"X[{row}] is no image: it has shape {tuple(image.shape)}, not (H, W), (H, W, C) or (C, H, W) with 1, "
                "3 or 4 channels."
            )
        return self._resize(as_pixels(image, f"X[{row}]").contiguous())


def _tensor(numbers: Any, what: str) -> Tensor:
    if isinstance(numbers, Tensor):
        return check_tensor(numbers, what)
    try:
        array = np.array(numbers)  # a copy of a few images: memory maps may be read-only
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except (TypeError, ValueError) as error:
        raise ImageReadError(f"{what} is no image, nor the path of one: {error}") from None


def _elongation(height: int, width: int) -> float:
    return max(height, width) / min(height, width)


def _unframed(X: Any) -> Any:
    """An array of a Series, or of a DataFrame of one column; anything else as it is."""
    if not hasattr(X, "iloc"):
        return X
    X = np.asarray(X)
    return X[:, 0] if X.ndim == 2 and X.shape[1] == 1 and X.dtype.kind not in "biufc" else X


def holds_images(X: Any) -> bool:
    """Whether X looks like images and not like rows of features."""
    X = _unframed(X)
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) != 1:
        return len(shape) >= 3
    first: Any = next(iter(X), None) if isinstance(X, list | tuple) or shape is not None else None
    return isinstance(first, str | os.PathLike) or np.ndim(first) >= 2


def as_source(X: Any, size: tuple[int, int]) -> ImageSource:
    """Take images as a user passes them.

    Parameters
    ----------
    X : array, memory map, tensor, or sequence of paths, arrays or Pillow images
        Numbers of shape (n, H, W, C), (n, C, H, W) or (n, H, W), with 1, 3 or 4 channels: uint8, or floating in
        [0, 1]. A lazy array needs `shape` and `__getitem__` only.
    size : (height, width)
        What they are resized to.

    Returns
    -------
    ImageSource
        Which copies no pixels.

    Raises
    ------
    ValueError
        If X is none of these.
    """
    X = check_tensor(X, "X") if isinstance(X, Tensor) else _unframed(X)
    if isinstance(X, str | bytes | os.PathLike):
        raise ValueError(f"X is a single path, {os.fspath(X)!r}: pass a list of paths.")
    shape = tuple(getattr(X, "shape", ()))
    if len(shape) in (3, 4) and getattr(X, "dtype", None) != np.dtype(object):
        if 0 in shape:
            raise ValueError(f"X has shape {shape}: at least one image of at least one pixel is needed.")
        if len(shape) == 3:
            return ArraySource(X, size, channels_last=False)
        last, first = shape[3] in _CHANNELS, shape[1] in _CHANNELS
        if not (last or first):
            raise ValueError(f"X has shape {shape}: images are (n, H, W, C) or (n, C, H, W) with 1, 3 or 4 channels.")
        if last and first:
            # Both readings are possible where a side is that short: of the two images the squarer one.
            last = _elongation(shape[1], shape[2]) <= _elongation(shape[2], shape[3])
        return ArraySource(X, size, channels_last=last)
    if len(shape) > 1:
        raise ValueError(
            f"X has shape {shape}, but a backbone takes images: an array of shape (n, H, W, C) or (n, C, H, W), or a "
            "list of paths. For rows of features leave backbone=None."
        )
    if not hasattr(X, "__len__") or not hasattr(X, "__getitem__"):
        raise ValueError(f"X is a {type(X).__name__}: pass an array of images, or a list of paths.")
    if not len(X):
        raise ValueError("X holds no image.")
    return ItemSource(X, size)
