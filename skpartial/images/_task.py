"""Fitting and predicting with images: the part of an estimator for backbones."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skpartial._devices import autocast_dtype
from skpartial._processes import fitting_processes
from skpartial._seeding import seeded
from skpartial._warnings import warn
from skpartial.heads import Head, HeadContext
from skpartial.heads._module import build_head
from skpartial.images._backbones import Backbone, LoadedBackbone
from skpartial.images._batches import ImageBatches, some_readable_rows
from skpartial.images._features import extract
from skpartial.images._network import Network
from skpartial.images._sources import ImageSource, as_source

__all__ = ["ImageTask", "load_task", "predict"]

# Number of images whose features or logits are computed at a time.
_BATCH = 32


@dataclass
class ImageTask:
    """A loaded backbone with its settings.

    Parameters
    ----------
    backbone : Backbone
        Settings of the backbone.
    loaded : LoadedBackbone
        The network without its classifier.
    takes_maps : bool
        Whether the head pools maps.
    device : torch.device
        Device for the computation.
    autocast : torch.dtype or None
        Narrower type for the computation.
    n_workers : int
        Number of threads that read images.
    """

    backbone: Backbone
    loaded: LoadedBackbone
    takes_maps: bool
    device: torch.device
    autocast: torch.dtype | None
    n_workers: int

    def __post_init__(self) -> None:
        self.n_features = self.loaded.n_features(self.takes_maps, self.backbone.name)

    def source(self, X: Any) -> ImageSource:
        """Source of the images that the user passed."""
        return as_source(X, self.loaded.image_size, self.loaded.channels)

    def readable(self, source: ImageSource) -> tuple[NDArray[np.int64] | None, list[tuple[int, str]]]:
        """Rows to train on, None for all, and rows to skip with their errors."""
        if self.backbone.on_error == "raise":
            return None, []
        rows, failures = some_readable_rows(source, self.n_workers)
        if failures:
            first = next(iter(failures.values()))
            warn(
                f"{len(failures)} of {source.n_rows} images cannot be read and are left out: {first} skipped_ lists "
                "them.",
            )
        return (rows if failures else None), list(failures.items())

    def network(self, head: nn.Module | None) -> Network:
        """The network with this head, or up to the features."""
        network = self.backbone.network(self.loaded, head, takes_maps=self.takes_maps)
        network.autocast = self.autocast
        if self.device.type == "cuda":
            network.use_channels_last()
        return network

    def network_to_train(self, head: nn.Module) -> Network:
        """The network with this head, compiled if requested."""
        network = self.network(head)
        how = self.backbone.compile
        if how:
            # In place, so that parameters keep their names; copies and pickles of the module are not compiled.
            network.body.compile(backend=how if isinstance(how, str) else "inductor")
        return network

    def batches(self, source: ImageSource, *, keep: bool = False) -> ImageBatches:
        """Batches of pixels; decoded images are kept if they are small enough."""
        return ImageBatches(
            source,
            self.n_features,
            torch.float32,
            self.device,
            n_workers=self.n_workers,
            cache_bytes=self.backbone.cache_bytes if keep else 0.0,
        )

    def features(self, batches: ImageBatches) -> NDArray[np.float32]:
        """Features of all images, (n, d); maps (n, C, h, w) for a head that pools them."""
        return extract(self.network(None).to(self.device), batches, _BATCH, processes=fitting_processes())

    def fitted(self, head: Head, context: HeadContext, parameters: dict[str, NDArray[Any]]) -> Network:
        """A separate network with the fitted parameters, on the CPU."""
        with seeded(context.seed) if head.draws else nullcontext():
            module = build_head(head, context)
        network = copy.deepcopy(self.network(module)).cpu()
        network.augment = None  # not needed in predictions, and may not be picklable
        network.built = head, context
        tensors = {name: torch.as_tensor(value) for name, value in parameters.items()}
        network.load_state_dict(tensors, strict=False)
        return network.eval()


def load_task(
    backbone: Backbone, head: Head, device: torch.device, precision: str, n_workers: int, seed: int
) -> ImageTask:
    """Load the network, with random parts drawn from the seed."""
    autocast = autocast_dtype(precision, device)
    with seeded(seed):
        loaded = backbone.load()
    if backbone.finetune != "head" and next(loaded.module.parameters(), None) is None:
        raise ValueError(
            f"Backbone {backbone.name!r} has no parameters to train with finetune={backbone.finetune!r}: choose "
            "finetune='head', or another model."
        )
    return ImageTask(backbone, loaded, head.takes_maps, device, autocast, n_workers)


def predict(
    network: Network, X: Any, device: torch.device, n_workers: int, *, members: bool = False
) -> NDArray[np.float32]:
    """Logits (n, L) of images by a fitted network, which stays on the CPU; or of its members (M, n, L)."""
    source = as_source(X, network.image_size, network.channels)
    batches = ImageBatches(source, 0, torch.float32, device, n_workers=n_workers)
    parts = torch.arange(batches.n_rows).split(_BATCH)
    try:
        network.to(device).eval()
        with torch.inference_mode():
            logits = network.member_logits if members else network
            found = [logits(images).float().cpu() for images in batches.batches(parts)]
    finally:
        network.to("cpu")
    return torch.cat(found, dim=-2).numpy()
