"""Work on a device that is recorded once and played back, so that no kernel of it waits to be launched by Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Recording", "can_record", "same_moves"]


def can_record(device: torch.device) -> bool:
    """Whether work on this device can be recorded."""
    return device.type == "cuda"


# Two ways to take the same steps differ by rounding, of which an optimiser makes much where gradients are nearly zero.
_SHARE, _DIGITS = 1e-2, 1e-5


def same_moves(before: Sequence[Tensor], found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether tensors moved from where they were to the same place, by one way and by another."""
    for start, one, other in zip(before, found, expected):
        moved, apart = (float((x.double() - other.double()).norm()) for x in (start, one))
        # What is no longer finite is told by its loss.
        if not apart <= _SHARE * moved + _DIGITS * float(other.double().norm()) and bool(other.isfinite().all()):
            return False
    return True


class Recording:
    """A CUDA graph of some work.

    What is played reads and writes the tensors that the work had at hand, wherever their contents have come from since;
    numbers that are not in tensors stay what they were.

    Parameters
    ----------
    work : callable
        Never looks at a value on the device, and has been done before: libraries set themselves up when they are first
        called. It is not done while it is recorded.
    device : torch.device
        Where it is done.
    """

    def __init__(self, work: Callable[[], None], device: torch.device) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # PyTorch's own stream for this belongs to the device that first asked; what other threads do is theirs to know.
        with (
            torch.cuda.device(device),
            torch.cuda.graph(self._graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"),
        ):
            work()

    def play(self) -> None:
        """Do the work."""
        self._graph.replay()
