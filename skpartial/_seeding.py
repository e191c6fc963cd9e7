"""PyTorch's own generators, which all threads share: touched only where something draws from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed PyTorch's own generators, and put them back as they were.

    Other threads that draw from them meanwhile draw other numbers than they would: this is for what gives no choice.

    Parameters
    ----------
    seed : int
        Of all draws.
    device : torch.device or None, default=None
        Whose generator is seeded beside that of the CPU, where it is CUDA.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield
