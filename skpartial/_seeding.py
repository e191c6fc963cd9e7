"""PyTorch's global generators, which all threads share; used only where something draws from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from skpartial._processes import Processes

__all__ = ["Randomness", "seeded"]


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed PyTorch's global generators, and restore them afterwards.

    Other threads that draw from them meanwhile get different numbers: use this only where there is no other way.

    Parameters
    ----------
    seed : int
        Seed for all draws.
    device : torch.device or None, default=None
        A CUDA device, to seed its generator in addition to that of the CPU.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        yield


class Randomness:
    """State of PyTorch's global generators, to repeat draws; does nothing if nothing draws from them."""

    def __init__(self, device: torch.device, used: bool) -> None:
        self.device, self.used = device, used

    def state(self) -> dict[str, Tensor]:
        if not self.used:
            return {}
        found = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def vary(self, seed: int, epoch: int, processes: Processes) -> None:
        """Seed each process differently for a pass over the rows, reproducibly."""
        if self.used and processes.size > 1:
            own = np.random.SeedSequence((seed, epoch, processes.rank)).generate_state(1)[0]
            torch.manual_seed(int(own))

    def restore(self, state: dict[str, Tensor]) -> None:
        if not (self.used and state):
            return
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)
