"""Label propagation: rows without labels inherit labels from the nearest labelled rows, weighted by similarity."""

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
    r"""Give rows without labels the labels of the nearest labelled row, weighted by similarity.

    A row i without any known label inherits the labels of the nearest labelled row, with the weight

    .. math:: s_i = \exp(-d_i / t)

    where :math:`d_i` is the Euclidean distance between the two and t the bandwidth: rows far from all labelled rows
    hardly count. Labelled rows keep their labels and have weight 1.

    With fixed features this is done once, before training. With a network, whose features change, it is repeated on the
    current features every `refresh_every` epochs.

    Parameters
    ----------
    n_neighbors : int, default=1
        Number of labelled rows that a row inherits from. With more than one, the soft target of an entry is the mean of
        the neighbours' known labels, weighted by similarity. The weight of the entry is the sum of these similarities,
        divided by `n_neighbors`.
    bandwidth : "mean" or float, default="mean"
        Distance t at which a row has weight 1/e, positive. "mean" is the mean of :math:`d_i` over all rows, with 0 for
        labelled ones, as in the released code.
    refresh_every : int or None, default=None
        Number of epochs between propagations if the features change; None means every epoch. The paper has 20.
    fill : {"rows", "entries"}, default="rows"
        Entries to fill in: "rows" fills rows without any label; "entries" fills, in all rows, each unknown entry that
        is known in a neighbour.
    index : object or None, default=None
        Index for the neighbours, in place of the exact search, which compares every row with every labelled one. A
        clone is fitted to the labelled rows with `fit`, and queried with `kneighbors`, like
        :class:`sklearn.neighbors.NearestNeighbors`. Approximate indexes with these methods work too.

    Attributes
    ----------
    propagated_labels_ : ndarray or csr_array of int8, shape (n, L)
        Attribute of the fitted classifier: labels after the last propagation; 0 for soft targets of one half.
    similarities_ : ndarray of shape (n,)
        Attribute of the fitted classifier: the weight :math:`s_i` of each row, or its mean over several neighbours; 1
        for rows that keep their labels.
    neighbors_ : ndarray of int64, shape (n, n_neighbors)
        Attribute of the fitted classifier: the rows inherited from, nearest first; -1 for rows that keep their labels.

    See Also
    --------
    LabelSpreading : Uses all known entries, and is mostly better when many rows have a few known labels.

    Notes
    -----
    Unknown entries of the neighbour are inherited as unknown. With a loss that treats unknown as negative
    (``RampWARP()``, ``AssumeNegative()``), a row therefore inherits all entries of the neighbour, which is the
    published method.

    The time of the search is proportional to rows times labelled rows times features, hardly more than that matrix
    product. It needs chunks of 64 MB in addition to the labelled rows.

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
        # A partly labelled row does not inherit from itself.
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
    """Labels with soft targets from several neighbours, and weights of entries."""
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
    # An entry unknown in all neighbours has the weight of its row, for losses that use unknown entries.
    weights = np.ones(labels.shape)
    of_row = np.where((labels[rows] != 0).any(axis=1), 1.0, similarities.mean(axis=1))
    weights[rows] = np.where(filled, total / similarities.shape[1], of_row[:, None])
    return TrainingData(given, targets=targets, weights=weights)
