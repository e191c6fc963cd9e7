"""How often labels are present together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skpartial.labels._matrix import LabelMatrix

__all__ = ["cooccurrence"]


def cooccurrence(Y: Any) -> NDArray[np.int64]:
    r"""How often two labels are known to be present together.

    .. math:: C_{jk} = \sum_i \mathbb{1}[Y_{ij} = 1]\, \mathbb{1}[Y_{ik} = 1]

    Parameters
    ----------
    Y : array-like, DataFrame or sparse matrix, shape (n, L)
        Labels: 1 present, -1 absent, 0 unknown.

    Returns
    -------
    ndarray of int64, shape (L, L)
        Numbers of rows. Symmetric; the diagonal counts the rows in which a label is present. With one known presence
        a row there is nothing off the diagonal.

    Examples
    --------
    >>> from skpartial.labels import cooccurrence
    >>> cooccurrence([[1, 1, 0], [1, -1, 1], [1, 1, -1]])
    array([[3, 2, 1],
           [2, 2, 0],
           [1, 0, 1]])
    """
    return LabelMatrix.encode(Y, name="Y").cooccurrence()
