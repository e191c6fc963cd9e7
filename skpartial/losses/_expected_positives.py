"""Expected-positive regularisation, for which the mean number of positives per row is known."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import scipy.stats
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_number, wrong_value
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.losses._base import ClosedFormLoss, Step, Traits, mean_weight
from skpartial.losses._cross_entropy import cross_entropy, cross_entropy_gradient

__all__ = ["ExpectedPositives", "ExpectedPositivesEstimate", "ExpectingLoss", "count_penalty"]

_RESAMPLES = 9999


class ExpectedPositivesEstimate(NamedTuple):
    """The mean number of positive labels per row, with its uncertainty.

    Parameters
    ----------
    value : float
        The number used in training.
    low, high : float
        5th and 95th percentile of the bootstrap distribution; NaN if the number was passed or estimated from a single
        row.
    n_rows : int
        Number of fully labelled rows it was estimated from; 0 if it was passed.
    """

    value: float
    low: float
    high: float
    n_rows: int


def complete_row_counts(labels: Tensor) -> NDArray[np.float64]:
    """Number of positive labels in each fully labelled row; `labels` is dense or sparse CSR."""
    if labels.layout == torch.sparse_csr:
        start, n_labels = labels.crow_indices().numpy(), labels.shape[1]
        complete = np.flatnonzero(np.diff(start) == n_labels)
        entries = start[complete][:, None] + np.arange(n_labels)
        counts = (labels.values().numpy()[entries] == 1).sum(1)
    else:
        complete_rows = labels[(labels != 0).all(dim=1)]
        counts = (complete_rows == 1).sum(dim=1).cpu().numpy()
    return np.asarray(counts, dtype=np.float64)


def estimate_expected_positives(counts: NDArray[np.float64], seed: int) -> ExpectedPositivesEstimate:
    """Mean of the counts, with percentiles over bootstrap samples of the rows."""
    value = float(counts.mean())
    if len(counts) == 1:
        return ExpectedPositivesEstimate(value, float("nan"), float("nan"), 1)
    if np.ptp(counts) == 0:
        return ExpectedPositivesEstimate(value, value, value, len(counts))
    # The paper draws its samples from a fully labelled training set; with a few such rows, the bootstrap is the
    # analogue.
    interval = scipy.stats.bootstrap(
        (counts,), np.mean, confidence_level=0.9, method="percentile", n_resamples=_RESAMPLES, batch=500, rng=seed
    ).confidence_interval
    return ExpectedPositivesEstimate(value, float(interval.low), float(interval.high), len(counts))


def count_penalty(
    probabilities: Tensor, expected: float | Tensor, sample: Tensor | None, divisor: Tensor | float
) -> tuple[Tensor, Tensor]:
    r"""Penalty on the mean number of positives in a batch, and its derivative in the probabilities.

    .. math:: R(p) = \left(\frac{\hat k(p) - k}{L}\right)^2, \quad \hat k(p) = \frac{1}{B} \sum_{ij} p_{ij}

    Parameters
    ----------
    probabilities : Tensor of shape (B, L)
        Probabilities of presence p.
    expected : float or Tensor of shape ()
        The number k.
    sample : Tensor broadcastable to (B, L), or None
        Sample weights. A row counts by the mean of its weights: weights of single entries may depend on their labels,
        and would bias the number of positives.
    divisor : Tensor or float
        Sum of the sample weights over all entries.

    Returns
    -------
    value : Tensor of shape ()
        The penalty.
    derivative : Tensor broadcastable to (B, L)
        The derivative in each probability.
    """
    sample = None if sample is None else sample.mean(1, keepdim=True)
    mean = (probabilities if sample is None else probabilities * sample).sum() / divisor
    excess = mean - expected / probabilities.shape[1]
    derivative = 2 * excess / divisor
    return excess.square(), derivative if sample is None else derivative * sample


class ExpectingLoss(ClosedFormLoss):
    """Base class of losses that know the mean number of positive labels per row.

    The state holds `expected_positives`, a tensor of the four fields of :class:`ExpectedPositivesEstimate`, which is
    also the fitted attribute `expected_positives_`. Of two estimates, the one from more rows is kept. Estimating raises
    an error if no row is fully labelled, or if no such row has a positive.

    Parameters
    ----------
    expected_positives : float or "estimate", default="estimate"
        The mean number k of positive labels per row.
    reg_weight : float, default=1.0
        Weight of the penalty on the number of positives.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    """

    def __init__(
        self, expected_positives: float | Literal["estimate"] = "estimate", reg_weight: float = 1.0, *, eps: float = 0.0
    ) -> None:
        self.expected_positives = expected_positives
        self.reg_weight = reg_weight
        self.eps = eps

    @override
    def traits(self) -> Traits:
        return Traits(unknown="estimate")

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_number(self, "reg_weight", self.reg_weight, "[0, inf)")
        check_number(self, "eps", self.eps, "[0, 1)")
        if isinstance(self.expected_positives, str):
            if self.expected_positives != "estimate":
                raise wrong_value(self, "expected_positives", "a number or 'estimate'", self.expected_positives)
            return
        k = check_number(self, "expected_positives", self.expected_positives, "(0, inf)")
        if labels is not None and k > labels.n_labels:
            raise ValueError(
                f"{type(self).__name__}: expected_positives={self.expected_positives!r} is more than the "
                f"{labels.n_labels} labels of y."
            )

    @override
    def state_spec(self) -> dict[str, StateTensor]:
        return {"expected_positives": StateTensor()}

    @override
    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State:
        if self.expected_positives != "estimate":
            estimate = ExpectedPositivesEstimate(float(self.expected_positives), float("nan"), float("nan"), 0)
        else:
            counts = complete_row_counts(labels)
            # Keep the estimate from more rows: this training set may be one chunk of a stream.
            if previous is not None and int(previous["expected_positives"][3]) > len(counts):
                return {"expected_positives": previous["expected_positives"].clone()}
            if not len(counts):
                name = type(self).__name__
                raise ValueError(
                    f"{name}: expected_positives cannot be estimated, because no row of y is fully labelled. Pass the "
                    f"mean number of positive labels per row, such as {name}(expected_positives=2.9), or label a few "
                    "rows in full."
                )
            if not counts.any():
                raise ValueError(
                    f"{type(self).__name__}: expected_positives cannot be estimated, because none of the {len(counts)} "
                    "fully labelled rows of y has a positive. Pass the mean number of positive labels per row."
                )
            seed = int(torch.randint(1 << 31, (), generator=generator))
            estimate = estimate_expected_positives(counts, seed)
        return {"expected_positives": torch.tensor(estimate, dtype=torch.float64)}

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        if state is None:
            return {}
        value, low, high, n_rows = state["expected_positives"].tolist()
        return {"expected_positives_": ExpectedPositivesEstimate(value, low, high, int(n_rows))}

    def _expected(self, state: State | None) -> float:
        if self.expected_positives != "estimate":
            return float(self.expected_positives)
        if state is None:
            raise ValueError(
                f"{type(self).__name__}(expected_positives='estimate') needs a state: pass the result of "
                "init_state(labels)."
            )
        return float(state["expected_positives"][0])


class ExpectedPositives(ExpectingLoss):
    r"""Fit known entries, and the mean number of positives in a batch (EPR).

    .. math::

        \frac{1}{B L} \sum_{ij \text{ known}} \ell(x_{ij}, y_{ij}) + \lambda \left(\frac{\hat k - k}{L}\right)^2,
        \quad \hat k = \frac{1}{B} \sum_{ij} p_{ij}

    where :math:`\ell` is cross-entropy. Nothing is assumed about a single unknown entry. The expected number k of
    positives per row keeps the classifier from predicting everything as positive. Because the second term depends on
    the whole batch, the loss is trained in minibatches.

    Parameters
    ----------
    expected_positives : float or "estimate", default="estimate"
        The mean number k of positive labels per row, in (0, L]. "estimate" takes the mean over the fully labelled rows
        of the training set; a handful is enough. The fitted attribute `expected_positives_` holds it, with the fields
        `value`, `low` and `high` (5th and 95th percentile of the bootstrap distribution) and `n_rows`. If no row is
        fully labelled, as with single positives, k must be passed.
    reg_weight : float, default=1.0
        Weight of the second term, at least 0. The source's equation has no 1 / L in the first term, so that its weight
        of 1 is 1 / L here; its released code is as here.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).

    References
    ----------
    .. [1] E. Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, section 5.3 and
       appendix B for the estimate.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import ExpectedPositives
    >>> logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]])
    >>> ExpectedPositives(expected_positives=1.5)(logits, labels)
    tensor(0.0941)
    """

    short_names = {"epr": {}}

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
        with torch.no_grad():
            sample, divisor = mean_weight(weights, logits)
            target, weight = (labels == 1).to(logits.dtype), (labels != 0).to(logits.dtype)
            if sample is not None:
                weight.mul_(sample)
            p = torch.sigmoid(logits)
            penalty, slope = count_penalty(p, self._expected(state), sample, divisor)
            value = (cross_entropy(logits, target, self.eps) * weight).sum() / divisor + self.reg_weight * penalty
            gradient = cross_entropy_gradient(logits, target, self.eps).mul_(weight).div_(divisor)
            gradient += self.reg_weight * slope * p * (1 - p)
            return Step(value, gradient, {})
