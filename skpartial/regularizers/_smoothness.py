"""Interactive learning of similarities of labels and of images (IMCL)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from skpartial._checks import check_choice, check_flag, check_number, check_whole
from skpartial._state import State, StateTensor, TrainingContext
from skpartial._warnings import warn
from skpartial.labels import LabelMatrix
from skpartial.regularizers._base import BatchContext, Regularizer
from skpartial.regularizers._label_graph import LabelGraph, check_graph, cooccurrence_graph
from skpartial.regularizers._pursuit import MODES, JointPursuit, Mode, pursue

__all__ = ["InteractiveSmoothness"]

# Number of rows of the bank whose logits are computed at a time.
_BLOCK_ROWS = 1024
# Number of batches from which the terms are balanced.
_N_MEASURED = 10
# Bound of the exponents in the released code.
_LARGEST = 80.0
_GRAPHS = ("cooccurrence", "identity")


class _Rows(NamedTuple):
    """Rows of the bank or of a batch."""

    features: Tensor  # (b, d), or maps (b, C, h, w): input of the head
    known: Tensor  # (b, L), values of known labels, NaN where unknown


class InteractiveSmoothness(Regularizer):
    r"""Smoothness over similarities of labels and of images, learned together with the classifier (IMCL).

    Labels and features of every row i of a batch are reconstructed from at most k rows of a memory bank:

    .. math::

        \frac{1}{B} \sum_i \left[
        \lambda_y \lVert y_i - \sum_{s \in S_i} c_{is} \tilde y_s \rVert^2
        + \lambda_f \lVert f_i - \sum_{s \in S_i} \bar c_{is} f_s \rVert^2 \right]

    with labels y and features f of the B rows of the batch. The value of a label is 1 if it is positive, `absent_value`
    if negative, and in between if unknown, according to the predicted probability. In :math:`\tilde y_s`, predictions
    are first mixed by the label graph A: the value of label j is :math:`\sum_{j'} A_{j'j} y_{sj'}`. Every step has two
    parts. With the network fixed, :func:`joint_nnomp` finds the similar rows :math:`S_i` and the coefficients. With
    these fixed, the classifier takes a gradient step on the sum of loss and smoothness, and the graph, kept in [0, 1],
    takes one on the smoothness. The second term has a gradient only if a network computes the features.

    The method was published with a loss that ignores unknown entries. The classifier is first trained without the
    regulariser, to the optimum if the problem is convex, and then refined with it, by default in five epochs with step
    sizes that decrease to zero (`history_` has the stages "start" and "head"). With ``finetune="all"`` and in
    `partial_fit` there is no first stage.

    Parameters
    ----------
    label_weight : float, default=1.0
        Weight :math:`\lambda_y` of the labels in the choice of similar rows and in the smoothness, at least 0.
    feature_weight : float, default=0.5
        Weight :math:`\lambda_f` of the features, at least 0. If it is far above `label_weight`, similar rows are chosen
        by their features and not by their predicted labels, which helped most in our experiments.
    n_atoms : int, default=5
        Maximal number k of similar rows per row.
    n_neighbors_labels : int, default=50
        For "cooccurrence": maximal number of other labels that each label is joined to.
    label_graph : {"cooccurrence", "identity"} or array-like, DataFrame or sparse matrix, shape (L, L)
        The initial label graph. "cooccurrence" joins each label to the labels that most often occur together with it;
        weights are how much more often that is than in all rows. "identity" mixes nothing. Entry (j', j) of a matrix,
        at least 0, says how strongly label j' predicts label j, for example from text, a taxonomy or counts; entries of
        0 stay 0. The diagonal is set to 1, and columns are divided by their sums. If labels have names, a DataFrame is
        reordered by its names.
    learn_graph : bool, default=True
        Whether the weights of the graph are learned.
    bank_size : int, default=4096
        Number of rows in the memory bank. If the bank can hold the whole training set, it keeps all rows; in a smaller
        one, every batch replaces the oldest rows.
    absent_value : float, default=-0.5
        Value of a negative label, in [-1, 0). The closer to 0, the more similarities depend on positive labels.
    side_labels : sequence of str or int, or None, default=None
        Names or indices of labels that serve only to find similar training rows, such as a class shared by related
        images. They are joined to no other label. The classifier learns them too.
    side_weight : float, default=10.0
        Value of a positive side label, above 0. The larger it is, the more similar are rows that share one.
    balance : bool, default=False
        Whether both terms are rescaled to be as large as the loss over the first ten batches, so that the weights are
        relative to the loss. Otherwise they are divided by the number of labels, like the loss.
    mode : {None, "paper", "code"}, default=None
        How similar rows are found (see :func:`joint_nnomp`), and on which values. "paper" mixes known labels by the
        graph; None and "code" do not. None first scales features to the size of the labels, so that their unit has no
        effect. "code" takes :math:`(e^{2x} - 1) / (e^{2x} - 1/a)` for predictions, where x is the logit and a
        `absent_value`, and adds a constant feature of 1; "paper" and None, the linear function of the probability.

    Attributes
    ----------
    label_graph_ : ndarray of shape (L, L)
        Attribute of the fitted estimator: the weights A of the chosen epoch. :func:`label_relations` lists the
        strongest relations.

    Raises
    ------
    ValueError
        In `fit`, if y holds no -1. The method fills in unknown labels with predictions, and from positives alone a
        classifier learns to predict everything as positive.

    See Also
    --------
    joint_nnomp : The pursuit alone.
    label_relations : The strongest relations of a graph, by name.

    Notes
    -----
    In addition to the loss, a step computes the logits of the M rows in the bank and 2 k B M (L + d) operations. Per
    row, the bank holds the dense input of the head and one number per label. A row is never similar to itself, and a
    row without similar rows is in no term.

    Published settings: weights 1 and 0.5, k = 5 for Open Images (the released code for fixed features: k = 1); 2, 0.5
    and 5 for CUB, with the identity; 0.5, 0.5 and 3 for MS-COCO, and `absent_value` -1.

    References
    ----------
    .. [1] D. Huynh, E. Elhamifar, "Interactive Multi-Label CNN Learning with Partial Labels", CVPR 2020, equations 3 to
       8 and Algorithm 1.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import drop_labels
    >>> from skpartial.regularizers import InteractiveSmoothness
    >>> from skpartial.solvers import Minibatch
    >>> scenes = make_digit_scenes(300, random_state=0)
    >>> y = drop_labels(scenes.target, known=0.3, random_state=0)
    >>> smooth = InteractiveSmoothness(n_atoms=1)
    >>> clf = PartialLabelClassifier(regularizer=smooth, alpha=0.01, solver=Minibatch(max_epochs=3), random_state=0)
    >>> clf.fit(scenes.data, y).label_graph_.shape
    (10, 10)
    """

    refines = True

    def __init__(
        self,
        label_weight: float = 1.0,
        feature_weight: float = 0.5,
        n_atoms: int = 5,
        n_neighbors_labels: int = 50,
        label_graph: Any = "cooccurrence",
        learn_graph: bool = True,
        bank_size: int = 4096,
        absent_value: float = -0.5,
        side_labels: Sequence[Any] | None = None,
        side_weight: float = 10.0,
        balance: bool = False,
        mode: Mode = None,
    ) -> None:
        self.label_weight = label_weight
        self.feature_weight = feature_weight
        self.n_atoms = n_atoms
        self.n_neighbors_labels = n_neighbors_labels
        self.label_graph = label_graph
        self.learn_graph = learn_graph
        self.bank_size = bank_size
        self.absent_value = absent_value
        self.side_labels = side_labels
        self.side_weight = side_weight
        self.balance = balance
        self.mode = mode

    # ------------------------------------------------------------------------------------------------- before training

    @override
    def check(self, labels: LabelMatrix) -> None:
        for name in ("label_weight", "feature_weight"):
            check_number(self, name, getattr(self, name), "[0, inf)")
        if not (self.label_weight or self.feature_weight):
            raise ValueError("InteractiveSmoothness: label_weight and feature_weight must not both be 0.")
        for name in ("n_atoms", "n_neighbors_labels", "bank_size"):
            check_whole(self, name, getattr(self, name), 1)
        check_number(self, "absent_value", self.absent_value, "[-1, 0)")
        check_number(self, "side_weight", self.side_weight, "(0, inf)")
        for name in ("learn_graph", "balance"):
            check_flag(self, name, getattr(self, name))
        check_choice(self, "mode", self.mode, MODES)
        self._side_columns(labels)
        if isinstance(self.label_graph, str):
            check_choice(self, "label_graph", self.label_graph, _GRAPHS)
        else:
            check_graph(self.label_graph, labels, "label_graph")
        if not labels.has_absent:
            raise ValueError(
                "InteractiveSmoothness needs known negatives as well as positives, but y holds no -1: from positives "
                "alone a classifier learns to predict everything as positive. Annotate some negatives with -1, or "
                "leave out the regularizer and choose a loss for positives alone, such as 'role'."
            )

    def _side_columns(self, labels: LabelMatrix) -> list[int]:
        """Indices of the side labels."""
        names = [] if labels.names is None else [str(name) for name in labels.names]
        columns = []
        for label in () if self.side_labels is None else self.side_labels:
            if str(label) in names:
                columns.append(names.index(str(label)))
            elif isinstance(label, int | np.integer) and 0 <= label < labels.n_labels:
                columns.append(int(label))
            else:
                raise ValueError(f"InteractiveSmoothness: side_labels holds {label!r}, which is not one of the labels.")
        return columns

    def _own_columns(self, labels: LabelMatrix) -> list[int]:
        """Indices of all other labels."""
        side = set(self._side_columns(labels))
        return [label for label in range(labels.n_labels) if label not in side]

    def _graph(self, labels: LabelMatrix) -> LabelGraph:
        """The initial label graph."""
        if not isinstance(self.label_graph, str):
            graph = check_graph(self.label_graph, labels, "label_graph")
        elif self.label_graph == "identity":
            graph = LabelGraph(np.eye(labels.n_labels), np.eye(labels.n_labels, dtype=bool))
        else:
            graph = cooccurrence_graph(labels, int(self.n_neighbors_labels))
            if labels.n_labels > 1 and not graph.joined.any():
                warn(
                    "No two labels are known to be positive in the same row, so the label graph joins nothing: pass a "
                    "graph as label_graph, or set label_graph='identity'."
                )
        return graph.without(self._side_columns(labels)).normalized()

    @override
    def state_spec(self) -> Mapping[str, StateTensor]:
        names = ("bank_features", "bank_known", "bank_rows", "oldest", "presence", "edges", "feature_scale", "measured")
        graph = StateTensor(learned=bool(self.learn_graph), project=_within_unit)
        return {name: StateTensor() for name in names} | {"graph": graph}

    @torch.no_grad()
    @override
    def start(self, context: TrainingContext, previous: State | None = None) -> State:
        size, labels = min(int(self.bank_size), context.n_rows), context.given.labels
        rows = torch.randperm(context.n_rows, generator=context.generator)[:size].sort().values
        features = _wide(context.features(rows))
        dtype, device = features.dtype, features.device
        presence = torch.ones(context.n_labels, dtype=dtype, device=device)
        presence[self._side_columns(labels)] = float(self.side_weight)
        known = self._values(context.labels(rows), None, presence)
        if previous is None:
            weights, joined = self._graph(labels)
            edges, graph = torch.as_tensor(np.stack(joined.nonzero())), torch.as_tensor(weights[joined], dtype=dtype)
        else:
            edges, graph = previous["edges"], previous["graph"].to(dtype)
        return {
            "bank_features": features.clone(),
            "bank_known": known,
            "bank_rows": rows.to(device),
            # The slot to write next; -1 if the bank has a slot for every row.
            "oldest": torch.tensor(-1 if size == context.n_rows else 0),
            "presence": presence,
            "edges": edges,
            "graph": graph,
            "feature_scale": self._feature_scale(features, known[:, self._own_columns(labels)]),
            # Number of batches, and sums over batches of the loss and of the terms of labels and features.
            "measured": torch.zeros(4, dtype=torch.float64),
        }

    def _feature_scale(self, features: Tensor, known: Tensor) -> Tensor:
        """Factor that scales features to the length of label vectors with all labels known."""
        one = torch.ones((), dtype=features.dtype, device=features.device)
        if self.mode is not None:
            return one
        length = _vectors(features).square().sum(1).mean()
        values = known[~known.isnan()]
        square = values.square().mean() if len(values) else one * float(self.absent_value) ** 2
        target = max(1, known.shape[1]) * square
        return torch.where(length > 0, (target / length.clamp(min=torch.finfo(one.dtype).tiny)).sqrt(), one)

    # ------------------------------------------------------------------------------------------------ values of labels

    def _values(self, labels: Tensor, targets: Tensor | None, presence: Tensor) -> Tensor:
        """Values of known labels and soft targets, NaN elsewhere."""
        absent = float(self.absent_value)
        values = torch.full(labels.shape, torch.nan, dtype=presence.dtype, device=presence.device)
        values = torch.where(labels == 1, presence, values).masked_fill_(labels == -1, absent)
        if targets is None:
            return values
        return torch.where(targets.isnan(), values, absent + (presence - absent) * targets.to(presence.dtype))

    def _predicted(self, logits: Tensor, presence: Tensor) -> Tensor:
        """Values of predicted labels, between the values of a negative and of a positive label."""
        absent, logits = float(self.absent_value), logits.to(presence.dtype)
        if self.mode == "code":
            # exp(2 x); where it would overflow, both sides of the fraction are divided by it.
            growth = torch.exp((-2 * logits.abs()).clamp(min=-_LARGEST))
            above, below = torch.where(logits > 0, 1, growth), torch.where(logits > 0, growth, 1)
            return presence * (above - below) / (above - below / absent)
        return absent + (presence - absent) * torch.sigmoid(logits)

    def _mixed(self, known: Tensor, predicted: Tensor, graph: Tensor) -> Tensor:
        """Values of the labels in rows of the bank, mixed by the graph."""
        unknown = known.isnan()
        if self.mode == "paper":
            return torch.where(unknown, predicted, known) @ graph
        return torch.where(unknown, predicted @ graph, known)

    # -------------------------------------------------------------------------------------------------------- the term

    @override
    def __call__(self, batch: BatchContext) -> Tensor:
        state = batch.state
        if state is None:
            raise ValueError("InteractiveSmoothness needs a state: pass the result of `start`.")
        presence = state["presence"]
        own = _Rows(_wide(batch.features), self._values(batch.labels, batch.targets, presence))
        values = torch.where(own.known.isnan(), self._predicted(batch.logits, presence), own.known)
        compared, graph = self._compared(own.features, state), _matrix(state)
        with _evaluating(batch.head):
            found = self._similar(batch, state, values.detach(), compared.detach(), graph.detach())
            slots = found.support.clamp(min=0)
            chosen = _Rows(*(state[name][slots.flatten()] for name in ("bank_features", "bank_known")))
            predicted = self._predicted(batch.head(chosen.features), presence)
        mixed = self._mixed(chosen.known, predicted, graph).unflatten(0, slots.shape)
        weight = _row_weights(batch, found.support)
        of_labels = (weight * (values - _combined(found.label_coef, mixed)).square().sum(1)).sum()
        of_features = torch.zeros_like(of_labels)
        if own.features.requires_grad:
            # Rows of the bank are stored without a graph: only features of the batch have a gradient.
            similar = self._compared(chosen.features, state).unflatten(0, slots.shape)
            of_features = (weight * (compared - _combined(found.feature_coef, similar)).square().sum(1)).sum()
        scales = self._scales(batch, state, of_labels.detach(), of_features.detach())
        self._remember(batch.rows, own, state)
        total = scales[0] * float(self.label_weight) * of_labels
        return total + scales[1] * float(self.feature_weight) * of_features

    def _compared(self, features: Tensor, state: State) -> Tensor:
        """Features as passed to the pursuit."""
        vectors = _vectors(features) * state["feature_scale"]
        return nn.functional.pad(vectors, (0, 1), value=1.0) if self.mode == "code" else vectors

    @torch.no_grad()
    def _similar(
        self, batch: BatchContext, state: State, values: Tensor, compared: Tensor, graph: Tensor
    ) -> JointPursuit:
        """Similar rows of the bank and their coefficients, for the current network and graph."""
        bank = _Rows(state["bank_features"], state["bank_known"])
        logits = torch.cat([batch.head(part) for part in bank.features.split(_BLOCK_ROWS)])
        mixed = self._mixed(bank.known, self._predicted(logits, state["presence"]), graph)
        return pursue(
            (mixed, self._compared(bank.features, state)),
            (values, compared),
            (float(self.label_weight), float(self.feature_weight)),
            int(self.n_atoms),
            mode=self.mode,
            excluded=state["bank_rows"] == batch.rows[:, None],
        )

    @torch.no_grad()
    def _scales(self, batch: BatchContext, state: State, of_labels: Tensor, of_features: Tensor) -> Tensor:
        """Factors of the two terms, (2,)."""
        if not self.balance or batch.loss is None:
            return of_labels.new_full((2,), 1 / batch.logits.shape[1])
        measured = state["measured"]
        new = torch.stack([torch.ones_like(of_labels), batch.loss.to(of_labels), of_labels, of_features])
        measured += (measured[0] < _N_MEASURED) * new
        scales = measured[1] / measured[2:].clamp(min=torch.finfo(measured.dtype).tiny)
        return torch.where(measured[2:] > 0, scales, 0).to(of_labels)

    @torch.no_grad()
    def _remember(self, rows: Tensor, own: _Rows, state: State) -> None:
        """Put the rows of a batch into the bank."""
        size = len(state["bank_rows"])
        rows, own = rows[-size:], _Rows(*(part[-size:] for part in own))
        oldest = state["oldest"]
        slots = torch.where(oldest < 0, rows, (oldest + torch.arange(len(rows), device=rows.device)) % size)
        state["bank_features"][slots] = own.features.detach()
        state["bank_known"][slots] = own.known
        state["bank_rows"][slots] = rows
        oldest.copy_(torch.where(oldest < 0, oldest, (oldest + len(rows)) % size))

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        return {} if state is None else {"label_graph_": _matrix(state).detach().cpu().numpy()}


def _within_unit(weights: Tensor) -> Tensor:
    return weights.clamp(0, 1)


def _matrix(state: State) -> Tensor:
    """The label graph (L, L), from the stored weights."""
    n_labels, weights = len(state["presence"]), state["graph"]
    return weights.new_zeros(n_labels, n_labels).index_put(tuple(state["edges"]), weights)


def _wide(features: Tensor) -> Tensor:
    """Features as a dense tensor of at least single precision."""
    dense = features.to_dense() if features.is_sparse else features
    return dense.float() if dense.dtype.itemsize < 4 else dense


def _vectors(features: Tensor) -> Tensor:
    """One vector per row; for maps, the mean over positions."""
    return features.flatten(2).mean(2) if features.ndim > 2 else features


def _combined(coef: Tensor, atoms: Tensor) -> Tensor:
    """Sums of atoms (b, k, p), weighted by coefficients (b, k)."""
    return (coef[:, None] @ atoms).squeeze(1)


def _row_weights(batch: BatchContext, support: Tensor) -> Tensor:
    """Weight of each row, (b,); the sum is the share of the batch that has similar rows."""
    rows = torch.ones(len(support), dtype=batch.logits.dtype, device=support.device)
    if batch.weights is not None:
        rows = batch.weights.to(rows) if batch.weights.ndim == 1 else batch.weights.to(rows).mean(1)
    return rows * (support[:, 0] >= 0) / rows.sum().clamp(min=torch.finfo(rows.dtype).tiny)


@contextmanager
def _evaluating(head: nn.Module) -> Iterator[None]:
    """Turn off dropout, and keep the bank out of the statistics of batch norms."""
    modules = [module for module in head.modules() if module.training]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True
