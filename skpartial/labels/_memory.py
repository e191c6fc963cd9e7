"""Refuse dense matrices that cannot fit into memory, before they are allocated."""

from __future__ import annotations

import os
from math import prod

__all__ = ["check_fits"]


def _installed() -> int | None:
    """Bytes of memory of this machine, if known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def check_fits(shape: tuple[int, ...], what: str, instead: str, *, itemsize: int = 1) -> None:
    """Refuse a dense matrix larger than the memory of this machine, before anything is allocated.

    Parameters
    ----------
    shape : tuple of int
        Shape of the matrix.
    what, instead : str
        Description of the matrix, and advice.
    itemsize : int, default=1
        Bytes per entry.

    Raises
    ------
    ValueError
        If the matrix does not fit.
    """
    size, installed = prod(map(int, shape)) * itemsize, _installed()
    if installed is not None and size > installed:
        raise ValueError(
            f"{what} of shape {tuple(map(int, shape))} would take {size / (1 << 30):,.0f} GiB as a dense matrix, but "
            f"there are {installed / (1 << 30):,.0f} GiB of memory: {instead}."
        )
