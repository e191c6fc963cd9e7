"""Log-sum-exp losses: smooth ranking of labels against each other (LSEP), or against a threshold of zero (ZLPR)."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus
from typing_extensions import override

from skpartial._checks import check_number
from skpartial._state import State
from skpartial.labels import LabelMatrix
from skpartial.losses._base import ClosedFormLoss, Step, Traits, mean_weight

__all__ = ["LSEP", "ZLPR"]


class _Sum(NamedTuple):
    """The log of a sum of exponentials per row, (n, 1), and the derivative in each exponent, (n, L)."""

    log: Tensor
    shares: Tensor


def _log_sum(exponents: Tensor) -> _Sum:
    """Log-sum-exp of each row; exponents are -inf for entries outside the sum."""
    log = exponents.logsumexp(1, keepdim=True)
    # A row without entries in the sum has log = -inf.
    return _Sum(log, (exponents - torch.where(log.isfinite(), log, 0)).exp())


class LogSumExpLoss(ClosedFormLoss):
    """Base class of both losses: log of one plus sums over the positive and the negative labels of each row."""

    unknown_weight: float
    #: Power of an entry's weight in the sum: one half if each term has one factor from either side.
    _power = 1.0

    @override
    def traits(self) -> Traits:
        if self.unknown_weight == 0:
            return Traits(unknown="ignore", needs_absent=True)
        return Traits(unknown="absent")

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        check_number(self, "unknown_weight", self.unknown_weight, "[0, inf)")
        super().check(labels)

    @abstractmethod
    def _rows(self, present: _Sum, absent: _Sum) -> tuple[Tensor, Tensor]:
        """Values of the rows, (n, 1), and their derivatives in the logits, (n, L)."""

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
        x = logits.detach().double()
        sample, divisor = mean_weight(weights, x)
        used = torch.ones_like(x).masked_fill_(labels == 0, float(self.unknown_weight))
        row = x.new_ones(len(x), 1)
        if sample is not None:
            # The weight of a row is the mean weight of its entries; in the sums, entries are weighted relative to it.
            counted = (used > 0).to(x)
            row = (sample * counted).sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp(min=1)
            used = used * sample / torch.where(row > 0, row, 1)
        log_weight = self._power * used.log()
        nothing = torch.full_like(x, -torch.inf)
        present = _log_sum(torch.where(labels == 1, log_weight - x, nothing))
        absent = _log_sum(torch.where(labels == 1, nothing, log_weight + x))
        value, gradient = self._rows(present, absent)
        scale = row / divisor
        return Step((scale * value).sum().to(logits.dtype), (scale * gradient).to(logits.dtype), {})


class LSEP(LogSumExpLoss):
    r"""Log-sum-exp pairwise ranking: a smooth penalty for negative labels that score above positive ones.

    .. math::

        \frac{1}{n L} \sum_i \log \Big( 1 + \sum_{p \text{ present}} \sum_{q \text{ absent}} e^{x_{iq} - x_{ip}} \Big)

    Unknown labels are in no pair. Unlike with hinges, all pairs contribute to the gradient, most of all those in the
    wrong order. A row without a pair has no term.

    Only the order of labels within each row is learned: `predict_proba` is the sigmoid of a score, not a probability,
    and 0.5 is not a natural threshold. Evaluate with ranking metrics, and to predict labels, tune thresholds with
    :class:`~skpartial.model_selection.TunedThresholdsCV`.

    Parameters
    ----------
    unknown_weight : float, default=0.0
        Weight of unknown labels, at least 0. Above 0 they count as negative, with terms multiplied by the square root
        of the weight.

    Notes
    -----
    The sum over pairs is a product of two sums, so time is O(L) per row. With sample weights of shape (n, L), a row has
    the mean weight of its entries, and a pair has the geometric mean of the weights of its two entries, divided by that
    mean. Weights of shape (n,) simply weight the rows.

    References
    ----------
    .. [1] Y. Li, Y. Song, J. Luo, "Improving Pairwise Ranking for Multi-label Image Classification", CVPR 2017.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import LSEP
    >>> LSEP()(torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([[1, -1, 0]]))  # log(1 + exp(-1)) / 3
    tensor(0.1044)
    """

    short_names = {"lsep": {}}
    _power = 0.5

    def __init__(self, unknown_weight: float = 0.0) -> None:
        self.unknown_weight = unknown_weight

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        if labels is not None and labels.n_labels < 2:
            raise ValueError("LSEP ranks the labels of each row, but y has only one label: use 'bce' or 'an'.")
        super().check(labels)

    @override
    def _rows(self, present: _Sum, absent: _Sum) -> tuple[Tensor, Tensor]:
        log = present.log + absent.log
        return softplus(log), torch.sigmoid(log) * (absent.shares - present.shares)


class ZLPR(LogSumExpLoss):
    r"""Zero-bounded log-sum-exp pairwise ranking: positive labels should score above zero, negative ones below.

    .. math::

        \frac{1}{n L} \sum_i \Big[ \log \Big( 1 + \sum_{p \text{ present}} e^{-x_{ip}} \Big)
        + \log \Big( 1 + \sum_{q \text{ absent}} e^{x_{iq}} \Big) \Big]

    Unknown labels are in no sum. The loss is convex in the logits. Unlike in :class:`LSEP`, each label is compared with
    a score of 0, which becomes the threshold of `predict`: 0.5 on the scale of `predict_proba`, which is the sigmoid of
    a score, not a probability.

    Parameters
    ----------
    unknown_weight : float, default=0.0
        Weight of unknown labels, at least 0. Above 0 they count as negative, with this weight in the sum.

    Notes
    -----
    With sample weights of shape (n, L), a row has the mean weight of its entries, and an entry in a sum has its own
    weight divided by that mean. Weights of shape (n,) simply weight the rows.

    References
    ----------
    .. [1] J. Su, M. Zhu, A. Murtadha, S. Pan, B. Wen, Y. Liu, "ZLPR: A Novel Loss for Multi-label Classification",
       arXiv:2208.02955, 2022.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import ZLPR
    >>> ZLPR()(torch.tensor([[1.0, 0.0, 5.0]]), torch.tensor([[1, -1, 0]]))  # (log(1 + exp(-1)) + log(2)) / 3
    tensor(0.3355)
    """

    short_names = {"zlpr": {}}

    def __init__(self, unknown_weight: float = 0.0) -> None:
        self.unknown_weight = unknown_weight

    @override
    def _rows(self, present: _Sum, absent: _Sum) -> tuple[Tensor, Tensor]:
        value = softplus(present.log) + softplus(absent.log)
        return value, torch.sigmoid(absent.log) * absent.shares - torch.sigmoid(present.log) * present.shares
