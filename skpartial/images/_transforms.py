"""What happens to images on the device: numbers that a network expects, and random changes while it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AUGMENTATIONS", "Augment", "Normalize", "unit_range"]

AUGMENTATIONS = ("flip", "crop")
# The share of an image's area that a random crop keeps at least, and its extreme aspect ratios.
_LEAST_AREA = 0.5
_ASPECT = 4 / 3
# By how much numbers may leave [0, 1].
_ROUNDING = 1e-3


def unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images of a floating type in [0, 1], from those or from uint8 in [0, 255]."""
    values = images.to(dtype)
    return values / 255 if images.dtype == torch.uint8 else values


class Normalize(nn.Module):
    """From uint8 in [0, 255] or floats in [0, 1] to the mean and standard deviation that a network was trained with.

    Parameters
    ----------
    mean, std : sequence of float
        Of the channels, for values in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)

    @property
    def channels(self) -> int:
        """How many there are."""
        return len(self.mean)

    def forward(self, images: Tensor) -> Tensor:
        """Images of the type of the buffers."""
        return (unit_range(images, self.mean.dtype) - self.mean) / self.std


class Augment(nn.Module):
    """Random changes of a batch of images, drawn for each image, on the device.

    Parameters
    ----------
    kind : {"flip", "crop"} or callable
        Mirror half of the images; besides, keep a random part of at least half of the area, resized to the whole. A
        callable is applied to one image (channels, height, width) in [0, 1] at a time, such as a transform of
        torchvision.transforms.v2, and must answer with another: predictions see images without these changes.
    """

    def __init__(self, kind: str | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        """The batch, changed; draws from PyTorch's own generator."""
        if not isinstance(self.kind, str):
            return self._changed(images)
        n, device = len(images), images.device
        mirrored = torch.rand(n, device=device) < 0.5
        if self.kind == "flip":
            return torch.where(mirrored[:, None, None, None], images.flip(3), images)
        area = _LEAST_AREA + (1 - _LEAST_AREA) * torch.rand(n, device=device)
        aspect = _ASPECT ** (2 * torch.rand(n, device=device) - 1)
        height = (area / aspect).sqrt().clamp(max=1)
        width = (area * aspect).sqrt().clamp(max=1)
        zero = torch.zeros_like(height)
        left = (1 - width) * (2 * torch.rand(n, device=device) - 1)
        top = (1 - height) * (2 * torch.rand(n, device=device) - 1)
        rows = (torch.where(mirrored, -width, width), zero, left, zero, height, top)
        theta = torch.stack(rows, dim=1).reshape(n, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False).to(images.dtype)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    def _changed(self, images: Tensor) -> Tensor:
        """What a callable makes of each image, if those are images like them."""
        assert callable(self.kind)
        pixels = "an image in [0, 1] or of uint8"
        changed = []
        for image in images:
            answer: Any = self.kind(image)
            if not isinstance(answer, Tensor) or answer.shape != image.shape:
                what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
                shape = tuple(image.shape)
                raise ValueError(
                    f"Backbone: augment must answer with a tensor of the shape of the image, {shape}, got {what}."
                )
            if answer.dtype != torch.uint8 and not answer.is_floating_point():
                raise ValueError(f"Backbone: augment must answer with {pixels}, got {answer.dtype}.")
            changed.append(unit_range(answer, image.dtype))
        together = torch.stack(changed)
        low, high = (float(bound) for bound in together.detach().aminmax())
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise ValueError(
                f"Backbone: augment must answer with {pixels}, got numbers from {low:.4g} to {high:.4g}: leave "
                "normalising to mean and std, and clamp what interpolates beyond."
            )
        return together
