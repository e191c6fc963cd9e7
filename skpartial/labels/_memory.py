"""Dense matrices whose size is known before they are made: those that cannot fit are refused in words."""

from __future__ import annotations

import os
from math import prod

__all__ = ["check_fits"]


def _installed() -> int | None:
    """Bytes of memory of this machine, where it tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def check_fits(shape: tuple[int, ...], what: str, instead: str, *, itemsize: int = 1) -> None:
    """Refuse a dense matrix larger than the memory of this machine, before anything is allocated.

    Parameters
    ----------
    shape : tuple of int
        Of the matrix.
    what, instead : str
        What the matrix is, and what to do.
    itemsize : int, default=1
        Bytes of an entry.

    Raises
    ------
    ValueError
        If it does not fit.
    """
    size, installed = prod(map(int, shape)) * itemsize, _installed()
    if installed is not None and size > installed:
        raise ValueError(
            f"{what} of shape {tuple(map(int, shape))} would take {size / (1 << 30):,.0f} GiB as a dense matrix, but "
            f"there are {installed / (1 << 30):,.0f} GiB of memory: {instead}."
        )
