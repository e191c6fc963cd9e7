"""Co-occurrence of labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial.labels._matrix import LabelMatrix

__all__ = ["cooccurrence"]


def cooccurrence(Y: Any) -> NDArray[np.int64]:
    r"""Count the rows in which two labels are both known to be positive.

    .. math:: C_{jk} = \sum_i \mathbb{1}[Y_{ij} = 1]\, \mathbb{1}[Y_{ik} = 1]

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.

    Returns
    -------
    ndarray of int64, shape (L, L)
        Numbers of rows. The matrix is symmetric, and its diagonal counts the rows in which a label is positive. With
        one known positive per row, all entries off the diagonal are 0.

    Examples
    --------
    >>> from skpartial.labels import cooccurrence
    >>> cooccurrence([[1, 1, 0], [1, -1, 1], [1, 1, -1]])
    array([[3, 2, 1],
           [2, 2, 0],
           [1, 0, 1]])
    """
    return LabelMatrix.encode(Y, name="Y").cooccurrence()
