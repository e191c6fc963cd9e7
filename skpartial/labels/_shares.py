"""Values between absent and present: shares of annotators, and their thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial._checks import check_number

__all__ = ["check_threshold", "decided", "shares_of"]

# Tolerance for rounding errors of shares: 1 - 0.67 is less than 0.33.
_ROUNDING = 1e-9


def check_threshold(threshold: Any) -> tuple[float, float]:
    """The highest share at which a label is absent, and the lowest at which it is present."""
    if isinstance(threshold, Sequence) and not isinstance(threshold, str) and len(threshold) == 2:
        what = "a number in [0.5, 1], or a pair (absent up to, present from) of numbers in [0, 1]"
        low, high = (check_number(None, "threshold", share, "[0, 1]", what) for share in threshold)
        if low > high:
            raise ValueError(
                f"threshold must be a pair (absent up to, present from) in ascending order, got {threshold}."
            )
        return low, high
    what = "a number in [0.5, 1], or a pair (absent up to, present from)"
    high = check_number(None, "threshold", threshold, "[0.5, 1]", what)
    return 1 - high, high


def shares_of(
    values: NDArray[Any], signs: NDArray[np.int8], coded: NDArray[np.bool_], *, between: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Shares in [0, 1], NaN for unknown, and a mask of the values with a meaning.

    Parameters
    ----------
    values : ndarray
        The original values.
    signs, coded : ndarray of the same shape
        The meanings of their codes, and a mask of the values that have a code.
    between : bool
        Whether numbers between 0 and 1 are shares themselves.

    Returns
    -------
    shares : ndarray of float64
        1 for present, 0 for absent, NaN for unknown.
    coded : ndarray of bool
        Mask of the values with a meaning.
    """
    shares = np.where(signs == 0, np.nan, (signs + 1) / 2)
    if not between or values.dtype.kind not in ("f", "O"):
        return shares, coded
    if values.dtype.kind == "f":
        inside = ~coded & (values > 0) & (values < 1)
    else:
        is_share = (isinstance(value, Real) and 0 < float(value) < 1 for value in values.flat)
        inside = ~coded & np.fromiter(is_share, dtype=bool, count=values.size).reshape(values.shape)
    shares[inside] = values[inside].astype(np.float64)
    return shares, coded | inside


def decided(shares: NDArray[np.float64], threshold: tuple[float, float]) -> NDArray[np.int8]:
    """1, -1 or 0 for shares; 0 if a share meets both thresholds."""
    low, high = threshold
    # NaN compares false with everything.
    present, absent = shares >= high - _ROUNDING, shares <= low + _ROUNDING
    return present.astype(np.int8) - absent.astype(np.int8)
