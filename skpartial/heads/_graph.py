"""Graphs of labels: the neighbours of each label and their weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from skpartial.labels._pairs import label_pairs

__all__ = ["companion_graph", "user_graph"]


def companion_graph(counts: sp.csr_array, n_neighbors: int) -> sp.csr_array:
    """The most frequent companions of each label, weighted by the number of rows that both share.

    Parameters
    ----------
    counts : csr_array of int64, shape (L, L)
        Number of rows in which two labels are both positive.
    n_neighbors : int
        Maximal number of companions per label.

    Returns
    -------
    csr_array of float64, shape (L, L)
        Rows sum to 1, or to 0 if a label has no companions. All rows store the same number of entries, some of which
        may be 0, so that graphs of different labels have the same shape.

    Raises
    ------
    ValueError
        If no two labels are positive in the same row.
    """
    n_labels = counts.shape[0]
    k = min(n_neighbors, n_labels - 1)
    indices, weights = np.zeros((n_labels, k), dtype=np.int64), np.zeros((n_labels, k))
    for label in range(n_labels):
        row = slice(counts.indptr[label], counts.indptr[label + 1])
        others, shared = counts.indices[row], counts.data[row]
        others, shared = others[others != label], shared[others != label]
        # Most frequent first; ties in label order.
        first = np.lexsort((others, -shared))[:k]
        indices[label, : len(first)], weights[label, : len(first)] = others[first], shared[first]
    if n_labels > 1 and not weights.any():
        raise ValueError(
            "graph='cooccurrence' needs labels that are positive in the same row, but no row of y has two positives: "
            "use graph='full', or pass your own matrix."
        )
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
    return sp.csr_array((weights.ravel(), indices.ravel(), k * np.arange(n_labels + 1)), shape=counts.shape)


def user_graph(graph: Any, label_names: list[str] | None, n_labels: int) -> sp.csr_array:
    """The user's weights, with each row divided by the sum of its absolute values.

    Parameters
    ----------
    graph : array-like, DataFrame or sparse matrix, shape (L, L)
        Row v holds the weights of the messages to label v.
    label_names : list of str, or None
        Names of the labels, by which a DataFrame is reordered.
    n_labels : int
        Number of labels L.

    Returns
    -------
    csr_array of float64, shape (L, L)
        The weights without the diagonal; the input is not changed.

    Raises
    ------
    ValueError
        If `graph` has another shape, other names or non-finite values.
    """
    edges = sp.coo_array(label_pairs(graph, label_names, n_labels, "graph"))
    if not np.isfinite(edges.data).all():
        raise ValueError("graph must hold finite numbers only, with 0 for labels that are not neighbours.")
    kept = (edges.row != edges.col) & (edges.data != 0)
    found = sp.csr_array((edges.data[kept], (edges.row[kept], edges.col[kept])), shape=edges.shape)
    sums = np.asarray(abs(found).sum(axis=1))
    found.data /= np.repeat(sums, np.diff(found.indptr))
    return found
