"""Graphs of labels: relations from labels to the labels that they predict, with weights and names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial._checks import check_whole
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import names_or_positions
from skpartial.labels._matrix import present_share
from skpartial.labels._pairs import label_pairs

__all__ = ["LabelGraph", "LabelRelation", "check_graph", "cooccurrence_graph", "label_relations"]


class LabelGraph(NamedTuple):
    """Weights of the relations, and a mask of them.

    Parameters
    ----------
    weights : ndarray of float64, shape (L, L)
        Entry (i, j) says how strongly label i predicts label j.
    joined : ndarray of bool, shape (L, L)
        Whether there is a relation; its weight may start at 0.
    """

    weights: NDArray[np.float64]
    joined: NDArray[np.bool_]

    def without(self, labels: list[int]) -> LabelGraph:
        """The graph without all relations of some labels."""
        kept = np.ones(len(self.joined), dtype=bool)
        kept[labels] = False
        return LabelGraph(self.weights, self.joined & kept & kept[:, None])

    def normalized(self) -> LabelGraph:
        """The graph with a weight of 1 from each label to itself, and columns then scaled to sum to 1."""
        itself = np.eye(len(self.joined), dtype=bool)
        weights = np.where(itself, 1, np.where(self.joined, self.weights, 0))
        return LabelGraph(weights / weights.sum(axis=0), self.joined | itself)


def cooccurrence_graph(labels: LabelMatrix, n_neighbors: int) -> LabelGraph:
    """Join each label to the labels that occur most often together with it.

    Parameters
    ----------
    labels : LabelMatrix
        The training labels.
    n_neighbors : int
        Maximal number of other labels that each label is joined to.

    Returns
    -------
    LabelGraph
        The weight from label i to label j is the share of positives of i in rows where j is positive, minus the share
        in all rows, both among rows where i is known. Weights of independent labels start at 0.
    """
    values = sp.csr_array(labels.values)
    present, known = (values == 1).astype(np.float64), (values != 0).astype(np.float64)
    together, both_known = ((part.T @ present).toarray() for part in (present, known))
    shares = present_share(labels.count(1, axis=0), labels.count(axis=0))
    # One row with the overall share is added; otherwise a relation seen in a single row could be the strongest.
    rates = (together + shares[:, None]) / (both_known + 1)
    joined = together > 0
    np.fill_diagonal(joined, False)
    if n_neighbors < len(joined) - 1:
        last = np.argsort(-np.where(joined, rates, 0), axis=0, kind="stable")[n_neighbors:]
        np.put_along_axis(joined, last, False, axis=0)
    return LabelGraph((rates - shares[:, None]).clip(min=0), joined)


def check_graph(graph: Any, labels: LabelMatrix, name: str) -> LabelGraph:
    """The user's graph in the order of the labels; raises an error if it does not fit these labels.

    Parameters
    ----------
    graph : array-like, DataFrame or sparse matrix, shape (L, L)
        Weights of at least 0.
    labels : LabelMatrix
        The labels that the graph joins.
    name : str
        Name of the graph in error messages.

    Returns
    -------
    LabelGraph
        Relations are where weights are above 0. Columns with weights above 1, such as counts, are divided by their
        largest weight.
    """
    pairs = label_pairs(graph, labels.names, labels.n_labels, name)
    weights: NDArray[np.float64] = pairs.toarray() if sp.issparse(pairs) else pairs
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(f"{name} must hold finite weights of at least 0.")
    return LabelGraph(weights / weights.max(axis=0).clip(min=1), weights > 0)


class LabelRelation(NamedTuple):
    """How strongly one label predicts another.

    Parameters
    ----------
    source, target : str
        Names of the two labels.
    weight : float
        Share of the source in the target, in [0, 1].
    """

    source: str
    target: str
    weight: float


def label_relations(
    graph: Any, label_names: Sequence[Any] | None = None, *, n_relations: int = 20, target: Any = None
) -> list[LabelRelation]:
    """The strongest relations of a label graph, by name.

    Parameters
    ----------
    graph : fitted estimator, or array-like or sparse matrix of shape (L, L)
        An estimator with `label_graph_` and `label_names_`, or a graph whose entry (i, j) says how strongly label i
        predicts label j.
    label_names : sequence of L names, or None, default=None
        Names of the labels; None takes the names of the estimator, or counts from 0.
    n_relations : int, default=20
        Number of relations.
    target : str or None, default=None
        Name of the target label; None means any.

    Returns
    -------
    list of LabelRelation
        Named tuples `(source, target, weight)`, the strongest first. Relations of a label with itself and weights of 0
        are left out.

    Raises
    ------
    ValueError
        If an estimator has no label graph, or the names or `target` do not match.

    Examples
    --------
    >>> from skpartial.regularizers import label_relations
    >>> graph = [[0.6, 0.5, 0.0], [0.4, 0.5, 0.1], [0.0, 0.0, 0.9]]
    >>> for source, target, weight in label_relations(graph, ["car", "wheel", "road"], n_relations=2):
    ...     print(f"{source} -> {target}: {weight}")
    car -> wheel: 0.5
    wheel -> car: 0.4
    """
    check_whole(None, "n_relations", n_relations, 1)
    if hasattr(graph, "fit"):
        if not hasattr(graph, "label_graph_"):
            raise ValueError(
                f"{type(graph).__name__} has no label_graph_: fit it with regularizer=InteractiveSmoothness() first."
            )
        label_names = graph.label_names_ if label_names is None else label_names
        graph = graph.label_graph_
    weights = np.array(graph.toarray() if sp.issparse(graph) else graph, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(f"graph must be a square matrix, got shape {weights.shape}.")
    names = names_or_positions(label_names, len(weights), "graph")
    np.fill_diagonal(weights, 0)
    if target is not None:
        if str(target) not in names:
            raise ValueError(f"target={target!r} is not one of the labels.")
        weights[:, [name != str(target) for name in names]] = 0
    order = np.argsort(-weights, axis=None, kind="stable")[:n_relations]
    pairs = zip(*np.unravel_index(order, weights.shape))
    return [LabelRelation(names[i], names[j], float(weights[i, j])) for i, j in pairs if weights[i, j] > 0]
