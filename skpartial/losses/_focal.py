"""Losses that weight an entry by how well it is already predicted: Hill and SPLC, and their terms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_number, check_whole
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._entrywise import Block, Entries, EntrywiseLoss

__all__ = ["SPLC", "Hill", "by_label", "focal_present"]


def focal_present(x: Tensor, gamma: float) -> Entries:
    r"""Value :math:`(1 - p)^γ (-\log p)` and its derivative."""
    absent, cost = torch.sigmoid(-x), F.softplus(-x)
    weight = absent**gamma
    return Entries(weight * cost, -weight * (gamma * (1 - absent) * cost + absent))


def by_label(labels: Tensor, present: Entries, absent: Entries, unknown: Entries) -> Entries:
    """Choose the term of each entry by its label."""
    value, gradient = (
        torch.where(labels == 1, a, torch.where(labels == -1, b, c)) for a, b, c in zip(present, absent, unknown)
    )
    return Entries(value, gradient)


class Hill(EntrywiseLoss):
    r"""A focal margin loss for positives, and a hill for unknown entries that releases confident predictions.

    .. math::

        f_{ij} = \begin{cases}
        -(1 - p_m)^2 \log p_m, \quad p_m = \sigma(x - m) & \text{present} \\
        -\log(1 - p) & \text{absent} \\
        (\lambda - p) p^2 & \text{unknown}
        \end{cases}

    With :math:`\lambda = 1.5` the derivative of the hill, :math:`3 p^2 (1 - p)^2`, vanishes at p = 1: an unknown entry
    that is confidently predicted as positive is not pulled down. The source sums over entries; here the loss is their
    mean.

    Parameters
    ----------
    margin : float, default=1.0
        Margin m of positives, in logits.
    peak : float, default=1.5
        The number :math:`\lambda`, at least 1.5, so that the hill rises everywhere.

    References
    ----------
    .. [1] Y. Zhang, Y. Cheng, X. Huang, F. Wen, R. Feng, Y. Li, Y. Guo, "Simple and Robust Loss Design for Multi-Label
       Learning with Missing Labels", arXiv:2112.07368, 2021.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import Hill
    >>> step = Hill().value_and_gradient(torch.tensor([[0.0, 10.0]]), torch.tensor([[0, 0]]))
    >>> [round(float(slope), 4) for slope in step.gradient[0]]
    [0.0938, 0.0]
    """

    short_names = {"hill": {}}

    def __init__(self, margin: float = 1.0, peak: float = 1.5) -> None:
        self.margin = margin
        self.peak = peak

    @override
    def traits(self) -> Traits:
        return Traits(unknown="absent")

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_number(self, "margin", self.margin, "[0, inf)")
        check_number(self, "peak", self.peak, "[1.5, inf)")

    @override
    def entries(self, block: Block) -> Entries:
        x = block.needed_logits
        p = torch.sigmoid(x)
        hill = Entries((self.peak - p) * p**2, p**2 * torch.sigmoid(-x) * (2 * self.peak - 3 * p))
        return by_label(block.labels, focal_present(x - self.margin, 2.0), Entries(F.softplus(x), p), hill)


class SPLC(EntrywiseLoss):
    r"""Self-paced loss correction: from the second epoch on, unknown entries predicted as positive count as positive.

    .. math::

        f_{ij} = \begin{cases}
        -(1 - p_m)^\gamma \log p_m, \quad p_m = \sigma(x - m) & \text{present} \\
        -\log(1 - p) & \text{absent} \\
        -(1 - p)^\gamma \log p & \text{unknown, } p > \tau \text{ and } t > 1 \\
        -p^\gamma \log(1 - p) & \text{unknown otherwise}
        \end{cases}

    The source sums over entries; here the loss is their mean.

    Parameters
    ----------
    threshold : float, default=0.6
        Probability :math:`\tau` above which an unknown entry counts as positive, in [0, 1].
    margin : float, default=1.0
        Margin m of positives, in logits.
    gamma : float, default=2.0
        Focusing :math:`\gamma`, at least 0.
    warm_up : int, default=1
        Epochs in which every unknown entry is treated as negative.

    References
    ----------
    .. [1] Y. Zhang et al., "Simple and Robust Loss Design for Multi-Label Learning with Missing Labels",
       arXiv:2112.07368, 2021.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import SPLC
    >>> logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[0, 0]])
    >>> [bool(SPLC().value_and_gradient(logits, labels, epoch=t).gradient[0, 0] > 0) for t in (1, 2)]
    [True, False]
    """

    short_names = {"splc": {}}

    def __init__(self, threshold: float = 0.6, margin: float = 1.0, gamma: float = 2.0, warm_up: int = 1) -> None:
        self.threshold = threshold
        self.margin = margin
        self.gamma = gamma
        self.warm_up = warm_up

    @override
    def traits(self) -> Traits:
        return Traits(unknown="absent", scheduled=True)

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_number(self, "threshold", self.threshold, "[0, 1]")
        check_number(self, "margin", self.margin, "[0, inf)")
        check_number(self, "gamma", self.gamma, "[0, inf)")
        check_whole(self, "warm_up", self.warm_up, 0)

    @override
    def entries(self, block: Block) -> Entries:
        x = block.needed_logits
        present = focal_present(x - self.margin, self.gamma)
        # By symmetry: a negative at x is a positive at -x.
        unknown = focal_present(-x, self.gamma)
        unknown = Entries(unknown.value, -unknown.gradient)
        if block.epoch > self.warm_up:
            taken = torch.sigmoid(x) > self.threshold
            unknown = Entries(*(torch.where(taken, a, b) for a, b in zip(focal_present(x, self.gamma), unknown)))
        return by_label(block.labels, present, Entries(F.softplus(x), torch.sigmoid(x)), unknown)
