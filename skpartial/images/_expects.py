"""What a network expects of images: how many channels, with which mean and deviation."""

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
# Pixels in [0, 1], without a change.
AS_THEY_ARE: Statistics = ((0.0,), (1.0,))
_NORMALIZE = (transforms.Normalize, transforms_v2.Normalize)
# What of pixels in [0, 1] a mean and a deviation can be.
_RANGES = {"mean": "[0, 1]", "std": "(0, 1]"}


def check_statistics(owner: Any) -> None:
    """Refuse `mean` and `std` of the owner that are none of pixels in [0, 1]."""
    for name, interval in _RANGES.items():
        value = getattr(owner, name)
        if value is not None and not _in_range(value, lowest_too=interval[0] == "["):
            what = (
                f"a number in {interval}, or one for each channel (of pixels in [0, 1]: divide those of bytes by 255)"
            )
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
    """Mean and deviation that a user gives or that are known, one for each channel.

    Parameters
    ----------
    owner : object
        With `mean` and `std`, checked.
    channels : int or None
        How many the network takes; None if nothing says so but the length of these.
    known : pair of tuples or None
        What the weights were trained with, where they say so.

    Returns
    -------
    mean, std : tuple of float
        As many as there are channels.

    Raises
    ------
    ValueError
        If as many were given as the network has no channels.
    """
    given = {name: getattr(owner, name) for name in _RANGES}
    lengths = [len(value) for value in given.values() if np.ndim(value) == 1]
    channels = channels or next(iter(lengths), 3)
    default = (IMAGENET if channels == 3 else AS_THEY_ARE) if known is None else known
    if len(default[0]) not in (1, channels):  # the network was made for others than its weights
        default = AS_THEY_ARE
    chosen = []
    for (name, value), usual in zip(given.items(), default):
        if np.ndim(value) == 1 and len(value) != channels:
            what = f"a number, or one for each of the {channels} channels that the network takes"
            raise wrong_value(owner, name, what, value)
        chosen.append(tuple(np.broadcast_to(np.asarray(usual if value is None else value, float), channels).tolist()))
    return chosen[0], chosen[1]


def says(module: nn.Module) -> tuple[Statistics | None, int | None]:
    """Mean and deviation, and size of images, that a module itself says it was trained with: timm's do.

    One that has a Normalize of torchvision's within takes pixels as they are.
    """
    parts = list(module.modules())
    configs: list[Any] = [part.pretrained_cfg for part in parts if hasattr(part, "pretrained_cfg")]
    found, size = None, None
    for config in configs[:1]:
        if isinstance(config, Mapping) and {"mean", "std", "input_size"} <= config.keys():
            found, size = (tuple(config["mean"]), tuple(config["std"])), int(config["input_size"][-1])
    return (AS_THEY_ARE if any(isinstance(part, _NORMALIZE) for part in parts) else found), size


class _FoundError(Exception):
    """Ends a forward pass at the first layer that says how many channels it takes."""

    def __init__(self, channels: int | None) -> None:
        super().__init__()
        self.channels = channels


def _width(layer: nn.Module) -> int | None:
    """How many channels or features a layer takes; None if it takes any, does not know yet, or is no single layer."""
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
            raise _FoundError(None)  # of rows of pixels, which any number of channels has
        given = images.shape[-1 if linear else 1]
        # Layers before may have folded pixels into channels, or repeated them.
        channels, rest = divmod(probed * width, given)
        raise _FoundError(channels if not rest and channels else None)

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def count_channels(module: nn.Module, image_size: tuple[int, int]) -> int | None:
    """Channels of the images that a module takes, by the first of its layers that an image comes to.

    Parameters
    ----------
    module : torch.nn.Module
        It runs up to that layer, in evaluation mode, and is left as it was.
    image_size : (height, width)
        Of images.

    Returns
    -------
    int or None
        None if no layer says so.
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
        # It refused three channels before any layer saw them: the layer that was made first is mostly the first.
        return None if isinstance(layers[0], nn.Linear) else _width(layers[0])
    finally:
        for m, training in modes:
            m.training = training
    return None
