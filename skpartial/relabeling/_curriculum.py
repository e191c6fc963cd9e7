"""Curriculum labelling: the model labels easy entries, and trains on with these labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_choice, check_flag, check_number, check_whole, wrong_value
from skpartial._state import State, StateTensor, TrainingContext
from skpartial._warnings import warn
from skpartial.heads import Ensemble, Head
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData
from skpartial.relabeling._base import Relabeling, RelabelingContext
from skpartial.relabeling._precision import N_BINS, binned_precision, precision_at

__all__ = ["Curriculum"]

#: Strategies, each with its default threshold and the interval of valid thresholds.
_THRESHOLDS: dict[str, tuple[float, str]] = {
    "threshold": (1.0, "[0, inf]"),
    "proportion": (0.8, "[0, 1]"),
    "positives": (2.0, "[-inf, inf]"),
    "ensemble": (1.0, "[0, inf]"),
    "uncertainty": (0.3, "[0, inf]"),
    "all": (0.0, "[0, 0]"),
    "calibrated": (0.8, "[0, 1]"),
}
# For "balanced" weights: weight of weak labels of the sign that is not over-represented.
_BALANCED = 0.3
# Number of parts of the known entries; one at a time is held out to measure precision.
_FOLDS = 5

Strategy = Literal["threshold", "proportion", "positives", "ensemble", "uncertainty", "all", "calibrated"]


class Curriculum(Relabeling):
    r"""Label unknown entries that are easy for the model, and train on with these labels.

    Before certain epochs, or rounds of :class:`~skpartial.solvers.FullBatch`, the model predicts the unknown entries.
    The entries chosen by the strategy get weak labels, which are used like known ones, with a weight. With logits
    x and threshold :math:`\theta`, the strategies label as follows:

    - "threshold": x of at least :math:`\theta` as positive, below :math:`-\theta` as negative (1);
    - "proportion": a share :math:`\theta` of all unknown entries, those with the largest \|x\|, by the sign of x (0.8).
      The paper sorts within a batch; here the whole training set is sorted;
    - "positives": x of at least :math:`\theta` as positive, and nothing as negative (2);
    - "ensemble": like "threshold", with the mean logits of the members of an :class:`~skpartial.heads.Ensemble` (1);
    - "uncertainty": entries whose logit has a variance of at most :math:`\theta` under dropout of the inputs of the
      head, by the sign of x (0.3). For a linear head the variance has a closed form:
      see :meth:`~skpartial.training.TrainingContext.logit_variance`;
    - "all": every entry by the sign of x. This is a baseline in the paper, called "2 steps";
    - "calibrated": every entry whose label is right with a probability of at least :math:`\theta` (0.8), weighted by
      that probability. It is measured on held-out entries: before each relabelling, a different fifth of the known
      entries is kept out of training. Precision is computed in 20 bins of predicted probabilities, and interpolated. It
      needs known positives and known negatives.

    Numbers in brackets are default thresholds; the paper has 2 for "threshold" and "ensemble", and 5 for "positives". A
    logit of 0 counts as negative. Known entries are never changed. A loss that depends on the share of known labels per
    row, such as :class:`~skpartial.losses.PartialBCE`, counts weak labels as known.

    Parameters
    ----------
    strategy : str, default="threshold"
        One of the strategies above.
    threshold : float or None, default=None
        The threshold :math:`\theta`; None means the default of the strategy. "all" has no threshold.
    weight : "balanced" or float, default="balanced"
        Weight of a weak label, at least 0, where a known label has weight 1. Weighted means divide by the sum of the
        weights. "balanced" keeps the weighted share of positives of each label as it is among known entries: weak
        labels of the under-represented sign have weight 0.3, and those of the other sign less. A model is more
        confident about the more frequent sign, usually negative, so with equal weights positives would become rarer
        with every relabelling. For "positives", "balanced" is 0.3. A label without any known negative has no share to
        keep: its weak labels have weight 1. If positives were recorded on purpose and only a few negatives, their share
        among known entries is far from the truth: pass 1. The paper has 1.
    epochs : sequence of int, or None, default=None
        Epochs or rounds before which to relabel, counted from 1; at least 2. None relabels once, halfway through the
        planned number. The paper relabels before epochs 10 and 15.
    accumulate : bool, default=False
        Whether weak labels are kept once given. By default all unknown entries are decided again each time.
    n_members : int, default=5
        Number of members of the ensemble, unless the estimator's head is one.
    dropout : float, default=0.5
        Share of the head's inputs that is dropped to measure uncertainty, unless the head has its own dropout.
    n_samples : int, default=20
        Number of dropout samples, if there is no closed form.

    See Also
    --------
    skpartial.losses.PartialBCE : The loss of the paper.
    skpartial.heads.Ensemble : Trains members side by side.

    Raises
    ------
    ValueError
        If the strategy is "calibrated" and y lacks known positives or known negatives.

    Notes
    -----
    A fitted estimator has `labels_in_use_`, the final training labels, and `relabeled_`, a structured array with one
    item per weak label: `row` and `label`, the `value`, 1 or -1, the `epoch` in which it got that value, and the last
    `score` that the strategy used. The score is the logit; for "uncertainty" it is the variance, and for "calibrated"
    the probability that the label is right. The state takes nine bytes per entry of y.

    References
    ----------
    .. [1] T. Durand, N. Mehrasa, G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial
       Labels", CVPR 2019, section 3.3, equations 8 to 12.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import drop_labels
    >>> from skpartial.relabeling import Curriculum
    >>> scenes = make_digit_scenes(300, random_state=0)
    >>> Y = drop_labels(scenes.target, known=0.3, random_state=0)
    >>> clf = PartialLabelClassifier(relabeling=Curriculum("proportion", 0.5), alpha=0.01).fit(scenes.data, Y)
    >>> added = clf.relabeled_
    >>> len(added), added.dtype.names
    (1050, ('row', 'label', 'value', 'epoch', 'score'))
    >>> truth = scenes.target[added["row"], added["label"]]
    >>> bool((added["value"] == truth).mean() > 0.8)
    True
    """

    # Weak labels from an earlier stage of training are used from the first epoch.
    from_start = True

    def __init__(
        self,
        strategy: Strategy = "threshold",
        threshold: float | None = None,
        *,
        weight: float | Literal["balanced"] = "balanced",
        epochs: Sequence[int] | None = None,
        accumulate: bool = False,
        n_members: int = 5,
        dropout: float = 0.5,
        n_samples: int = 20,
    ) -> None:
        self.strategy = strategy
        self.threshold = threshold
        self.weight = weight
        self.epochs = epochs
        self.accumulate = accumulate
        self.n_members = n_members
        self.dropout = dropout
        self.n_samples = n_samples

    def check(self) -> None:
        """Raise an error for invalid hyperparameters.

        Raises
        ------
        ValueError
            The message names the parameter, its value and the valid values.
        """
        check_choice(self, "strategy", self.strategy, tuple(_THRESHOLDS))
        if self.strategy == "all" and self.threshold is not None:
            raise wrong_value(self, "threshold", "None for strategy='all', which labels everything", self.threshold)
        if self.threshold is not None:
            check_number(self, "threshold", self.threshold, _THRESHOLDS[self.strategy][1])
        if self.weight != "balanced":
            check_number(self, "weight", self.weight, "[0, inf)", "'balanced' or a number of at least 0")
        if self.epochs is not None:
            what = "None or whole numbers of at least 2"
            if isinstance(self.epochs, str) or not np.iterable(self.epochs) or not len(list(self.epochs)):
                raise wrong_value(self, "epochs", what, self.epochs)
            for epoch in self.epochs:
                check_whole(self, "epochs", epoch, 2, what)
        check_flag(self, "accumulate", self.accumulate)
        check_whole(self, "n_members", self.n_members, 2)
        check_number(self, "dropout", self.dropout, "(0, 1)")
        check_whole(self, "n_samples", self.n_samples, 2)

    @property
    @override
    def looks_ahead(self) -> bool:
        return self.epochs is None

    @override
    def adapt_head(self, head: Head) -> Head:
        self.check()
        if self.strategy != "ensemble" or head.n_members > 1:
            return head
        return Ensemble(head, self.n_members)

    @override
    def state_spec(self) -> Mapping[str, StateTensor]:
        names = ["value", "epoch", "score", *(["fold"] if self.strategy == "calibrated" else [])]
        spec = {name: StateTensor(per_row=True) for name in names}
        return spec | {"precision": StateTensor()} if self.strategy == "calibrated" else spec

    @override
    def start(self, context: TrainingContext, previous: State | None = None) -> State:
        self._check_known(context.given.labels)
        shape = context.n_rows, context.n_labels
        if previous is not None and previous["value"].shape == shape:
            return {name: previous[name].clone() for name in self.state_spec()}
        state = {
            "value": torch.zeros(shape, dtype=torch.int8),
            "epoch": torch.zeros(shape, dtype=torch.int32),
            "score": torch.zeros(shape, dtype=torch.float32),
        }
        if self.strategy == "calibrated":
            state["fold"] = torch.randint(_FOLDS, shape, generator=context.generator, dtype=torch.int8)
            state["precision"] = torch.full((N_BINS, 2), torch.nan, dtype=torch.float64)
        return state

    def _check_known(self, given: LabelMatrix) -> None:
        """Refuse to measure precision on known entries of one sign, which every prediction of that sign gets right."""
        for sign, kind in ((1, "positives"), (-1, "negatives")):
            if self.strategy == "calibrated" and not given.count(sign, axis=0).any():
                raise ValueError(
                    "Curriculum(strategy='calibrated') measures precision on known positives and known negatives, but "
                    f"y has no known {kind}: record some, or choose another strategy, such as 'threshold'."
                )

    def _epochs(self, context: TrainingContext) -> list[int]:
        """Epochs before which labels are given."""
        if self.epochs is not None:
            return sorted({int(epoch) for epoch in self.epochs})
        return [max(2, math.ceil((context.n_epochs or 1) / 2))]

    @override
    def relabel(self, context: RelabelingContext) -> TrainingData | None:
        state, epochs = context.state, self._epochs(context)
        assert state is not None
        if context.epoch in epochs:
            self._label(context, state, epochs.index(context.epoch))
        elif context.epoch > 1:
            return None
        else:
            self._warn_if_idle(context, epochs)
            if self.strategy != "calibrated" and not bool(state["value"].any()):
                return None
        n_done = sum(epoch <= context.epoch for epoch in epochs)
        return self._in_use(context, state, None if n_done == len(epochs) else n_done % _FOLDS)

    def _warn_if_idle(self, context: RelabelingContext, epochs: list[int]) -> None:
        planned = context.n_epochs
        if planned is not None and epochs[0] > planned:
            warn(
                f"Curriculum first relabels before epoch or round {epochs[0]}, but only {planned} "
                f"{'is' if planned == 1 else 'are'} planned: raise solver__rounds or solver__max_epochs, or lower "
                "relabeling__epochs."
            )

    def _label(self, context: RelabelingContext, state: State, n_before: int) -> None:
        """Give weak labels, and record their epochs and scores."""
        given = torch.as_tensor(context.given.labels.toarray(), device=context.device)
        value, score = self._choose(context, state, given, n_before)
        value = torch.where(given == 0, value, 0).to(torch.int8)
        if self.accumulate:
            earlier = state["value"] != 0
            value, score = torch.where(earlier, state["value"], value), torch.where(earlier, state["score"], score)
        new = value != state["value"]
        state["epoch"].copy_(torch.where(value == 0, 0, torch.where(new, context.epoch, state["epoch"])))
        state["score"].copy_(torch.where(value == 0, 0.0, score))
        state["value"].copy_(value)

    def _choose(self, context: RelabelingContext, state: State, given: Tensor, n_before: int) -> tuple[Tensor, Tensor]:
        """Values that entries would get, 0 for none, and their scores; both are arbitrary for known entries."""
        logits, limit = context.logits(), self.threshold
        if limit is None:
            limit = _THRESHOLDS[self.strategy][0]
        signs = torch.where(logits > 0, 1, -1)
        if self.strategy in ("threshold", "ensemble"):
            return torch.where(logits >= limit, 1, torch.where(logits < -limit, -1, 0)), logits
        if self.strategy == "proportion":
            return signs * _largest(logits.abs(), given == 0, limit), logits
        if self.strategy == "positives":
            return (logits >= limit).to(signs.dtype), logits
        if self.strategy == "uncertainty":
            variance = context.logit_variance(dropout=self.dropout, n_samples=self.n_samples)
            return signs * (variance <= limit), variance
        if self.strategy == "all":
            return signs, logits
        held_out = (given != 0) & (state["fold"] == n_before % _FOLDS)
        probability = torch.sigmoid(logits.double())
        if bool(held_out.any()):
            state["precision"].copy_(binned_precision(probability[held_out], given[held_out] == 1))
        present = precision_at(state["precision"], probability)
        right = torch.maximum(present, 1 - present)
        return torch.where(present > 0.5, 1, -1) * (right >= limit), right

    def _in_use(self, context: RelabelingContext, state: State, held_out: int | None) -> TrainingData:
        """Known and weak labels with their weights; entries of a held-out fold have weight 0."""
        given = context.given.labels
        known, value = given.toarray() != 0, state["value"].cpu().numpy()
        labels: Any = np.where(known, given.toarray(), value)
        weights: NDArray[np.float32] | None = None
        if self.weight != 1 or self.strategy == "calibrated":
            weak = np.abs(value) * (state["score"].cpu().numpy() if self.strategy == "calibrated" else np.float32(1))
            if self.weight != "balanced":
                weak *= self.weight
            else:
                weak *= self._balanced(labels * known, value, weak)
            weights = np.where(value != 0, weak, 1).astype(np.float32)
        if self.strategy == "calibrated" and held_out is not None:
            assert weights is not None
            weights[known & (state["fold"].cpu().numpy() == held_out)] = 0
        return TrainingData.encode(sp.csr_array(labels) if given.is_sparse else labels, weights=weights)

    def _balanced(self, given: NDArray[Any], value: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        """Factors, shape (n, L) or (L,), of the weights of weak labels for "balanced"."""
        factors = _BALANCED if self.strategy == "positives" else _BALANCED * _balance(given, value, weights)
        # Recorded positives alone tell no share. A loss that treats unknown as negative would lose its negatives.
        return np.where((given == -1).any(0), factors, np.float32(1))

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        assert state is not None
        values, epochs, scores = (state[name].cpu().numpy() for name in ("value", "epoch", "score"))
        rows, labels = np.nonzero(values)
        kinds = [("row", np.int64), ("label", np.int64), ("value", np.int8), ("epoch", np.int64), ("score", np.float64)]
        record = np.empty(len(rows), dtype=kinds)
        columns = rows, labels, values[rows, labels], epochs[rows, labels], scores[rows, labels]
        for (name, _), column in zip(kinds, columns):
            record[name] = column
        return {"relabeled_": record}


def _largest(size: Tensor, among: Tensor, share: float) -> Tensor:
    """Mask of a share of some entries with the largest size, rounded to whole entries; ties go to the first."""
    candidates = torch.nonzero(among.ravel()).squeeze(1)
    order = torch.sort(size.ravel()[candidates], descending=True, stable=True).indices
    chosen = torch.zeros_like(among).ravel()
    chosen[candidates[order[: round(share * len(candidates))]]] = True
    return chosen.view_as(among)


def _balance(given: NDArray[Any], value: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """Factors (n, L) of at most 1 that give each label the share of positives, by weight, of its known entries."""
    known_present, known_absent = (given == 1).sum(0), (given == -1).sum(0)
    odds = (known_present + 0.5) / (known_absent + 0.5)
    present, absent = (np.where(value == sign, weights, 0).sum(0, dtype=np.float64) for sign in (1, -1))
    # If one sign is missing, its factor stays 1, and the factor of the other sign is 0.
    of_present = np.minimum(1, np.divide(absent * odds, present, out=np.ones(len(odds)), where=present > 0))
    of_absent = np.minimum(1, np.divide(present / odds, absent, out=np.ones(len(odds)), where=absent > 0))
    return np.where(value == 1, of_present, of_absent).astype(np.float32)
