"""ROLE: the classifier is trained together with estimates of the training labels."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_choice, check_number, check_whole
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Step, mean_weight
from skpartial.losses._cross_entropy import cross_entropy, cross_entropy_gradient
from skpartial.losses._expected_positives import ExpectingLoss, count_penalty
from skpartial.losses._label_estimates import ESTIMATORS, CountPenalty, LabelEstimator, Table

__all__ = ["ROLE"]

_DTYPES = {"float32": torch.float32, "float16": torch.float16}
# Number of rows of the training set whose estimates are computed at a time.
_ROWS = 4096


class ROLE(ExpectingLoss):
    r"""Regularised online label estimation: classifier and label estimates are trained towards each other.

    .. math::

        \frac{1}{B L} \sum_{ij} \tfrac{1}{2} \left[
        1_{ij \text{ known}} \left( \ell(x_{ij}, y_{ij}) + \ell(\phi_{ij}, y_{ij}) \right)
        + \ell(x_{ij}, q_{ij}) + \ell(\phi_{ij}, p_{ij}) \right]
        + \tfrac{\lambda}{2} \left[ R(p) + R(q) \right], \quad
        R(v) = \left( \frac{1}{B L} \sum_{ij} v_{ij} - \frac{k}{L} \right)^2

    with cross-entropy :math:`\ell`, the classifier's probabilities :math:`p = \sigma(x)` and learned estimates :math:`q
    = \sigma(\phi)` of the training labels. Where p or q is a target, it is held fixed. In both, the mean number of
    positives in a batch is drawn to k, as in :class:`ExpectedPositives`. Estimates of a table start in [0.4, 0.6] for
    unknown entries, and at 0.995 or 0.005 for known ones; the state holds their logits as `estimate_logits` (N, L).
    After training, `label_estimates_`, float32 (N, L), holds q of the chosen epoch.

    Parameters
    ----------
    expected_positives : float or "estimate", default="estimate"
        The mean number k of positive labels per row, as in :class:`ExpectedPositives`.
    reg_weight : float, default=1.0
        Weight of the terms in R, at least 0.
    estimator : {"table", "factorized", "network"}, default="table"
        The source of the estimates. "table" learns one logit per entry, as published. The others suit large label sets.
        "factorized" learns a product of row and label factors of width `rank`, added to the logits of the known labels.
        "network" learns one hidden layer of that width, shared by all rows, which corrects the classifier's own
        estimates given its probabilities and the known labels; it needs no memory per row.
    rank : int, default=32
        Width of "factorized" and "network".
    storage : {"float32", "float16"}, default="float32"
        Type of the stored tensors with one entry per row; steps are computed in the type of the features.
    estimate_rate : float, default=10.0
        Learning rate of the estimates, as a multiple of the classifier's rate. For a linear classifier of d features it
        is multiplied by d / 100. For all d, a step then moves the logit of an estimate by 10 percent of the most that
        it can move a logit of the classifier. The published factor of 10, without that scaling, is about 0.5 here for
        features of a ResNet-50. Faster estimates were better, and depended less on early stopping.
    max_bytes : float, default=4e9
        Limit on the memory of the estimates and their optimiser's moments, in bytes. If they need more, `fit` raises an
        error before training.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).

    Notes
    -----
    The published optimiser, Adam over the whole table, moves all estimates in every step, even for rows outside the
    batch: their gradient is zero, but their momentum is not. Over an epoch this drift is about thirty times the step
    itself. Here the cost of a step depends on the batch only: the drift of a row is added in closed form when the row
    is next in a batch, with the same result.

    References
    ----------
    .. [1] E. Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, section 5.4.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import ROLE
    >>> labels = torch.tensor([[1, 0, 0], [0, 0, 1]])
    >>> loss = ROLE(expected_positives=1.5)
    >>> state = loss.init_state(labels, torch.Generator().manual_seed(0))
    >>> torch.sigmoid(state["estimate_logits"])[labels == 1]
    tensor([0.9950, 0.9950])
    >>> bool(loss(torch.zeros(2, 3), labels, state) > 0)
    True
    """

    short_names = {"role": {}}

    def __init__(
        self,
        expected_positives: float | Literal["estimate"] = "estimate",
        reg_weight: float = 1.0,
        estimator: Literal["table", "factorized", "network"] = "table",
        *,
        rank: int = 32,
        storage: Literal["float32", "float16"] = "float32",
        estimate_rate: float = 10.0,
        max_bytes: float = 4e9,
        eps: float = 0.0,
    ) -> None:
        super().__init__(expected_positives, reg_weight, eps=eps)
        self.estimator = estimator
        self.rank = rank
        self.storage = storage
        self.estimate_rate = estimate_rate
        self.max_bytes = max_bytes

    @property
    def _estimator(self) -> LabelEstimator:
        return ESTIMATORS[self.estimator](int(self.rank), float(self.estimate_rate), _DTYPES[self.storage])

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_choice(self, "estimator", self.estimator, tuple(ESTIMATORS))
        check_choice(self, "storage", self.storage, tuple(_DTYPES))
        check_whole(self, "rank", self.rank, 1)
        check_number(self, "estimate_rate", self.estimate_rate, "[0, inf)")
        check_number(self, "max_bytes", self.max_bytes, "[0, inf]")
        if labels is None:
            return
        needed = self._estimator.n_bytes(labels.n_rows, labels.n_labels)
        if needed > self.max_bytes:
            cure = "Use estimator='factorized' or 'network'" if self.estimator == "table" else "Lower rank"
            size = f"{needed / 1e9:.3g} GB" if needed >= 1e8 else f"{needed / 1e6:.3g} MB"
            raise ValueError(
                f"ROLE(estimator={self.estimator!r}, storage={self.storage!r}) needs {size} for the "
                f"estimates of {labels.n_rows} x {labels.n_labels} labels and their optimiser, more than "
                f"max_bytes={self.max_bytes:g}. {cure}, or raise max_bytes."
            )

    @override
    def state_spec(self) -> dict[str, StateTensor]:
        return {**super().state_spec(), **self._estimator.spec()}

    @override
    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State:
        expected = super().init_state(labels, generator, previous)
        estimator = self._estimator
        if previous is None or not set(estimator.spec()) <= set(previous):
            return {**expected, **estimator.start(labels, generator)}
        return {**expected, **estimator.resume(previous, labels)}

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        attributes = super().fitted_attributes(state)
        if state is None:
            return attributes
        estimator = self._estimator
        if isinstance(estimator, Table):
            attributes["label_estimates_"] = torch.sigmoid(state["estimate_logits"].float()).cpu().numpy()
        elif context is not None:
            device = state["expected_positives"].device
            n_labels = context.n_labels
            penalty = CountPenalty(self._expected(state) / n_labels, self.reg_weight, None)
            # In parts of equal size, because the penalty on the number of positives applies to each part.
            n_parts = -(-context.n_rows // _ROWS)
            parts = []
            for rows in torch.arange(context.n_rows, device=device).tensor_split(n_parts):
                labels, logits = context.labels(rows), context.logits(rows)
                estimates = estimator.forward(state, rows, labels, logits, penalty).logits
                parts.append(torch.sigmoid(estimates.float()).cpu().numpy())
            attributes["label_estimates_"] = np.concatenate(parts)
        return attributes

    @override
    def value_and_gradient(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Step:
        if state is None:
            raise ValueError("ROLE needs a state: pass the result of init_state(labels).")
        estimator = self._estimator
        with torch.no_grad():
            sample, divisor = mean_weight(weights, logits)
            expected = self._expected(state)
            penalty = CountPenalty(expected / logits.shape[1], self.reg_weight, sample)
            estimates, saved = estimator.forward(state, rows, labels, logits, penalty)
            present, known = (labels == 1).to(logits.dtype), (labels != 0).to(logits.dtype)
            weight = (1 + known) / 2
            if sample is not None:
                weight.mul_(sample)
            value = logits.new_zeros(())
            gradients = []
            for x, other in ((logits, estimates), (estimates, logits)):
                # For a known entry, half of the term is towards the label, and half towards the other side's
                # probability.
                target = torch.sigmoid(other).add_(present).div_(1 + known)
                p = torch.sigmoid(x)
                excess, slope = count_penalty(p, expected, sample, divisor)
                value = value + (cross_entropy(x, target, self.eps) * weight).sum() / divisor
                value = value + self.reg_weight / 2 * excess
                gradient = cross_entropy_gradient(x, target, self.eps).mul_(weight).div_(divisor)
                gradients.append(gradient.add_(self.reg_weight / 2 * slope * p * (1 - p)))
            return Step(value, gradients[0], estimator.backward(state, rows, saved, gradients[1]))
