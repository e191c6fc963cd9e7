"""A graph of rows, and the spreading of labels over it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.labels._matrix import present_share

__all__ = ["prior_of", "row_graph", "spread", "spread_blocks"]

# Number of steps of a walk: farther entries have hardly any weight.
_N_STEPS = 30
# Number of labels spread at a time, so that temporary arrays are small compared with the result.
_BLOCK_LABELS = 16


def row_graph(neighbors: NDArray[np.int64], cosines: NDArray[np.float64], power: float) -> Any:
    r"""The symmetric graph of nearest rows, normalised by degrees: :math:`D^{-1/2} W D^{-1/2}`.

    Parameters
    ----------
    neighbors : ndarray of int64, shape (n, k)
        The nearest other rows of each row.
    cosines : ndarray of shape (n, k)
        Cosines of the angles to the neighbours.
    power : float
        Weights are positive cosines to this power.

    Returns
    -------
    csr_array of float32, shape (n, n)
        The graph, with eigenvalues in [-1, 1].
    """
    n, k = neighbors.shape
    weights = np.maximum(cosines, 0) ** power
    directed = sp.csr_array((weights.ravel(), neighbors.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    both = (directed + directed.T) / 2
    degrees = np.asarray(both.sum(axis=1)).ravel()
    roots = np.divide(1, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)
    scale = sp.dia_array((roots[None], [0]), shape=(n, n))
    return sp.csr_array(scale @ both @ scale).astype(np.float32)


def prior_of(labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Share of positives among the known entries of each label, with half an entry of each sign added; shape (L,)."""
    present, known = (labels == 1).sum(axis=0), (labels != 0).sum(axis=0)
    return np.asarray(present_share(present, known))


def spread_blocks(
    graph: Any, labels: NDArray[np.int8], dampings: Sequence[float]
) -> Iterator[tuple[slice, list[NDArray[np.float32]]]]:
    r"""Probabilities of presence from known entries reached by walks over the graph, a block of labels at a time.

    With :math:`F_0 = y - \pi` and :math:`C_0 = 1` where a label is known and both 0 elsewhere,

    .. math:: F \leftarrow a S F + (1 - a) F_0, \quad C \leftarrow a S C + (1 - a) C_0, \quad p = F / C + \pi

    Parameters
    ----------
    graph : csr_array of shape (n, n)
        The normalised graph S.
    labels : ndarray of int8, shape (n, L)
        Values in {-1, 0, 1}.
    dampings : sequence of float
        Shares a that a row takes from its neighbours, in (0, 1); several need no more products than one.

    Yields
    ------
    slice, list of ndarray of float32, shape (n, b)
        The labels of the block, and their probabilities for each damping; the label's prior where no walk reaches a
        known entry.
    """
    for start in range(0, labels.shape[1], _BLOCK_LABELS):
        part = labels[:, start : start + _BLOCK_LABELS]
        prior, known, n = prior_of(part).astype(np.float32), part != 0, part.shape[1]
        # After t steps the iterate is (1 - a) times the sum of a^s S^s F_0 over s < t, plus a^t S^t F_0.
        walk = np.hstack([np.where(known, (part == 1) - prior, 0), known]).astype(np.float32)
        sums = [(1 - a) * walk for a in dampings]
        for step in range(1, _N_STEPS + 1):
            walk = graph @ walk
            for total, a in zip(sums, dampings):
                total += (a**step * (1 - a if step < _N_STEPS else 1)) * walk
        found = []
        for total in sums:
            share, reached = total[:, :n], total[:, n:]
            mean = np.divide(share, reached, out=np.zeros_like(share), where=reached > 0)
            found.append(np.clip(mean + prior, 0, 1))
        yield slice(start, start + n), found


def spread(graph: Any, labels: NDArray[np.int8], damping: float) -> NDArray[np.float32]:
    """The result of `spread_blocks` for one damping and all labels, shape (n, L)."""
    return np.hstack([found for _, (found,) in spread_blocks(graph, labels, [damping])])
