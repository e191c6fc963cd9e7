"""Pooled heads: logits from feature maps, via one score map per label."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from skpartial._checks import check_number
from skpartial.heads._base import Head, HeadContext
from skpartial.heads._linear import LinearModule

__all__ = ["AveragePooling", "PooledModule"]


class PooledModule(LinearModule):
    """Score maps, each pooled to the logit of its label.

    Parameters
    ----------
    n_features, n_labels : int
        Channels of the feature maps, and number of labels.
    """

    # Not every pooling turns a constant that all regions share into the same constant of the logit.
    centers = False

    def score_maps(self, features: Tensor) -> Tensor:
        """Class activation maps (b, L, h, w) of feature maps (b, d, h, w), without the intercepts."""
        scores = torch.matmul(self.weight, features.flatten(2)).mul(self.input_scale)
        return scores.unflatten(2, features.shape[2:])

    @abstractmethod
    def pool(self, scores: Tensor) -> Tensor:
        """Logits (b, L) without the intercepts, from scores (b, L, r) in r regions."""

    @override
    def forward(self, features: Tensor) -> Tensor:
        logits = self.pool(self.score_maps(features).flatten(2)) + self.bias
        return logits if self.center is None else logits - self.input_scale * (self.weight @ self.center)


class _AverageModule(PooledModule):
    def __init__(self, n_features: int, n_labels: int, boost: float) -> None:
        super().__init__(n_features, n_labels)
        self.boost = boost
        self.centers = boost == 1

    @override
    def pool(self, scores: Tensor) -> Tensor:
        if self.boost != 1:
            scores = torch.where(scores > 0, self.boost * scores, scores)
        return scores.mean(2)


class AveragePooling(Head):
    r"""Logits as averages of score maps, whose positive scores can be boosted (BoostLU).

    .. math::

        x_j = b_j + \frac{1}{h w} \sum_r \beta(w_j \cdot f_r), \quad
        \beta(s) = \begin{cases} \gamma s & s > 0 \\ s & \text{otherwise} \end{cases}

    with features :math:`f_r` in the regions r of a map. With a boost :math:`\gamma` of 1 this is the linear head on
    average features. A classifier trained with false negatives scores the regions of an unlabelled object too low, but
    still above other regions; a boost compensates for this. The source combines it with
    :class:`~skpartial.losses.LargeLoss`.

    X has the shape (n, C, h, w): maps of C channels, from the last convolution of a network. The parameters of the
    module are `weight` (L, C) and `bias` (L,).

    Parameters
    ----------
    boost : float, default=1.0
        The factor :math:`\gamma` of positive scores, above 0; the published value is 5.

    References
    ----------
    .. [1] Y. Kim, J. M. Kim, J. Jeong, C. Schmid, Z. Akata, J. Lee, "Bridging the Gap between Model Explanations in
       Partially Annotated Multi-label Classification", CVPR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import SinglePositiveClassifier
    >>> from skpartial.heads import AveragePooling
    >>> from skpartial.losses import LargeLoss
    >>> rng = np.random.default_rng(0)
    >>> maps, seen = rng.random((40, 8, 4, 4)), np.eye(4, dtype=int)[rng.integers(4, size=40)]
    >>> clf = SinglePositiveClassifier(LargeLoss("reject"), head=AveragePooling(boost=5), random_state=0)
    >>> clf.fit(maps, seen).predict_proba(maps).shape
    (40, 4)
    """

    takes_maps = True
    draws = False
    keeps_units = True

    def __init__(self, boost: float = 1.0) -> None:
        self.boost = boost

    @override
    def build(self, context: HeadContext) -> nn.Module:
        boost = check_number(self, "boost", self.boost, "(0, inf)", "a number above 0")
        return _AverageModule(context.n_features, context.n_labels, boost)
