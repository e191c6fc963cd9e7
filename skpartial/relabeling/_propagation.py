"""Label propagation: rows without labels inherit those of the nearest labelled rows, and weigh by how near they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from skpartial._checks import check_choice, check_least, check_number, check_whole
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData
from skpartial.relabeling._base import Relabeling, RelabelingContext
from skpartial.relabeling._neighbors import check_index, nearest_rows

__all__ = ["Propagation"]


class Propagation(Relabeling):
    r"""Give rows without labels those of the nearest labelled row, weighted by how near it is.

    A row that has no known label takes over the labels of the nearest row that has some, and counts as

    .. math:: s_i = \exp(-d_i / t)

    rows, where :math:`d_i` is their Euclidean distance and t the bandwidth: what is far from everything that is
    labelled hardly counts. Labelled rows keep their labels and count 1.

    On features this is done once, before training. Behind a network, whose features change, it is done again on
    those of the present network, as often as `refresh_every` says.

    Parameters
    ----------
    n_neighbors : int, default=1
        Labelled rows that a row inherits from. With more than one, an entry gets a soft target, the mean of the
        neighbours' known labels by their similarities, and counts as much as these similarities add up to, divided by
        `n_neighbors`.
    bandwidth : "mean" or float, default="mean"
        Distance t at which a row counts 1/e, positive. "mean" is the mean of :math:`d_i` over all rows, labelled ones
        with 0, as in the released code.
    refresh_every : int or None, default=None
        Epochs between two propagations where the features change; None takes every epoch. The paper takes 20.
    fill : {"rows", "entries"}, default="rows"
        What is filled in: of rows without any label everything, or of all rows every unknown entry that is known in a
        neighbour.
    index : object or None, default=None
        Looks up neighbours in place of the exact search, which compares every row with every labelled one: a clone of
        it gets `fit` with the labelled rows and `kneighbors` with the others, as
        :class:`sklearn.neighbors.NearestNeighbors` has them; those of approximate searches do as well.

    Attributes
    ----------
    propagated_labels_ : ndarray or csr_array of int8, shape (n, L)
        Of the fitted classifier: labels after the last propagation. At one half of a soft target, 0.
    similarities_ : ndarray of shape (n,)
        Of the fitted classifier: what each row counts, :math:`s_i`, or its mean over several neighbours; 1 for rows
        that keep their labels.
    neighbors_ : ndarray of int64, shape (n, n_neighbors)
        Of the fitted classifier: the rows inherited from, nearest first; -1 for rows that keep their labels.

    See Also
    --------
    LabelSpreading : Where many rows are known in a few entries: uses all of them, and mostly finds more.

    Notes
    -----
    Unknown entries of the neighbour are inherited as unknown. A loss that reads unknown as absent
    (``RampWARP()``, ``AssumeNegative()``) so takes over all of the neighbour's row, which is the published method.

    The search takes time proportional to rows times labelled rows times features, hardly more than that matrix product,
    and chunks of 64 MB beside the labelled rows.

    References
    ----------
    .. [1] H. Cevikalp, B. Benligiray, O. N. Gerek, "Semi-Supervised Robust Deep Neural Networks for Multi-Label Image
       Classification", Pattern Recognition 2020, equations 5 and 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.relabeling import Propagation
    >>> X = np.array([[0.0], [4.0], [1.0], [3.5]])
    >>> Y = np.array([[1, -1], [-1, 1], [0, 0], [0, 0]])
    >>> clf = PartialLabelClassifier("iu", relabeling=Propagation(), alpha=0.1).fit(X, Y)
    >>> clf.propagated_labels_[2:]
    array([[ 1, -1],
           [-1,  1]], dtype=int8)
    >>> clf.neighbors_.ravel(), clf.similarities_.round(3)
    (array([-1, -1,  0,  1]), array([1.   , 1.   , 0.069, 0.264]))
    """

    from_start = True
    settled_on_features = True

    def __init__(
        self,
        n_neighbors: int = 1,
        bandwidth: float | Literal["mean"] = "mean",
        refresh_every: int | None = None,
        *,
        fill: Literal["rows", "entries"] = "rows",
        index: Any = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.bandwidth = bandwidth
        self.refresh_every = refresh_every
        self.fill = fill
        self.index = index

    def _check(self) -> None:
        check_whole(self, "n_neighbors", self.n_neighbors, 1)
        if not (isinstance(self.bandwidth, str) and self.bandwidth == "mean"):
            check_number(self, "bandwidth", self.bandwidth, "(0, inf)", "'mean' or a positive number")
        check_least(self, refresh_every=1)
        check_choice(self, "fill", self.fill, ("rows", "entries"))
        check_index(self, self.index)

    @override
    def state_spec(self) -> Mapping[str, StateTensor]:
        return {"neighbors": StateTensor(per_row=True), "similarities": StateTensor(per_row=True)}

    @override
    def start(self, context: TrainingContext, previous: State | None = None) -> State | None:
        self._check()
        n = context.n_rows
        return {
            "neighbors": torch.full((n, self.n_neighbors), -1, dtype=torch.int64),
            "similarities": torch.ones(n, dtype=torch.float64),
        }

    @override
    def relabel(self, context: RelabelingContext) -> TrainingData | None:
        if not context.is_due(self.refresh_every):
            return None
        given = context.given.labels
        known = given.count(axis=1)
        filled = known == 0 if self.fill == "rows" else known < given.n_labels
        if not filled.any():
            return None
        sources = np.flatnonzero(known > 0)
        # A row that is known in part does not inherit from itself.
        needed = self.n_neighbors + (self.fill == "entries")
        if len(sources) < needed:
            raise ValueError(
                f"Propagation(n_neighbors={self.n_neighbors}) needs at least {needed} rows with known labels to "
                f"inherit from, but y has {len(sources)}."
            )
        rows = np.flatnonzero(filled)
        distances, neighbors = nearest_rows(
            context, torch.as_tensor(rows), torch.as_tensor(sources), self.n_neighbors, index=self.index
        )
        similarities = self._similarities(distances.numpy(), context.n_rows)
        assert context.state is not None
        state, at = context.state, torch.as_tensor(rows, device=context.state["neighbors"].device)
        state["neighbors"][at] = neighbors.to(at.device)
        state["similarities"][at] = torch.as_tensor(similarities.mean(1), device=at.device)
        if self.n_neighbors == 1 and self.fill == "rows":
            weights = np.ones(context.n_rows)
            weights[rows] = similarities[:, 0]
            origin = np.arange(context.n_rows)
            origin[rows] = neighbors[:, 0].numpy()
            return TrainingData(given.take(origin), weights=weights)
        return _mixed(given, rows, neighbors.numpy(), similarities)

    def _similarities(self, distances: NDArray[np.float64], n_rows: int) -> NDArray[np.float64]:
        """Heat kernel of distances (m, k), in (0, 1]."""
        t = distances[:, 0].sum() / n_rows if isinstance(self.bandwidth, str) else float(self.bandwidth)
        return np.exp(-distances / t) if t > 0 else np.ones_like(distances)

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        assert state is not None
        assert context is not None
        return {
            "propagated_labels_": context.current.nearest_labels().values,
            "similarities_": state["similarities"].cpu().numpy(),
            "neighbors_": state["neighbors"].cpu().numpy(),
        }


def _mixed(
    given: LabelMatrix, rows: NDArray[np.intp], neighbors: NDArray[np.int64], similarities: NDArray[np.float64]
) -> TrainingData:
    """Labels with soft targets for what several neighbours know, and weights of entries."""
    labels = given.toarray()
    present, total = np.zeros((len(rows), given.n_labels)), np.zeros((len(rows), given.n_labels))
    for column, similarity in zip(neighbors.T, similarities.T):
        theirs = given.rows(column)
        present += similarity[:, None] * (theirs == 1)
        total += similarity[:, None] * (theirs != 0)
    filled = (labels[rows] == 0) & (total > 0)
    share = np.divide(present, total, out=np.full_like(present, np.nan), where=filled)
    targets = np.full(labels.shape, np.nan)
    targets[rows] = share
    # An entry that nobody knows weighs what its row does, for losses that make something of unknown entries.
    weights = np.ones(labels.shape)
    of_row = np.where((labels[rows] != 0).any(axis=1), 1.0, similarities.mean(axis=1))
    weights[rows] = np.where(filled, total / similarities.shape[1], of_row[:, None])
    return TrainingData(given, targets=targets, weights=weights)
