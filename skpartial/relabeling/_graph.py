"""A graph of rows, and labels that spread over it."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

__all__ = ["prior_of", "row_graph", "spread"]

# Steps of a walk: what lies farther has hardly any weight.
_N_STEPS = 30
# Labels that spread at a time, so that working arrays stay small beside the result.
_BLOCK_LABELS = 64


def row_graph(neighbors: NDArray[np.int64], cosines: NDArray[np.float64], power: float) -> Any:
    r"""The symmetric graph of nearest rows, normalised by the degrees: :math:`D^{-1/2} W D^{-1/2}`.

    Parameters
    ----------
    neighbors : ndarray of int64, shape (n, k)
        The nearest other rows of each row.
    cosines : ndarray of shape (n, k)
        Of the angles to them.
    power : float
        Exponent that makes weights of cosines above 0.

    Returns
    -------
    csr_array of float32, shape (n, n)
        Eigenvalues in [-1, 1].
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
    """Share of presences among the known entries of each label, with half an entry of each sign added; shape (L,)."""
    present, known = (labels == 1).sum(axis=0), (labels != 0).sum(axis=0)
    return (present + 0.5) / (known + 1)


def spread(graph: Any, labels: NDArray[np.int8], damping: float) -> NDArray[np.float32]:
    r"""Probabilities of presence, from the known entries that walks over the graph end in.

    With :math:`F_0 = y - \pi` and :math:`C_0 = 1` where a label is known and both 0 elsewhere,

    .. math:: F \leftarrow a S F + (1 - a) F_0, \quad C \leftarrow a S C + (1 - a) C_0, \quad p = F / C + \pi

    Parameters
    ----------
    graph : csr_array of shape (n, n)
        The normalised graph S.
    labels : ndarray of int8, shape (n, L)
        Values in {-1, 0, 1}.
    damping : float
        Share a of what a row has from its neighbours, in (0, 1).

    Returns
    -------
    ndarray of float32, shape (n, L)
        In [0, 1]; the prior of the label where no walk meets a known entry.
    """
    found = np.empty(labels.shape, dtype=np.float32)
    for start in range(0, labels.shape[1], _BLOCK_LABELS):
        part = labels[:, start : start + _BLOCK_LABELS]
        prior, known, n = prior_of(part).astype(np.float32), part != 0, part.shape[1]
        sources = np.hstack([np.where(known, (part == 1) - prior, 0), known]).astype(np.float32)
        spreading = sources
        for _ in range(_N_STEPS):
            spreading = damping * (graph @ spreading) + (1 - damping) * sources
        reached = spreading[:, n:] > 0
        mean = np.divide(spreading[:, :n], spreading[:, n:], out=np.zeros_like(spreading[:, :n]), where=reached)
        found[:, start : start + n] = np.clip(mean + prior, 0, 1)
    return found
