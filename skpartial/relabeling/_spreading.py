"""Label spreading: soft targets for unknown entries, from nearby known entries in a graph of all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import override

from skpartial._checks import check_choice, check_least, check_number, check_whole, wrong_value
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels._data import TrainingData
from skpartial.relabeling._base import Relabeling, RelabelingContext
from skpartial.relabeling._graph import row_graph, spread, spread_blocks
from skpartial.relabeling._neighbors import check_index, nearest_rows

__all__ = ["LabelSpreading"]

# Candidates for "auto", and the number of folds of known entries that it holds out in turn.
_N_NEIGHBORS, _DAMPING = (10, 30, 60), (0.5, 0.8, 0.9, 0.97)
_N_FOLDS = 3
# Maximal number of held-out known entries: more do not improve the choice.
_MAX_HELD_OUT = 100_000


class LabelSpreading(Relabeling):
    r"""Fill unknown entries with soft targets, spread from known entries over a graph of all rows.

    Every row, whether fully, partly or not labelled, is joined to its nearest rows. An edge has the weight
    :math:`\max(0, c)^{\text{power}}`, where c is the cosine of the angle between the features of the two rows. S is the
    adjacency matrix, symmetric and normalised by degrees. The label of each known entry, minus the label's frequency
    :math:`\pi_j` among known entries, spreads over the graph:

    .. math::

        F \leftarrow a S F + (1 - a) F_0, \quad C \leftarrow a S C + (1 - a) C_0, \quad
        t_{ij} = \frac{F_{ij}}{C_{ij}} + \pi_j

    with :math:`F_0 = y - \pi` and :math:`C_0 = 1` where a label is known (y is 1 or 0), and both 0 elsewhere. The soft
    target of an unknown entry is t; known entries are not changed. The head is then trained as on complete labels, and
    predicts new rows.

    With fixed features this is done once, before training. With a network, whose features change, it is repeated on the
    current features.

    Parameters
    ----------
    n_neighbors : int or "auto", default="auto"
        Number of rows that each row is joined to. "auto" chooses 10, 30 or 60, whichever predicts held-out known
        entries with the smallest squared error.
    damping : float or "auto", default="auto"
        Share a of each entry that comes from its neighbours, in (0, 1); near 1, labels spread far. "auto" chooses 0.5,
        0.8, 0.9 or 0.97, together with `n_neighbors`.
    power : float, default=8.0
        Exponent of the cosines, positive.
    weights : {"equal", "certainty"}, default="equal"
        Whether filled entries have the same weight as known ones, or the weight abs(2 t - 1).
    refresh_every : int or None, default=None
        Number of epochs after which labels are spread again if the features change; None means every epoch.
    index : object or None, default=None
        Nearest-neighbour index with `fit` and `kneighbors`, like :class:`sklearn.neighbors.NearestNeighbors`. A clone
        of it is fitted on the rows, scaled to unit length. None searches exactly, in time that grows with the square of
        the number of rows.

    Attributes
    ----------
    spread_labels_ : ndarray of shape (n, L)
        Attribute of the fitted classifier: probabilities of presence for the training rows, 1 or 0 where the label is
        known, and NaN for labels that could not be spread. To predict rows in this way, include them, without labels,
        in the training rows.
    n_neighbors_, damping_ : int and float
        Attributes of the fitted classifier: the values used.

    Raises
    ------
    ValueError
        If no label has both a known positive and a known negative. Labels that lack one of the two are not spread.

    See Also
    --------
    Propagation : Copies the labels of the nearest labelled row, with a weight; rows are fully labelled or not at all.
    sklearn.semi_supervised.LabelSpreading : For one class per row, and rows that are labelled or not.

    Notes
    -----
    Soft targets matter: rounding them to positives and negatives loses most of the gain. If the known entries are not a
    random sample, :math:`\pi` is not the frequency of the label, and the gain is smaller. Memory is needed for chunks
    of 64 MB, the graph (12 bytes for each of 2 n k edges), and n x L targets.

    References
    ----------
    .. [1] D. Zhou, O. Bousquet, T. N. Lal, J. Weston, B. Schoelkopf, "Learning with Local and Global Consistency",
       NIPS 2003.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import drop_labels
    >>> from skpartial.relabeling import LabelSpreading
    >>> train, test = make_digit_scenes(500, random_state=0), make_digit_scenes(500, random_state=1)
    >>> Y = drop_labels(train.target, known=0.05, by="entry", random_state=0)
    >>> plain = PartialLabelClassifier("iu", alpha=0.01).fit(train.data, Y)
    >>> spread = PartialLabelClassifier("iu", relabeling=LabelSpreading(), alpha=0.01).fit(train.data, Y)
    >>> spread.score(test.data, test.target) > plain.score(test.data, test.target)
    True
    """

    from_start = True
    settled_on_features = True

    def __init__(
        self,
        n_neighbors: int | Literal["auto"] = "auto",
        damping: float | Literal["auto"] = "auto",
        power: float = 8.0,
        *,
        weights: Literal["equal", "certainty"] = "equal",
        refresh_every: int | None = None,
        index: Any = None,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.damping = damping
        self.power = power
        self.weights = weights
        self.refresh_every = refresh_every
        self.index = index

    def _check(self) -> None:
        for name in ("n_neighbors", "damping"):
            value = getattr(self, name)
            if isinstance(value, str) and value != "auto":
                raise wrong_value(self, name, "'auto' or a number", value)
        if not isinstance(self.n_neighbors, str):
            check_whole(self, "n_neighbors", self.n_neighbors, 1)
        if not isinstance(self.damping, str):
            check_number(self, "damping", self.damping, "(0, 1)")
        check_number(self, "power", self.power, "(0, inf)")
        check_choice(self, "weights", self.weights, ("equal", "certainty"))
        check_least(self, refresh_every=1)
        check_index(self, self.index)

    @override
    def state_spec(self) -> Mapping[str, StateTensor]:
        return {"chosen": StateTensor()}

    @override
    def start(self, context: TrainingContext, previous: State | None = None) -> State | None:
        self._check()
        return {"chosen": torch.zeros(2, dtype=torch.float64)}

    @override
    def relabel(self, context: RelabelingContext) -> TrainingData | None:
        given = context.given.labels
        if not context.is_due(self.refresh_every) or not (given.count(axis=1) < given.n_labels).any():
            return None
        both = (given.count(1, axis=0) > 0) & (given.count(-1, axis=0) > 0)
        if not both.any():
            raise ValueError(
                "LabelSpreading needs a label with both known positives and known negatives, but y has none. If only "
                "positives were recorded, use Propagation with a loss that treats unknown as negative, or record "
                "negatives."
            )
        if context.n_rows < 2:
            raise ValueError(f"LabelSpreading needs at least 2 rows, but X has {context.n_rows}.")
        labels, usable = given.toarray(), np.flatnonzero(both)
        rows = torch.arange(context.n_rows)
        asked = _N_NEIGHBORS if isinstance(self.n_neighbors, str) else (self.n_neighbors,)
        counts = sorted({min(k, context.n_rows - 1) for k in asked})
        dampings = _DAMPING if isinstance(self.damping, str) else (float(self.damping),)
        distances, found = nearest_rows(context, rows, rows, counts[-1], directions=True, index=self.index)
        cosines, neighbors = 1 - distances.numpy() ** 2 / 2, found.numpy()
        graphs = {k: row_graph(neighbors[:, :k], cosines[:, :k], self.power) for k in counts}
        k, damping = counts[0], dampings[0]
        if len(counts) * len(dampings) > 1:
            seed = int(torch.randint(1 << 31, (), generator=context.generator))
            k, damping = _best(graphs, labels[:, usable], dampings, np.random.default_rng(seed))
        assert context.state is not None
        context.state["chosen"].copy_(torch.tensor([k, damping], dtype=torch.float64))
        targets = np.full(labels.shape, np.nan, dtype=np.float32)
        targets[:, usable] = spread(graphs[k], labels[:, usable], damping)
        targets[labels != 0] = np.nan
        if self.weights == "equal":
            return TrainingData(given, targets=targets)
        certainty = np.where(np.isnan(targets), 1, np.abs(2 * targets - 1))
        return TrainingData(given, targets=targets, weights=certainty)

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        assert state is not None
        assert context is not None
        labels, targets = context.current.labels.toarray(), context.current.targets
        known = np.where(labels == 0, np.nan, labels == 1)
        k, damping = state["chosen"].tolist()
        return {
            "spread_labels_": known if targets is None else np.where(labels == 0, targets, known),
            "n_neighbors_": int(k),
            "damping_": damping,
        }


def _best(
    graphs: Mapping[int, Any], labels: NDArray[np.int8], dampings: Sequence[float], rng: np.random.Generator
) -> tuple[int, float]:
    """Number of neighbours and damping that predict held-out known entries with the least squared error."""
    rows, columns = np.nonzero(labels)
    fold = rng.integers(_N_FOLDS, size=len(rows))
    errors = np.zeros((len(graphs), len(dampings)))
    for part in range(_N_FOLDS):
        held = np.flatnonzero(fold == part)
        held = held[:: max(1, len(held) * _N_FOLDS // _MAX_HELD_OUT)]
        rest = labels.copy()
        rest[rows[held], columns[held]] = 0
        for i, graph in enumerate(graphs.values()):
            for block, found in spread_blocks(graph, rest, dampings):
                inside = held[(columns[held] >= block.start) & (columns[held] < block.stop)]
                at, truth = (rows[inside], columns[inside] - block.start), labels[rows[inside], columns[inside]] == 1
                errors[i] += [np.square(probability[at] - truth).sum() for probability in found]
    best, which = divmod(int(errors.argmin()), len(dampings))
    return list(graphs)[best], dampings[which]
