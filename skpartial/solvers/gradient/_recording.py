"""Work on a device that is recorded once and played back, so that no kernel of it waits to be launched by Python."""

from __future__ import annotations

from collections.abc import Callable

import torch

__all__ = ["Recording", "can_record"]


def can_record(device: torch.device) -> bool:
    """Whether work on this device can be recorded."""
    return device.type == "cuda"


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
