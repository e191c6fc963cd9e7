"""Ranking losses: every positive label of a row should score above every negative one, by a margin."""

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
    """Base class of the ranking losses, with their treatment of unknown entries."""

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
                f"{type(self).__name__} ranks the labels of each row, but y has only one label: use 'bce' or 'an'."
            )
        super().check(labels)


class PairwiseRanking(RankingLoss):
    r"""Hinge on the score difference of every positive and every negative label of a row.

    .. math::

        \frac{1}{n L} \sum_i \sum_{p \text{ present}} \sum_{q \text{ absent}} \max(0, 1 - s_{ip} + s_{iq})

    where the score s is the probability sigmoid(x), as published, or the logit x. Between probabilities the hinge never
    reaches zero, so the loss is linear in them and has no margin.

    Only the order of labels within each row is learned: `predict_proba` is the sigmoid of a score, not a probability,
    and 0.5 is not a natural threshold. Evaluate with ranking metrics, and to predict labels, tune thresholds with
    :class:`~skpartial.model_selection.TunedThresholdsCV`.

    Parameters
    ----------
    on : {"probability", "logit"}, default="probability"
        The score that is compared.
    unknown : {"absent", "ignore"}, default="absent"
        Whether unknown entries count as negative, or are in no pair.

    Notes
    -----
    With sample weights of shape (n, L), the weight of a pair is the geometric mean of the weights of its two entries.
    An entry of weight zero is in no pair.

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
        # The sum over pairs is linear in the scores, so it separates into one sum per side.
        value = (absences * sides.present * complement + presences * sides.absent * score).sum()
        slope = presences * sides.absent - absences * sides.present
        return sides.step(value, slope * score * complement, logits.dtype)
