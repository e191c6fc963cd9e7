"""PyTorch's own generators, which all threads share: touched only where something draws from them."""

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


class Randomness:
    """PyTorch's own generators, to draw the same numbers again; left alone where nothing draws from them."""

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
        """Let every process draw numbers of its own in a pass, the same ones whenever it is made."""
        if self.used and processes.size > 1:
            own = np.random.SeedSequence((seed, epoch, processes.rank)).generate_state(1)[0]
            torch.manual_seed(int(own))

    def restore(self, state: dict[str, Tensor]) -> None:
        if not (self.used and state):
            return
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)
