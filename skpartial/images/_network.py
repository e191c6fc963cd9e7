"""The network for training and prediction: a backbone without its classifier, then a head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from skpartial._warnings import warn_slower
from skpartial.images._architectures import Architecture
from skpartial.images._transforms import Normalize, unit_range

if TYPE_CHECKING:
    from skpartial.heads import Head, HeadContext

__all__ = ["FittedModule", "Maps", "Network"]


class Maps(nn.Module):
    """A network that returns the input of its last global average pooling."""

    def __init__(self, module: nn.Module, pooling: str) -> None:
        super().__init__()
        self.module, self.pooling = module, pooling

    def forward(self, images: Tensor) -> Tensor:
        taken: list[Tensor] = []
        pooling = self.module.get_submodule(self.pooling)
        # Only for this call, so that other users of the module are not affected.
        hook = pooling.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            self.module(images)
        finally:
            hook.remove()
        return taken[-1]


class FittedModule(nn.Module):
    """Replaces the user's module in a pickled classifier: the network as fitted.

    A fit may continue from it, but not start anew, because the initial weights are lost.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.module(images)
        return found


class Network(nn.Module):
    """Map from images to logits: normalisation, augmentation in training, backbone, head.

    Parameters
    ----------
    body : torch.nn.Module
        Map from images (b, channels, H, W) to features (b, d), or to maps (b, C, h, w).
    head : torch.nn.Module or None
        Map from these to logits; None returns features, averaged over the regions of maps.
    normalize : Normalize
        Normalisation, which comes first, or in training after `augment`.
    augment : torch.nn.Module or None
        Random augmentation.
    takes_maps : bool
        Whether the head pools maps itself.
    frozen_norms : bool
        Whether batch norms stay in evaluation mode in training.
    image_size : (height, width)
        Size to which images were resized before.
    architecture : Architecture or None
        The architecture of the body; None for a user's module.
    """

    def __init__(
        self,
        body: nn.Module,
        head: nn.Module | None,
        *,
        normalize: Normalize,
        augment: nn.Module | None = None,
        takes_maps: bool = False,
        frozen_norms: bool = False,
        image_size: tuple[int, int] = (224, 224),
        architecture: Architecture | None = None,
    ) -> None:
        super().__init__()
        self.normalize, self.augment, self.body, self.head = normalize, augment, body, head
        self.takes_maps, self.frozen_norms, self.image_size = takes_maps, frozen_norms, image_size
        self.architecture = architecture
        #: For a fitted network: the head, and the context that it was built from.
        self.built: tuple[Head, HeadContext] | None = None
        #: Type for autocast, or None.
        self.autocast: torch.dtype | None = None
        #: Whether maps are stored channels last, which is faster on tensor cores.
        self.channels_last = False

    def use_channels_last(self) -> None:
        """Store maps channels last from here on, as long as the device supports it."""
        self.to(memory_format=torch.channels_last)
        self.channels_last = True

    def _through_body(self, images: Tensor) -> Tensor:
        try:
            found: Tensor = self.body(images)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if not self.channels_last:
                raise
            self.to(memory_format=torch.contiguous_format)
            self.channels_last = False
            found = self.body(images.contiguous())
            warn_slower("The channels-last layout of maps", error)
        return found

    def train(self, mode: bool = True) -> Network:
        """Training mode; frozen batch norms stay in evaluation mode."""
        super().train(mode)
        if self.frozen_norms:
            for module in self.body.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return self.normalize.channels

    def features(self, images: Tensor) -> Tensor:
        """Features (b, d) of images, or maps if the head pools them."""
        if self.training and self.augment is not None:
            images = self.augment(unit_range(images, torch.float32))
        prepared = self.normalize(images)
        with torch.autocast(images.device.type, self.autocast or torch.bfloat16, enabled=self.autocast is not None):
            found = self._through_body(prepared)
        found = found.to(prepared.dtype)
        if found.ndim == 4 and not self.takes_maps:
            found = found.mean((2, 3))
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Logits (b, L), or features without a head."""
        found = self.features(images)
        if self.head is None:
            return found
        logits: Tensor = self.head(found)
        return logits

    def member_logits(self, images: Tensor) -> Tensor:
        """Logits (M, b, L) of the members of an ensemble; M is 1 for any other head."""
        assert self.head is not None
        logits: Tensor = self.head.member_logits(self.features(images))  # type: ignore[operator]
        return logits
