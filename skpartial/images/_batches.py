"""Batches of images for training and prediction, read ahead by worker threads, and cached if they fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from skpartial._warnings import warn_slower
from skpartial.exceptions import ImageReadError
from skpartial.features._base import Features
from skpartial.images._decode import same_type
from skpartial.images._sources import ImageSource

__all__ = ["ImageBatches", "none_readable", "readable_rows", "some_readable_rows"]

# Number of batches that are read ahead.
_AHEAD = 2
# Number of rows per task of a worker.
_ROWS_A_TASK = 4


class ImageBatches(Features):
    """Images for a solver: batches of pixels of one size.

    Threads read them: decoding and resizing release Python's lock, and nothing is copied between processes.

    Parameters
    ----------
    source : ImageSource
        Source of single images.
    n_features : int
        Width of the backbone's features.
    dtype : torch.dtype
        Floating type of the network.
    device : torch.device
        Device of the batches.
    n_workers : int, default=1
        Number of threads.
    cache_bytes : float, default=0
        Decoded images are kept as uint8, if all of them fit into this many bytes.
    """

    def __init__(
        self,
        source: ImageSource,
        n_features: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        n_workers: int = 1,
        cache_bytes: float = 0.0,
    ) -> None:
        super().__init__((source.n_rows, n_features), dtype, device)
        self.source, self.n_workers = source, n_workers
        pixels = source.channels * source.size[0] * source.size[1]
        self._kept: Tensor | None = None
        if not source.is_cheap and source.n_rows * pixels <= cache_bytes:
            self._kept = torch.empty(source.n_rows, source.channels, *source.size, dtype=torch.uint8)
        self._pins = True
        self._has: NDArray[np.bool_] = np.zeros(source.n_rows, dtype=bool)

    @property
    def row_bytes(self) -> int:
        """Size of a row in a batch, in floating point."""
        return self.source.channels * self.source.size[0] * self.source.size[1] * self.dtype.itemsize

    def forward(self, weights: Tensor) -> Tensor:
        """Not defined: images have no products."""
        raise TypeError("Images have no products with weights: extract their features first.")

    def backward(self, scores: Tensor) -> Tensor:
        """Not defined: images have no products."""
        raise TypeError("Images have no products with scores: extract their features first.")

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Not defined: images have no features of their own."""
        raise TypeError("Images have no rows of features: extract them first.")

    @override
    def take(self, rows: Tensor) -> Features:
        source = self.source[rows.cpu().numpy()]
        return ImageBatches(source, self.n_features, self.dtype, self.device, n_workers=self.n_workers)

    def batch(self, rows: Tensor) -> Tensor:
        """Images (b, C, H, W): uint8 in [0, 255], or float32 in [0, 1]."""
        return next(self.batches([rows]))

    def batches(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Batches in order; each is read while earlier ones are in use."""
        rows = iter(batches)
        pool: ThreadPoolExecutor | None = None
        waiting: deque[list[Future[Tensor]]] = deque()
        try:
            while True:
                if pool is None and not self._at_hand:
                    pool = ThreadPoolExecutor(self.n_workers, thread_name_prefix="skpartial")
                while pool is not None and len(waiting) <= _AHEAD and (chosen := next(rows, None)) is not None:
                    parts = chosen.cpu().numpy()
                    tasks = [parts[i : i + _ROWS_A_TASK] for i in range(0, len(parts), _ROWS_A_TASK)]
                    waiting.append([pool.submit(self._read, task) for task in tasks])
                if waiting:
                    yield self._send(torch.cat(same_type([future.result() for future in waiting.popleft()])))
                elif (chosen := next(rows, None)) is not None:
                    yield self._send(self._read(chosen.cpu().numpy()))
                else:
                    return
        finally:
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    @property
    def _at_hand(self) -> bool:
        return self.source.is_cheap or (self._kept is not None and bool(self._has.all()))

    def _read(self, rows: NDArray[np.int64]) -> Tensor:
        kept = self._kept  # another thread may drop it meanwhile
        if kept is None:
            return self.source.read_rows(rows)
        for row in rows[~self._has[rows]]:
            image = self.source.read(int(row))
            if image.dtype != torch.uint8:  # floats would be rounded: do not cache this source
                self._kept = None
                return self.source.read_rows(rows)
            kept[row] = image
            self._has[row] = True
        return kept[torch.from_numpy(rows)]

    def _send(self, images: Tensor) -> Tensor:
        if self.device.type == "cuda" and not images.is_cuda and self._pins:
            try:
                return images.pin_memory().to(self.device, non_blocking=True)
            except RuntimeError as error:
                self._pins = False
                sent = images.to(self.device)
                warn_slower("Pinned memory", error)
                return sent
        return images.to(self.device)


def readable_rows(source: ImageSource, n_workers: int) -> tuple[NDArray[np.int64], dict[int, str]]:
    """The readable rows, and the errors of the others.

    Parameters
    ----------
    source : ImageSource
        Source; every image is read.
    n_workers : int
        Number of threads.

    Returns
    -------
    rows : ndarray of int64
        Readable rows, in order.
    failures : dict of int to str
        Error message by row.
    """

    def attempt(row: int) -> str | None:
        try:
            source.read(row)
        except ImageReadError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(n_workers) as pool:
        found = list(pool.map(attempt, range(source.n_rows)))
    failures = {row: text for row, text in enumerate(found) if text is not None}
    good = np.setdiff1d(np.arange(source.n_rows), np.fromiter(failures, dtype=np.int64, count=len(failures)))
    return good, failures


def some_readable_rows(source: ImageSource, n_workers: int) -> tuple[NDArray[np.int64], dict[int, str]]:
    """The result of `readable_rows`; raises ImageReadError if no row is readable."""
    rows, failures = readable_rows(source, n_workers)
    if not len(rows):
        raise none_readable(failures)
    return rows, failures


def none_readable(failures: dict[int, str]) -> ImageReadError:
    """The error for data without readable images, from the errors of all images."""
    return ImageReadError(f"None of the {len(failures)} images can be read: {failures[0]}")
