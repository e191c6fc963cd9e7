"""Graphs of labels: who is told by whom, and with what weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from skpartial.labels._pairs import label_pairs

__all__ = ["companion_graph", "user_graph"]


def companion_graph(counts: sp.csr_array, n_neighbors: int) -> sp.csr_array:
    """Each label's most frequent companions, weighted by the rows that it shares with them.

    Parameters
    ----------
    counts : csr_array of int64, shape (L, L)
        In how many rows two labels are present together.
    n_neighbors : int
        How many of them a label has at most.

    Returns
    -------
    csr_array of float64, shape (L, L)
        Rows sum to 1, or to 0 where a label has no companions. All rows hold as many entries, some of which may be
        0, so that the graph of other labels has the same form.

    Raises
    ------
    ValueError
        If no two labels are present together.
    """
    n_labels = counts.shape[0]
    k = min(n_neighbors, n_labels - 1)
    indices, weights = np.zeros((n_labels, k), dtype=np.int64), np.zeros((n_labels, k))
    for label in range(n_labels):
        row = slice(counts.indptr[label], counts.indptr[label + 1])
        others, shared = counts.indices[row], counts.data[row]
        others, shared = others[others != label], shared[others != label]
        # The more frequent first, and of equals the first in order.
        first = np.lexsort((others, -shared))[:k]
        indices[label, : len(first)], weights[label, : len(first)] = others[first], shared[first]
    if n_labels > 1 and not weights.any():
        raise ValueError(
            "graph='cooccurrence' needs labels that are known to be present in the same row, and there are no two of "
            "them: use graph='full', or pass a matrix of your own."
        )
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
    return sp.csr_array((weights.ravel(), indices.ravel(), k * np.arange(n_labels + 1)), shape=counts.shape)


def user_graph(graph: Any, label_names: list[str] | None, n_labels: int) -> sp.csr_array:
    """A user's weights, divided by the sum of their absolute values in a row.

    Parameters
    ----------
    graph : array-like, DataFrame or sparse matrix, shape (L, L)
        Row v holds what label v is told by.
    label_names : list of str, or None
        Names of the labels, in whose order a table is put.
    n_labels : int
        Number of labels L.

    Returns
    -------
    csr_array of float64, shape (L, L)
        Without a diagonal; what was passed stays as it is.

    Raises
    ------
    ValueError
        If it has another shape or other names, or holds what is no finite number.
    """
    edges = sp.coo_array(label_pairs(graph, label_names, n_labels, "graph"))
    if not np.isfinite(edges.data).all():
        raise ValueError("graph must hold finite numbers, with 0 where one label says nothing about another.")
    kept = (edges.row != edges.col) & (edges.data != 0)
    found = sp.csr_array((edges.data[kept], (edges.row[kept], edges.col[kept])), shape=edges.shape)
    sums = np.asarray(abs(found).sum(axis=1))
    found.data /= np.repeat(sums, np.diff(found.indptr))
    return found
