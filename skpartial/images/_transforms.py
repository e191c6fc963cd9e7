"""Transforms of images on the device: normalisation for the network, and augmentation in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AUGMENTATIONS", "Augment", "Normalize", "unit_range"]

AUGMENTATIONS = ("flip", "crop")
# Smallest share of the image area in a random crop, and its extreme aspect ratios.
_LEAST_AREA = 0.5
_ASPECT = 4 / 3
# Tolerance for values outside [0, 1].
_ROUNDING = 1e-3


def unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images in [0, 1] of a floating-point type, from floating point or from uint8 in [0, 255]."""
    values = images.to(dtype)
    return values / 255 if images.dtype == torch.uint8 else values


class Normalize(nn.Module):
    """Normalise uint8 in [0, 255] or floats in [0, 1] by the mean and standard deviation of a network's training.

    Parameters
    ----------
    mean, std : sequence of float
        Values per channel, for pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Any, std: Any) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1), persistent=False)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images, in the type of the buffers."""
        return (unit_range(images, self.mean.dtype) - self.mean) / self.std


class Augment(nn.Module):
    """Random augmentation of a batch of images on the device, drawn per image.

    Parameters
    ----------
    kind : {"flip", "crop"} or callable
        "flip" mirrors half of the images; "crop" also crops a random part of at least half of the area, resized to the
        full size. A callable, such as a transform of torchvision.transforms.v2, is applied to one image (channels,
        height, width) in [0, 1] at a time, and must return an image. Predictions are not augmented.
    """

    def __init__(self, kind: str | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        """The augmented batch; draws from PyTorch's global generator."""
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
        """The results of a callable for each image, checked to be images of the same shape."""
        assert callable(self.kind)
        pixels = "an image in [0, 1] or of uint8"
        changed = []
        for image in images:
            answer: Any = self.kind(image)
            if not isinstance(answer, Tensor) or answer.shape != image.shape:
                what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
                shape = tuple(image.shape)
                raise ValueError(
                    f"Backbone: augment must return a tensor with the shape of the image, {shape}, got {what}."
                )
            if answer.dtype != torch.uint8 and not answer.is_floating_point():
                raise ValueError(f"Backbone: augment must return {pixels}, got {answer.dtype}.")
            changed.append(unit_range(answer, image.dtype))
        together = torch.stack(changed)
        low, high = (float(bound) for bound in together.detach().aminmax())
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise ValueError(
                f"Backbone: augment must return {pixels}, got values from {low:.4g} to {high:.4g}: normalise by mean "
                "and std of the backbone instead, and clamp values that interpolation moves out of range."
            )
        return together
