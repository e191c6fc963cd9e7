"""Feature maps of a fitted network: the maps that its head pools, or whose averages are its features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from skpartial.images._batches import ImageBatches
from skpartial.images._network import Network
from skpartial.images._sources import as_source

__all__ = ["feature_maps", "visit_maps"]

# Number of images whose maps are computed at a time.
_BATCH = 32
# Largest difference between averages of maps and features, relative to the largest feature: bfloat16 rounds.
_TOLERANCE = 0.01


class _Averages(TorchFunctionMode):
    """Records the last maps (b, C, h, w) that are averaged over all regions while it is active in this thread.

    Networks average by modules, functions or methods; a hook in the network would only see modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in ("mean", "adaptive_avg_pool2d") and args:
            maps = args[0]
            if maps.ndim == 4 and result.shape[:2] == maps.shape[:2] and result.numel() == result.shape[:2].numel():
                self.last = maps
        return result


def feature_maps(network: Network, images: Tensor) -> Tensor:
    """Maps of images: the maps that the head pools, or whose averages over regions are the features.

    Parameters
    ----------
    network : Network
        Network in evaluation mode; not changed.
    images : Tensor of shape (b, channels, H, W)
        Pixels.

    Returns
    -------
    Tensor of shape (b, C, h, w)
        Maps.

    Raises
    ------
    ValueError
        If the features are not averages of maps.
    """
    if network.takes_maps:
        return network.features(images)
    with _Averages() as averages:
        features = network.features(images)
    maps = averages.last
    # Layers may follow the average, so compare with the output.
    if maps is None or not _are_averages(features, maps.to(features.dtype)):
        raise ValueError(
            f"The features of {type(network.body).__name__} are not averages of feature maps, so a linear head cannot "
            "score regions: use a network that ends in a global average pooling, such as 'resnet50'."
        )
    return maps.to(features.dtype)


def _are_averages(features: Tensor, maps: Tensor) -> bool:
    averages = maps.mean((2, 3))
    if averages.shape != features.shape:
        return False
    return bool((averages - features).abs().max() <= _TOLERANCE * features.abs().max())


def visit_maps(
    network: Network, X: Any, visit: Callable[[slice, int, Tensor], None], device: torch.device, n_workers: int
) -> None:
    """Compute the maps of all images, batch by batch.

    Parameters
    ----------
    network : Network
        Fitted network; it is moved to the device and back to the CPU.
    X : array of images or sequence of paths
        The n images.
    visit : callable
        Called for each batch with its rows, n, and its maps on the device.
    device : torch.device
        Device for the computation.
    n_workers : int
        Number of threads that read images.
    """
    batches = ImageBatches(
        as_source(X, network.image_size, network.channels), 0, torch.float32, device, n_workers=n_workers
    )
    parts = torch.arange(batches.n_rows).split(_BATCH)
    try:
        network.to(device).eval()
        with torch.inference_mode():
            for rows, images in zip(parts, batches.batches(parts)):
                visit(slice(int(rows[0]), int(rows[-1]) + 1), batches.n_rows, feature_maps(network, images))
    finally:
        network.to("cpu")
