"""The generalised robust loss: unknown entries move from robust negatives to soft pseudo-labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from typing_extensions import override

from skpartial._checks import check_number, check_whole, wrong_value
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._entrywise import Block, Entries, EntrywiseLoss

__all__ = ["GeneralizedRobust"]

Pair = tuple[float, float]


class GeneralizedRobust(EntrywiseLoss):
    r"""Cross-entropy on known entries, and a robust loss with soft pseudo-labels on unknown ones (GR).

    .. math::

        f_{ij} = V \left[ K \frac{1 - p^{q_2}}{q_2} + (1 - K) \frac{1 - (1 - p)^{q_3}}{q_3} \right]
        \text{ if unknown}, \quad
        K = \sigma(w p + b), \quad V = \exp \frac{-(p - \mu)^2}{2 \sigma^2}

    K is the probability that a pseudo-label is positive, and V weights the entry; p is held fixed in both. The four
    numbers :math:`w, b, \mu, \sigma` change linearly from a first to a last value during training. By default unknown
    entries are first treated as mostly negative regardless of their logits, and later according to the predictions.

    Parameters
    ----------
    exponents : pair of float, default=(0.01, 1.0)
        Robustness :math:`(q_2, q_3)` of the positive and the negative term, in (0, 1]: a term is cross-entropy in the
        limit of 0, and the absolute error at 1.
    slope, bias : pair of float, default=(0.0, 2.0) and (-2.0, -2.0)
        First and last value of w and of b.
    center, width : pair of float, default=(0.5, 0.8) and (2.0, 0.5)
        First and last value of :math:`\mu` and of :math:`\sigma`, which is positive.
    n_epochs : int, default=8
        The epoch E at which the last values are reached.

    Notes
    -----
    In epoch t the schedule is at (t - 1) / (E - 1) of the way from the first to the last value. The released code has w
    and b at (t - 1) / E of the way and the other two at t / E; for E = 8 that is ``slope=(0, 1.75)``, ``center=(0.5375,
    0.8)`` and ``width=(1.8125, 0.5)`` here.

    References
    ----------
    .. [1] Y. Chen, C. Li, X. Dai, J. Li, W. Sun, Y. Wang, R. Zhang, T. Zhang, B. Wang, "Boosting Single Positive
       Multi-label Classification with Generalized Robust Loss", IJCAI 2024.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import GeneralizedRobust
    >>> loss, logits, labels = GeneralizedRobust(), torch.tensor([[2.0, -2.0]]), torch.tensor([[0, 0]])
    >>> for epoch in (1, 8):
    ...     print(loss.value_and_gradient(logits, labels, epoch=epoch).gradient)
    tensor([[ 0.0384, -0.0051]])
    tensor([[ 0.0031, -0.0073]])
    """

    short_names = {"gr": {}}

    def __init__(
        self,
        exponents: Pair = (0.01, 1.0),
        slope: Pair = (0.0, 2.0),
        bias: Pair = (-2.0, -2.0),
        center: Pair = (0.5, 0.8),
        width: Pair = (2.0, 0.5),
        n_epochs: int = 8,
    ) -> None:
        self.exponents = exponents
        self.slope = slope
        self.bias = bias
        self.center = center
        self.width = width
        self.n_epochs = n_epochs

    @override
    def traits(self) -> Traits:
        return Traits(unknown="estimate", scheduled=True)

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        intervals = {
            "exponents": "(0, 1]",
            "slope": "(-inf, inf)",
            "bias": "(-inf, inf)",
            "center": "(-inf, inf)",
            "width": "(0, inf)",
        }
        for name, interval in intervals.items():
            pair = getattr(self, name)
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise wrong_value(self, name, "a pair of numbers", pair)
            for value in pair:
                check_number(self, name, value, interval)
        check_whole(self, "n_epochs", self.n_epochs, 1)

    def _now(self, pair: Pair, epoch: int) -> float:
        progress = 1.0 if self.n_epochs <= 1 else min(1.0, (epoch - 1) / (self.n_epochs - 1))
        return pair[0] + (pair[1] - pair[0]) * progress

    @override
    def entries(self, block: Block) -> Entries:
        x, (q2, q3) = block.needed_logits, self.exponents
        w, b, mu, sigma = (self._now(pair, block.epoch) for pair in (self.slope, self.bias, self.center, self.width))
        p, absent = torch.sigmoid(x), torch.sigmoid(-x)
        K = torch.sigmoid(w * p + b)
        V = torch.exp((p - mu).square().mul_(-0.5 / sigma**2))
        log_p, log_absent = F.logsigmoid(x), F.logsigmoid(-x)
        value = V * (-K * torch.expm1(q2 * log_p) / q2 - (1 - K) * torch.expm1(q3 * log_absent) / q3)
        gradient = V * ((1 - K) * torch.exp(q3 * log_absent) * p - K * torch.exp(q2 * log_p) * absent)
        present = (block.labels == 1).to(x.dtype)
        known = block.labels != 0
        cross_entropy = torch.where(block.labels == 1, -log_p, -log_absent)
        return Entries(torch.where(known, cross_entropy, value), torch.where(known, p - present, gradient))
