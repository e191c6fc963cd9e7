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

from skpartial._files import what_is_no_file
from skpartial.exceptions import ImageReadError
from skpartial.features._base import as_tensor

__all__ = ["as_pixels", "converted", "if_transparent", "read_image", "same_type", "takes", "to_tensor"]

# Modes of 8 bits a channel.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_GREY = ("1", "L", "LA")
# Modes of one channel with 16 bits. Pillow has files of these formats in 32 bits, of which they use 16.
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N")
_DEEP_FORMATS = ("PNG", "PPM")
_LARGEST = 65535
# What numbers outside the types and ranges that are known can be made into, without a loss.
_SCALE = "divided by the largest value that a pixel can have"


def takes(channels: int, given: int) -> bool:
    """Whether images of so many channels can go to a network that takes `channels`: one is repeated for three."""
    return given == channels or (given == 1 and channels == 3)


def read_image(path: str | os.PathLike[str], size: tuple[int, int] | None = None, channels: int = 3) -> Tensor:
    """Decode an image file.

    Parameters
    ----------
    path : str or path-like
        A file in any format that Pillow reads. Nothing in it is executed.
    size : (height, width) or None, default=None
        What it is resized to, without regard to its aspect ratio; None leaves it as it is.
    channels : int, default=3
        How many are wanted, as `converted` has it.

    Returns
    -------
    Tensor of uint8 or float32, shape (channels, height, width)
        Pixels, turned upright as the camera noted (EXIF); floating ones in [0, 1] of files with 16 or 32 bits.

    Raises
    ------
    ImageReadError
        Naming the file: if it is missing, truncated or no image, if its header promises more pixels than
        `PIL.Image.MAX_IMAGE_PIXELS` (a decompression bomb), or if it has not the channels that are wanted, or numbers
        whose range is not known.
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
                    f"({limit}): raise that limit if the file is meant to be so large."
                )
            if size is not None and image.format == "JPEG":
                # A JPEG decodes at a fraction of its size in a fraction of the time; twice the target leaves enough.
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


def converted(image: Image.Image, what: str, channels: int = 3) -> Image.Image:
    """A Pillow image in the mode that so many channels are read from.

    Parameters
    ----------
    image : PIL.Image.Image
        It is left as it is.
    what : str
        What error messages call it.
    channels : int, default=3
        Of 3, colours are RGB, and transparency is dropped. Of 1, they are grey. Of 4, they are those of an RGBA image.

    Returns
    -------
    PIL.Image.Image
        In mode "RGB", "L" or "RGBA"; in mode "F", in [0, 1], if it has one channel of more than 8 bits.

    Raises
    ------
    ImageReadError
        If it has other channels, or numbers whose range is not known.
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
        image = image.convert("RGBA")  # Pillow warns about transparent colours that are lost in one step
    colours = image.convert("RGB")
    return colours if channels == 3 else colours.convert("L")


def _deep(image: Image.Image, what: str) -> Image.Image:
    """An image of one channel with 16 or 32 bits as floating numbers in [0, 1]."""
    if image.mode in _DEEP or (image.mode == "I" and image.format in _DEEP_FORMATS):
        values = np.asarray(image).astype(np.float32) / _LARGEST
    elif image.mode == "F":
        values = np.array(image, dtype=np.float32)
        _check_range(torch.from_numpy(values), what)
    else:
        raise ImageReadError(
            f"{what} has mode {image.mode!r}, whose range is not known: pass an array of its numbers, {_SCALE}."
        )
    return Image.fromarray(values)


def _other_channels(image: Image.Image, what: str, channels: int) -> ImageReadError:
    return ImageReadError(
        f"{what} has mode {image.mode!r}, but the network takes images of {channels} channels: pass such arrays."
    )


def to_tensor(image: Image.Image, channels: int) -> Tensor:
    """Pixels (channels, height, width) of what `converted` gives."""
    tensor = torch.from_numpy(np.array(image))
    tensor = tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    return tensor.expand(channels, -1, -1)


def _check_range(values: Tensor, what: str) -> None:
    low, high = (float(bound) for bound in values.aminmax())
    if not (low >= -1e-3 and high <= 1 + 1e-3):
        raise ImageReadError(
            f"{what} holds numbers from {low:.4g} to {high:.4g}: floating images lie in [0, 1], {_SCALE}."
        )


def as_pixels(array: NDArray[Any] | Tensor, what: str, channels: int = 3) -> Tensor:
    """One image or a block of them, from numbers in memory.

    Parameters
    ----------
    array : ndarray or Tensor, shape (..., C, H, W)
        uint8 in [0, 255], uint16 in [0, 65535], or floating in [0, 1].
    what : str
        What error messages call it.
    channels : int, default=3
        How many are wanted: as many as there are, or three of one.

    Returns
    -------
    Tensor of uint8 or float32, shape (..., channels, H, W)
        Floating numbers lie in [0, 1].
    """
    tensor = array if isinstance(array, Tensor) else as_tensor(np.ascontiguousarray(array))
    given = tensor.shape[-3]
    if not takes(channels, given):
        raise ImageReadError(
            f"{what} has {given} channels, but the network takes images of {channels}{if_transparent(channels, given)}."
        )
    if tensor.dtype == torch.bool:
        tensor = tensor.float()
    elif tensor.dtype == torch.uint16:
        tensor = tensor.float() / _LARGEST
    elif tensor.dtype != torch.uint8:
        if not tensor.is_floating_point():
            raise ImageReadError(
                f"{what} holds {tensor.dtype}: pass uint8, or floating numbers in [0, 1], {_SCALE}; uint16 is read as "
                f"[0, {_LARGEST}]."
            )
        _check_range(tensor, what)
        tensor = tensor.float()
    return tensor.expand(*tensor.shape[:-3], channels, *tensor.shape[-2:])


def if_transparent(channels: int, given: int) -> str:
    """What to do about a fourth channel, which numbers do not say to be transparency."""
    if (channels, given) != (3, 4):
        return ""
    return ": if the fourth is transparency, leave it out, X[:, :3] or X[..., :3]"


def same_type(images: list[Tensor]) -> list[Tensor]:
    """Images or batches of one type, to be put together: where some are floating, uint8 ones become so."""
    if len({part.dtype for part in images}) == 1:
        return images
    return [part.float() / 255 if part.dtype == torch.uint8 else part for part in images]
