"""Recording and replay of work on a device, so that kernels do not wait to be launched from Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Recording", "can_record", "same_moves"]


def can_record(device: torch.device) -> bool:
    """Whether work on this device can be recorded."""
    return device.type == "cuda"


# Two ways of taking the same steps differ by rounding, which optimisers magnify where gradients are nearly zero.
_SHARE, _DIGITS = 1e-2, 1e-5


def same_moves(before: Sequence[Tensor], found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether tensors moved from their old values to the same new values in two computations, up to rounding."""
    for start, one, other in zip(before, found, expected):
        moved, apart = (float((x.double() - other.double()).norm()) for x in (start, one))
        # Non-finite values are reported with the loss.
        if not apart <= _SHARE * moved + _DIGITS * float(other.double().norm()) and bool(other.isfinite().all()):
            return False
    return True


class Recording:
    """A CUDA graph of some work.

    A replay reads and writes the same tensors as the recorded work, with their current contents. Numbers outside
    tensors keep their recorded values.

    Parameters
    ----------
    work : callable
        The work. It must not read values from the device, and must have run before, because libraries initialise
        themselves at the first call. Recording does not execute it.
    device : torch.device
        Device of the work.
    """

    def __init__(self, work: Callable[[], None], device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # PyTorch's default capture stream belongs to the first device that used it. Other threads are not monitored.
        with (
            torch.cuda.device(device),
            torch.cuda.graph(self._graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"),
        ):
            work()

    def play(self) -> None:
        """Replay the work."""
        self._graph.replay()
