"""Splits that the user passes as pairs of positions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["splits_as_positions"]


def splits_as_positions(splits: Iterable[Any], n_rows: int) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Check splits, and count positions from 0.

    Parameters
    ----------
    splits : iterable of (train, test)
        Positions of rows, negative ones from the end, or masks.
    n_rows : int
        Number of rows.

    Returns
    -------
    list of pairs of ndarray
        Positions of at least 0.

    Raises
    ------
    ValueError
        If a split has another form, or positions that are out of range.
    """
    rows = np.arange(n_rows)
    found = []
    for number, split in enumerate(splits):
        try:
            train, test = (rows[np.asarray(part)] if len(part) else rows[:0] for part in split)
        except (IndexError, TypeError, ValueError):
            raise ValueError(
                f"Split {number} of cv must be a pair (train, test) of positions in the {n_rows} rows of X."
            ) from None
        found.append((train, test))
    return found
