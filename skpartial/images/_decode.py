"""From an image file to pixels, or to an error that names the file."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from skpartial.exceptions import ImageReadError
from skpartial.features._base import as_tensor

__all__ = ["as_pixels", "read_image", "rgb", "same_type"]

# Modes that an RGB image holds without loss; others have more than 8 bits a channel.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")


def read_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Tensor:
    """Decode an image file.

    Parameters
    ----------
    path : str or path-like
        A file in any format that Pillow reads. Nothing in it is executed.
    size : (height, width) or None, default=None
        What it is resized to, without regard to its aspect ratio; None leaves it as it is.

    Returns
    -------
    Tensor of uint8, shape (3, height, width)
        Pixels in RGB, turned upright as the camera noted (EXIF). Transparency is dropped.

    Raises
    ------
    ImageReadError
        Naming the file: if it is missing, truncated or no image, if its header promises more pixels than
        `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb), or if Pillow reads it with more than 8 bits a channel.
    """
    name = os.fspath(path)
    try:
        with Image.open(name) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise ImageReadError(
                    f"Image {name!r} has {image.width} x {image.height} pixels, more than PIL.Image.MAX_IMAGE_PIXELS "
                    f"({limit}): raise that limit if the file is meant to be so large."
                )
            if size is not None and image.format == "JPEG":
                # A JPEG decodes at a fraction of its size in a fraction of the time; twice the target leaves enough.
                image.draft("RGB", (2 * max(size), 2 * max(size)))
            pixels = _upright(image, rgb(image, f"Image {name!r}"))
            if size is not None and pixels.size != (size[1], size[0]):
                pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return torch.from_numpy(np.array(pixels, dtype=np.uint8)).permute(2, 0, 1)
    except ImageReadError:
        raise
    except FileNotFoundError:
        raise ImageReadError(f"Image {name!r} does not exist.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageReadError(f"Image {name!r} looks like a decompression bomb: {error}") from None
    except UnidentifiedImageError:
        raise ImageReadError(f"Image {name!r} is in no format that Pillow can read.") from None
    except Exception as error:
        # What Pillow and the libraries behind it raise depends on the format and on where the file is damaged.
        raise ImageReadError(f"Image {name!r} cannot be decoded: {error}.") from None


# What brings a photograph upright, by the orientation that its EXIF data note; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    """Pixels of an opened image file, turned as the camera was held."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, struct.error, UserWarning):
        # Notes that cannot be read, of which Pillow warns, are no reason to do without the picture.
        turn = None
    return pixels if turn is None else pixels.transpose(turn)


def rgb(image: Image.Image, what: str) -> Image.Image:
    """A Pillow image in RGB, without transparency.

    Parameters
    ----------
    image : PIL.Image.Image
        In any mode of 8 bits a channel; it is left as it is.
    what : str
        What error messages call it.

    Returns
    -------
    PIL.Image.Image
        In mode RGB.
    """
    if image.mode not in _MODES:
        raise ImageReadError(f"{what} has mode {image.mode!r}, which 8 bits a channel cannot hold: convert it to RGB.")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about transparent colours that are lost in one step
    return image.convert("RGB")


def as_pixels(array: NDArray[Any] | Tensor, what: str) -> Tensor:
    """One image or a block of them, from numbers in memory.

    Parameters
    ----------
    array : ndarray or Tensor, shape (..., C, H, W)
        uint8 in [0, 255], or floating in [0, 1].
    what : str
        What error messages call it.

    Returns
    -------
    Tensor of uint8 or float32, shape (..., 3, H, W)
        Of one channel three are made; a fourth one, transparency, is dropped.
    """
    tensor = array if isinstance(array, Tensor) else as_tensor(np.ascontiguousarray(array))
    if tensor.dtype == torch.bool:
        tensor = tensor.float()
    if tensor.dtype != torch.uint8:
        if not tensor.is_floating_point():
            raise ImageReadError(f"{what} holds {tensor.dtype}: pass uint8, or floating numbers in [0, 1].")
        low, high = (float(bound) for bound in tensor.aminmax())
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            raise ImageReadError(f"{what} holds numbers from {low:.4g} to {high:.4g}: floating images lie in [0, 1].")
        tensor = tensor.float()
    channels = tensor.shape[-3]
    if channels == 1:
        return tensor.expand(*tensor.shape[:-3], 3, *tensor.shape[-2:])
    return tensor[..., :3, :, :]


def same_type(images: list[Tensor]) -> list[Tensor]:
    """Images or batches of one type, to be put together: where some are floating, uint8 ones become so."""
    if len({part.dtype for part in images}) == 1:
        return images
    return [part.float() / 255 if part.dtype == torch.uint8 else part for part in images]
