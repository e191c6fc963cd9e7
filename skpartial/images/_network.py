"""What images go through in training and prediction: a network without its classifier, then a head."""

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
    """A network that answers with what its last global average pooling takes in."""

    def __init__(self, module: nn.Module, pooling: str) -> None:
        super().__init__()
        self.module, self.pooling = module, pooling

    def forward(self, images: Tensor) -> Tensor:
        taken: list[Tensor] = []
        pooling = self.module.get_submodule(self.pooling)
        # Only for this call: other users of the module have no need of it.
        hook = pooling.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        try:
            self.module(images)
        finally:
            hook.remove()
        return taken[-1]


class FittedModule(nn.Module):
    """Stands for the module that training began with, where a classifier was pickled: the network as it was fitted.

    A fit may go on from it, but not begin anew, as the first weights are gone.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.module(images)
        return found


class Network(nn.Module):
    """Images to logits: normalisation, random changes while training, backbone, head.

    Parameters
    ----------
    body : torch.nn.Module
        From images (b, channels, H, W) to features (b, d), or to maps (b, C, h, w).
    head : torch.nn.Module or None
        From those to logits; None leaves features, averaged over the regions of maps.
    normalize : Normalize
        What comes before, while training after `augment`.
    augment : torch.nn.Module or None
        Random changes.
    takes_maps : bool
        Whether the head pools maps itself.
    frozen_norms : bool
        Whether batch norms stay in evaluation mode while training.
    image_size : (height, width)
        What images are resized to before they come here.
    architecture : Architecture or None
        Which network the body is; None for a module of the user's.
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
        #: Of a fitted network: the head, and what it was built for.
        self.built: tuple[Head, HeadContext] | None = None
        #: Type that autocast computes in, or None.
        self.autocast: torch.dtype | None = None
        #: Whether maps lie with their channels last, which tensor cores prefer.
        self.channels_last = False

    def use_channels_last(self) -> None:
        """Let maps lie with their channels last from here on, as long as the device can do with that."""
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
            warn_slower("The layout of maps with their channels last", error)
        return found

    def train(self, mode: bool = True) -> Network:
        """Training mode, in which batch norms stay as they are if they are frozen."""
        super().train(mode)
        if self.frozen_norms:
            for module in self.body.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def channels(self) -> int:
        """How many channels of images it takes."""
        return self.normalize.channels

    def features(self, images: Tensor) -> Tensor:
        """Features (b, d) of images, or maps where the head pools them."""
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
        """Logits (M, b, L) of the members of an ensemble; of another head M is 1."""
        assert self.head is not None
        logits: Tensor = self.head.member_logits(self.features(images))  # type: ignore[operator]
        return logits
