"""Decoding of image files to pixels, with errors that name the file."""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from skpartial._files import what_is_no_file
from skpartial.exceptions import ImageReadError
from skpartial.features._base import as_tensor

__all__ = ["as_pixels", "converted", "if_transparent", "read_image", "same_type", "takes", "to_tensor"]

# Modes with 8 bits per channel.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_GREY = ("1", "L", "LA")
# Modes with one channel of 16 bits. Pillow opens some of these files in 32 bits, but they only use 16.
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_DEEP_FORMATS = ("PNG", "PPM")
_LARGEST = 65535
# Advice for numbers of other types or ranges.
_SCALE = "divided by the largest value that a pixel can have"


def takes(channels: int, given: int) -> bool:
    """Whether a network with `channels` takes images with `given` channels: one channel is repeated for three."""
    return given == channels or (given == 1 and channels == 3)


def read_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None, channels: int = 3) -> Tensor:
    """Decode an image file.

    Parameters
    ----------
    path : str or path-like
        File in any format that Pillow reads. Nothing in it is executed.
    size : (height, width) or None, default=None
        Size to which it is resized, ignoring its aspect ratio; None does not resize.
    channels : int, default=3
        Number of channels, as in `converted`.

    Returns
    -------
    Tensor of uint8 or float32, shape (channels, height, width)
        Pixels, rotated upright by EXIF data; files with 16 or 32 bits give floating-point pixels in [0, 1].

    Raises
    ------
    ImageReadError
        If the file is missing, truncated or not an image, if its header declares more pixels than
        `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb), or if it has the wrong channels or values of unknown range.
        The message names the file.
    """
    name = os.fspath(path)
    try:
        other = what_is_no_file(name)
        if other is not None:
            raise ImageReadError(f"Image {name!r} cannot be decoded: it is {other}, not a file.")
        with Image.open(name) as image:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and image.width * image.height > limit:
                raise ImageReadError(
                    f"Image {name!r} has {image.width} x {image.height} pixels, more than PIL.Image.MAX_IMAGE_PIXELS "
                    f"({limit}): raise this limit if the file is meant to be so large."
                )
            if size is not None and image.format == "JPEG":
                # JPEG decoding at reduced size is faster; twice the target size preserves enough detail.
                image.draft("RGB" if channels == 3 else image.mode, (2 * max(size), 2 * max(size)))
            pixels = _upright(image, converted(image, f"Image {name!r}", channels))
            if size is not None and pixels.size != (size[1], size[0]):
                pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return to_tensor(pixels, channels)
    except ImageReadError:
        raise
    except FileNotFoundError:
        raise ImageReadError(f"Image {name!r} does not exist.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageReadError(f"Image {name!r} looks like a decompression bomb: {error}") from None
    except UnidentifiedImageError:
        raise ImageReadError(f"Image {name!r} is not in a format that Pillow can read.") from None
    except Exception as error:
        # The errors of Pillow and its libraries depend on the format and on the damage.
        raise ImageReadError(f"Image {name!r} cannot be decoded: {error}.") from None


# Transpositions that rotate a photograph upright, by its EXIF orientation; 1 is upright.
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
    """Pixels of an opened image file, rotated by the orientation of the camera."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (SyntaxError, ValueError, struct.error, UserWarning):
        # Unreadable EXIF data, about which Pillow warns, must not prevent use of the image.
        turn = None
    return pixels if turn is None else pixels.transpose(turn)


def converted(image: Image.Image, what: str, channels: int = 3) -> Image.Image:
    """Convert a Pillow image to the mode for a number of channels.

    Parameters
    ----------
    image : PIL.Image.Image
        Image; not changed.
    what : str
        Name in error messages.
    channels : int, default=3
        3 for RGB, dropping transparency; 1 for grey; 4 for RGBA images.

    Returns
    -------
    PIL.Image.Image
        Image in mode "RGB", "L" or "RGBA"; in mode "F", in [0, 1], if it has one channel of more than 8 bits.

    Raises
    ------
    ImageReadError
        If it has other channels, or values of unknown range.
    """
    if image.mode not in _MODES:
        deep = _deep(image, what)
        if not takes(channels, 1):
            raise _other_channels(image, what, channels)
        return deep
    if channels == 4 and image.mode == "RGBA":
        return image.copy()
    if channels not in (1, 3):
        raise _other_channels(image, what, channels)
    if channels == 1 and image.mode in _GREY:
        return image.convert("L")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns about transparent colours that are lost in a single conversion
    colours = image.convert("RGB")
    return colours if channels == 3 else colours.convert("L")


def _deep(image: Image.Image, what: str) -> Image.Image:
    """An image with one channel of 16 or 32 bits as floating-point values in [0, 1]."""
    if image.mode in _DEEP or (image.mode == "I" and image.format in _DEEP_FORMATS):
        values = np.asarray(image).astype(np.float32) / _LARGEST
    elif image.mode == "F":
        values = np.array(image, dtype=np.float32)
        _check_range(torch.from_numpy(values), what)
    else:
        raise ImageReadError(
            f"{what} has mode {image.mode!r}, whose range is unknown: pass an array of its values, {_SCALE}."
        )
    return Image.fromarray(values)


def _other_channels(image: Image.Image, what: str, channels: int) -> ImageReadError:
    return ImageReadError(
        f"{what} has mode {image.mode!r}, but the network takes images with {channels} channels: pass such arrays."
    )


def to_tensor(image: Image.Image, channels: int) -> Tensor:
    """Pixels (channels, height, width) of an image from `converted`."""
    tensor = torch.from_numpy(np.array(image))
    tensor = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    return tensor.expand(channels, -1, -1)


def _check_range(values: Tensor, what: str) -> None:
    low, high = (float(bound) for bound in values.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ImageReadError(
            f"{what} holds values from {low:.4g} to {high:.4g}: floating-point images must be in [0, 1], {_SCALE}."
        )


def as_pixels(array: NDArray[Any] | Tensor, what: str, channels: int = 3) -> Tensor:
    """One or several images from an array in memory.

    Parameters
    ----------
    array : ndarray or Tensor, shape (..., C, H, W)
        uint8 in [0, 255], uint16 in [0, 65535], or floating point in [0, 1].
    what : str
        Name in error messages.
    channels : int, default=3
        Number of channels: the same as in the array, or three for one.

    Returns
    -------
    Tensor of uint8 or float32, shape (..., channels, H, W)
        Floating-point values are in [0, 1].
    """
    tensor = array if isinstance(array, Tensor) else as_tensor(np.ascontiguousarray(array))
    given = tensor.shape[-3]
    if not takes(channels, given):
        raise ImageReadError(
            f"{what} has {given} channels, but the network takes {channels}{if_transparent(channels, given)}."
        )
    if tensor.dtype == torch.bool:
        tensor = tensor.float()
    elif tensor.dtype == torch.uint16:
        tensor = tensor.float() / _LARGEST
    elif tensor.dtype != torch.uint8:
        if not tensor.is_floating_point():
            raise ImageReadError(
                f"{what} holds {tensor.dtype}: pass uint8, or floating point in [0, 1], {_SCALE}; uint16 is read as "
                f"[0, {_LARGEST}]."
            )
        _check_range(tensor, what)
        tensor = tensor.float()
    return tensor.expand(*tensor.shape[:-3], channels, *tensor.shape[-2:])


def if_transparent(channels: int, given: int) -> str:
    """Advice on a fourth channel, which may be transparency."""
    if (channels, given) != (3, 4):
        return ""
    return ": if the fourth is transparency, drop it by X[:, :3] or X[..., :3]"


def same_type(images: list[Tensor]) -> list[Tensor]:
    """Images or batches of one type, for concatenation: if some are floating point, uint8 ones are converted."""
    if len({part.dtype for part in images}) == 1:
        return images
    return [part.float() / 255 if part.dtype == torch.uint8 else part for part in images]
