"""Ranking losses: every present label of a row shall score above every absent one, by a margin."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_choice
from skpartial._state import State
from skpartial.labels import LabelMatrix
from skpartial.losses._base import ClosedFormLoss, Step, Traits
from skpartial.losses._pairs import Pairs, sides_of

__all__ = ["PairwiseRanking", "RankingLoss"]


class RankingLoss(ClosedFormLoss):
    """What the ranking losses have in common: how they read unknown entries."""

    unknown: str

    @override
    def traits(self) -> Traits:
        if self.unknown == "ignore":
            return Traits(unknown="ignore", needs_absent=True, rows_need_present=True)
        return Traits(unknown="absent", rows_need_present=True)

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        check_choice(self, "unknown", self.unknown, ("absent", "ignore"))
        if labels is not None and labels.n_labels < 2:
            raise ValueError(
                f"{type(self).__name__} ranks the labels of a row, but y has one label only: use 'bce' or 'an'."
            )
        super().check(labels)


class PairwiseRanking(RankingLoss):
    r"""Hinge on the difference of every present and every absent label of a row.

    .. math::

        \frac{1}{n L} \sum_i \sum_{p \text{ present}} \sum_{q \text{ absent}} \max(0, 1 - s_{ip} + s_{iq})

    where the score s is the probability sigmoid(x), as published, or the logit x. Between probabilities the hinge never
    reaches zero, so that the loss is linear in them and does not stop at a margin.

    Only the order of the labels of a row is learned: `predict_proba` is the sigmoid of a score and no probability, and
    0.5 no natural threshold. Judge the loss by ranking metrics, and tune thresholds with
    :class:`~skpartial.model_selection.TunedThresholdsCV` where labels are to be predicted.

    Parameters
    ----------
    on : {"probability", "logit"}, default="probability"
        What is compared.
    unknown : {"absent", "ignore"}, default="absent"
        Whether unknown entries are read as absent, or are in no pair.

    Notes
    -----
    Of weights of shape (n, L) a pair gets the geometric mean of its two entries' weights, which for weights of rows is
    the weight of the row. An entry of weight zero is in no pair.

    References
    ----------
    .. [1] E. Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, appendix A.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import PairwiseRanking
    >>> logits, labels = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1, 0, -1]])
    >>> PairwiseRanking()(logits, labels)
    tensor(0.3766)
    >>> PairwiseRanking(on="logit", unknown="ignore")(logits, labels)
    tensor(0.)
    """

    short_names = {"pairwise": {}}

    def __init__(
        self,
        on: Literal["probability", "logit"] = "probability",
        unknown: Literal["absent", "ignore"] = "absent",
    ) -> None:
        self.on = on
        self.unknown = unknown

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        check_choice(self, "on", self.on, ("probability", "logit"))
        super().check(labels)

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
        sides = sides_of(logits, labels, weights, self.unknown)
        if self.on == "logit":
            pairs = Pairs(sides)
            hinge = pairs.hinge(1)
            return sides.step((pairs.weight * hinge.excess).sum(), pairs.gradient(hinge, pairs.weight), logits.dtype)
        score, complement = torch.sigmoid(sides.logits), torch.sigmoid(-sides.logits)
        presences, absences = sides.present.sum(1, keepdim=True), sides.absent.sum(1, keepdim=True)
        # The sum over pairs of linear terms falls apart into one sum for each side.
        value = (absences * sides.present * complement + presences * sides.absent * score).sum()
        slope = presences * sides.absent - absences * sides.present
        return sides.step(value, slope * score * complement, logits.dtype)
