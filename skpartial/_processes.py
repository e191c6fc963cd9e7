"""Processes that fit together: each is called with the same data and processes its share of the rows.

All messages of a fit are sent from here, and all are one operation: a sum over the processes. Only the shards of
parameters (`_shards.py`) are exchanged by PyTorch itself.
"""

from __future__ import annotations

import atexit
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from joblib.parallel import get_active_backend
from torch import Tensor

from skpartial.exceptions import ProcessLostError

__all__ = ["ALONE", "Processes", "fitting_processes", "lost_processes_told"]

# What gloo and NCCL say of a process that does not answer.
_LOST = re.compile(r"gloo|NCCL|ncclComm|[Cc]onnection (closed|reset)")
# Environment variables that torchrun sets in every process.
_LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Processes:
    """The processes of a fit; for a single process the methods have no effect.

    All processes make the same calls in the same order.

    Parameters
    ----------
    rank : int, default=0
        Index of this process.
    size : int, default=1
        Number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def share(self, n_rows: int) -> slice:
        """The share of `n_rows` rows for this process; shares are consecutive, and differ in size by at most one."""
        least, more = divmod(n_rows, self.size)
        start = self.rank * least + min(self.rank, more)
        return slice(start, start + least + (self.rank < more))

    def largest_share(self, n_rows: int) -> int:
        """The size of the largest share."""
        return -(-n_rows // self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in place if possible."""
        if self.size == 1:
            return tensor
        return _told(lambda: _summed(tensor))

    def sum_all(self, tensors: Iterable[Tensor]) -> None:
        """Sum several tensors over the processes, in place, with one message per type."""
        if self.size == 1:
            return
        by_type: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_type.setdefault(tensor.dtype, []).append(tensor)
        for members in by_type.values():
            whole = self.sum(torch.cat([tensor.reshape(-1) for tensor in members]))
            for tensor, part in zip(members, whole.split([tensor.numel() for tensor in members])):
                tensor.copy_(part.view_as(tensor))

    def together(self, part: Tensor, n_rows: int, dim: int = 0) -> Tensor:
        """The values for all rows, gathered from the shares of the processes."""
        if self.size == 1:
            return part
        shape, own = list(part.shape), self.share(n_rows)
        shape[dim] = n_rows
        # Zeros elsewhere: unequal and empty shares need no special case.
        whole = part.new_zeros(shape)
        whole.narrow(dim, own.start, own.stop - own.start).copy_(part)
        return self.sum(whole)

    def compute(self, function: Callable[[Tensor], Tensor], rows: Tensor, dim: int = 0) -> Tensor:
        """A function of rows; each process computes its share, or all if there are fewer rows than processes."""
        if self.size == 1 or len(rows) < self.size:
            return function(rows)
        return self.together(function(rows[self.share(len(rows))]), len(rows), dim)

    def of_first(self, number: int) -> int:
        """The number that the first process holds."""
        return int(self.sum(torch.tensor(number if self.is_first else 0, dtype=torch.int64)))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return bool(flag) if self.size == 1 else bool(self.sum(torch.tensor(int(flag))) > 0)

    def check_same(self, numbers: Sequence[tuple[str, float]], message: str) -> None:
        """Refuse to continue if numbers differ between processes, in float32 precision.

        Parameters
        ----------
        numbers : sequence of tuple of str and float
            Their names, and their values in this process.
        message : str
            The error message, with the fields `what`, `first`, `other` and `rank`.

        Raises
        ------
        ValueError
            In every process.
        """
        if self.size == 1:
            return
        own = torch.tensor([[float(number) for _, number in numbers]], dtype=torch.float64)
        found = self.together(own, self.size).numpy()
        wrong = np.argwhere(~np.isclose(found, found[0], rtol=1e-5, atol=0))
        if len(wrong):
            rank, column = wrong[0]
            what, first, other = numbers[column][0], found[0, column], found[rank, column]
            raise ValueError(message.format(what=what, first=f"{first:.10g}", other=f"{other:.10g}", rank=rank))


#: A single process, which has all rows.
ALONE = Processes()


def _summed(tensor: Tensor) -> Tensor:
    # NCCL only accepts tensors on its devices.
    if tensor.device.type == "cpu" and str(dist.get_backend()) == "nccl":
        sent = tensor.cuda()
        dist.all_reduce(sent)
        return tensor.copy_(sent)
    contiguous = tensor.contiguous()
    dist.all_reduce(contiguous)
    return contiguous if contiguous is tensor else tensor.copy_(contiguous)


def _told(work: Callable[[], Any]) -> Any:
    """Raise `ProcessLostError` with a clear message if another process does not answer."""
    try:
        return work()
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise _lost(error) from error


def _lost(error: RuntimeError) -> ProcessLostError:
    # The first sentence of gloo's message, without the place in its source.
    said = re.sub(r"^\[\S*\] *", "", str(error).strip() or type(error).__name__)
    first_line = said.splitlines()[0].split(". ")[0][:200]
    return ProcessLostError(
        f"Another process of this fit has ended or does not answer ({first_line}): restart all processes; with "
        "checkpoint_dir the fit then resumes from the last saved epoch."
    )


@contextmanager
def lost_processes_told(processes: Processes) -> Iterator[None]:
    """Raise `ProcessLostError` for the errors of PyTorch's own messages, which shards of parameters need."""
    try:
        yield
    except RuntimeError as error:
        known = isinstance(error, ProcessLostError | torch.OutOfMemoryError)
        if processes.size == 1 or known or not _LOST.search(str(error)):
            raise
        raise _lost(error) from error


def fitting_processes() -> Processes:
    """The processes that share the fits of this one.

    These are the processes of torch.distributed if it is initialised. If it is not, but torchrun has started this
    process, it is initialised here. A joblib job, such as those of searches, fits alone.

    Returns
    -------
    Processes
        `ALONE` for a single process.
    """
    if not dist.is_available() or get_active_backend()[0].nesting_level:
        return ALONE
    if not dist.is_initialized():
        if not all(os.environ.get(name) for name in _LAUNCHED) or os.environ["WORLD_SIZE"] == "1":
            return ALONE
        _told(_initialise)
    return Processes(dist.get_rank(), dist.get_world_size()) if dist.get_world_size() > 1 else ALONE


def _initialise() -> None:
    """Join the processes that torchrun has started."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        dist.init_process_group("cpu:gloo,cuda:nccl")
    else:
        dist.init_process_group("gloo")
    atexit.register(_leave)


def _leave() -> None:
    with suppress(Exception):
        dist.destroy_process_group()
