"""Properties of the images that a network expects: number of channels, mean and standard deviation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torchvision.transforms as transforms
import torchvision.transforms.v2 as transforms_v2
from torch import Tensor, nn

from skpartial._checks import wrong_value

__all__ = ["Statistics", "check_statistics", "count_channels", "says", "statistics"]

#: Mean and standard deviation of the channels.
Statistics = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# Pixels in [0, 1], unchanged.
AS_THEY_ARE: Statistics = ((0.0,), (1.0,))
_NORMALIZE = (transforms.Normalize, transforms_v2.Normalize)
# Ranges of the mean and standard deviation of pixels in [0, 1].
_RANGES = {"mean": "[0, 1]", "std": "(0, 1]"}


def check_statistics(owner: Any) -> None:
    """Refuse a `mean` or `std` of the owner that is impossible for pixels in [0, 1]."""
    for name, interval in _RANGES.items():
        value = getattr(owner, name)
        if value is not None and not _in_range(value, lowest_too=interval[0] == "["):
            what = f"a number in {interval}, or one per channel (for pixels in [0, 1]: divide values for bytes by 255)"
            raise wrong_value(owner, name, what, value)


def _in_range(value: Any, *, lowest_too: bool) -> bool:
    try:
        numbers = np.asarray(value)
    except (TypeError, ValueError):
        return False
    if numbers.dtype.kind not in "iuf" or numbers.ndim > 1 or not numbers.size:
        return False
    least, largest = float(numbers.min()), float(numbers.max())
    return least >= 0 and largest <= 1 and (least > 0 or lowest_too)


def statistics(owner: Any, channels: int | None, known: Statistics | None) -> Statistics:
    """Mean and standard deviation per channel, from the user or from the weights.

    Parameters
    ----------
    owner : object
        Object with checked `mean` and `std`.
    channels : int or None
        Number of channels of the network; None if only the lengths of `mean` and `std` determine it.
    known : pair of tuples or None
        Values that the weights were trained with, if known.

    Returns
    -------
    mean, std : tuple of float
        One value per channel.

    Raises
    ------
    ValueError
        If their number differs from the number of channels.
    """
    given = {name: getattr(owner, name) for name in _RANGES}
    lengths = [len(value) for value in given.values() if np.ndim(value) == 1]
    channels = channels or next(iter(lengths), 3)
    default = (IMAGENET if channels == 3 else AS_THEY_ARE) if known is None else known
    if len(default[0]) not in (1, channels):  # the network has other channels than its weights
        default = AS_THEY_ARE
    chosen = []
    for (name, value), usual in zip(given.items(), default):
        if np.ndim(value) == 1 and len(value) != channels:
            what = f"a number, or one per channel of the network, which takes {channels}"
            raise wrong_value(owner, name, what, value)
        chosen.append(tuple(np.broadcast_to(np.asarray(usual if value is None else value, float), channels).tolist()))
    return chosen[0], chosen[1]


def says(module: nn.Module) -> tuple[Statistics | None, int | None]:
    """Mean, standard deviation and image size that a module documents, as timm's do.

    A module that contains torchvision's Normalize takes unchanged pixels.
    """
    parts = list(module.modules())
    configs: list[Any] = [part.pretrained_cfg for part in parts if hasattr(part, "pretrained_cfg")]
    found, size = None, None
    for config in configs[:1]:
        if isinstance(config, Mapping) and {"mean", "std", "input_size"} <= config.keys():
            found, size = (tuple(config["mean"]), tuple(config["std"])), int(config["input_size"][-1])
    return (AS_THEY_ARE if any(isinstance(part, _NORMALIZE) for part in parts) else found), size


class _FoundError(Exception):
    """Ends a forward pass at the first layer with a known number of channels."""

    def __init__(self, channels: int | None) -> None:
        super().__init__()
        self.channels = channels


def _width(layer: nn.Module) -> int | None:
    """Number of channels or features of a layer; None if it is free, not yet known, or not a single layer."""
    width: int | None = None
    if isinstance(layer, nn.modules.conv._ConvNd):
        width = layer.in_channels
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        width = layer.num_features
    elif isinstance(layer, nn.GroupNorm):
        width = layer.num_channels
    elif isinstance(layer, nn.Linear):
        width = layer.in_features
    return width or None


@contextmanager
def _watched(layers: list[nn.Module], probed: int) -> Iterator[None]:
    def look(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not inputs or not isinstance(inputs[0], Tensor):
            return
        images, width = inputs[0], _width(layer)
        if width is None or images.ndim < 2:
            return
        linear = isinstance(layer, nn.Linear)
        if linear and images.ndim == 4 and images.shape[1] == probed:
            raise _FoundError(None)  # rows of pixels, for any number of channels
        given = images.shape[-1 if linear else 1]
        # Earlier layers may have folded pixels into channels, or repeated channels.
        channels, rest = divmod(probed * width, given)
        raise _FoundError(channels if not rest and channels else None)

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def count_channels(module: nn.Module, image_size: tuple[int, int]) -> int | None:
    """Number of channels of a module's images, from the first layer that processes an image.

    Parameters
    ----------
    module : torch.nn.Module
        Module; it runs up to that layer, in evaluation mode, and is not changed.
    image_size : (height, width)
        Of images.

    Returns
    -------
    int or None
        None if no layer determines it.
    """
    layers = [layer for layer in module.modules() if _width(layer) is not None]
    if not layers:
        return None
    probed = 3
    parameter = next(module.parameters(), torch.zeros(()))
    image = torch.zeros(1, probed, *image_size, dtype=parameter.dtype, device=parameter.device)
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _watched(layers, probed):
            module(image)
    except _FoundError as found:
        return found.channels
    except Exception:
        # It refused three channels before any layer: the layer created first is usually the first one.
        return None if isinstance(layers[0], nn.Linear) else _width(layers[0])
    finally:
        for m, training in modes:
            m.training = training
    return None
