"""Heads that pool the regions with the highest and the lowest scores: WELDON and WILDCAT."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from skpartial._checks import check_number, wrong_value
from skpartial.heads._base import Head, HeadContext
from skpartial.heads._pooling import PooledModule

__all__ = ["WeldonPooling", "WildcatPooling"]


def _n_regions(k: float, n: int) -> int:
    """Number of regions, out of n, for a count or a share; 0 for none."""
    if k <= 0:
        return 0
    return max(1, round(k * n)) if k < 1 else min(int(k), n)


def _mean_of_highest(scores: Tensor, k: int) -> Tensor:
    """Mean of the k highest scores of (b, L, r); regions that tie for the last places share these places.

    At weights of zero all regions tie; without sharing, the gradient would go to the first regions only.
    """
    if k == scores.shape[2]:
        return scores.mean(2)
    with torch.no_grad():
        least = scores.topk(k, dim=2, sorted=False).values.amin(2, keepdim=True)
        above, tied = scores > least, scores == least
        share = (k - above.sum(2, keepdim=True)) / tied.sum(2, keepdim=True)
        weight = (above + share.to(scores.dtype) * tied) / k
    return (weight * scores).sum(2)


class _ExtremesModule(PooledModule):
    def __init__(self, n_features: int, n_labels: int, k_max: float, k_min: float, alpha: float) -> None:
        super().__init__(n_features, n_labels)
        self.k_max, self.k_min, self.alpha = k_max, k_min, alpha

    @override
    def pool(self, scores: Tensor) -> Tensor:
        top = _mean_of_highest(scores, _n_regions(self.k_max, scores.shape[2]))
        n_low = _n_regions(self.k_min, scores.shape[2])
        if not n_low or not self.alpha:
            return top
        return (top - self.alpha * _mean_of_highest(-scores, n_low)) / 2


def _check_regions(head: Head, name: str, k: Any, *, none: bool) -> float:
    """Check a number of regions, given as a count or a share."""
    number = float(k) if isinstance(k, Real) and not isinstance(k, bool) else float("nan")
    if not np.isfinite(number) or not (number < 1 or number.is_integer()) or not (none or number > 0):
        what = "a share of the regions in (0, 1) or a whole number of regions"
        raise wrong_value(head, name, what + (", 0 for none, or None for k_max" if none else ""), k)
    return number


def _build(head: Head, context: HeadContext, k_max: Any, k_min: Any, alpha: Any) -> nn.Module:
    high = _check_regions(head, "k_max", k_max, none=False)
    low = high if k_min is None else _check_regions(head, "k_min", k_min, none=True)
    alpha = check_number(head, "alpha", alpha, "[0, inf)", "a number of at least 0")
    return _ExtremesModule(context.n_features, context.n_labels, high, low, alpha)


class WeldonPooling(Head):
    r"""Logits as means of the highest and of the lowest scores of a map (WELDON).

    .. math::

        x_j = b_j + \frac12 \left( \frac{1}{k^+} \sum_{r \in \text{top } k^+} s_{jr}
        + \frac{1}{k^-} \sum_{r \in \text{bottom } k^-} s_{jr} \right), \quad s_{jr} = w_j \cdot f_r

    with features :math:`f_r` in the regions r of a map. If :math:`k^- = 0`, the logit is the mean of the top scores
    only. An object that fills a few regions counts as much as one that fills the image, and regions with low scores are
    evidence against a label. This is the last layer of the ResNet-WELDON of [2]_.

    X has the shape (n, C, h, w): maps of C channels, from the last convolution of a network. The parameters of the
    module are `weight` (L, C) and `bias` (L,).

    Parameters
    ----------
    k_max : int or float, default=1
        The number :math:`k^+` of regions with the highest scores. Below 1 it is a share of all regions, rounded to at
        least one region; from 1 on it is a count, capped at the number of regions. 1.0 is one region.
    k_min : int, float or None, default=None
        The number :math:`k^-` of regions with the lowest scores, likewise; 0 or below for none, None for `k_max`.

    See Also
    --------
    WildcatPooling : Gives the lowest scores a separate weight.

    Notes
    -----
    Weights start at zero, where all scores tie. Regions that tie for the last places share them, so that the first step
    is that of :class:`AveragePooling`, and no random start is needed.

    References
    ----------
    .. [1] T. Durand, N. Thome, M. Cord, "WELDON: Weakly Supervised Learning of Deep Convolutional Neural Networks",
       CVPR 2016.
    .. [2] T. Durand, N. Mehrasa, G. Mori, "Learning a Deep ConvNet for Multi-label Classification with Partial
       Labels", CVPR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.heads import WeldonPooling
    >>> rng = np.random.default_rng(0)
    >>> maps, labels = rng.random((40, 8, 4, 4)), rng.integers(-1, 2, size=(40, 3))
    >>> clf = PartialLabelClassifier(head=WeldonPooling(k_max=2), random_state=0)
    >>> clf.fit(maps, labels).predict_proba(maps).shape
    (40, 3)
    """

    takes_maps = True
    draws = False
    keeps_units = True

    def __init__(self, k_max: float = 1, k_min: float | None = None) -> None:
        self.k_max = k_max
        self.k_min = k_min

    @override
    def build(self, context: HeadContext) -> nn.Module:
        return _build(self, context, self.k_max, self.k_min, 1.0)


class WildcatPooling(Head):
    r"""Logits as weighted means of the highest and of the lowest scores of a map (WILDCAT).

    .. math::

        x_j = b_j + \frac12 \left( \frac{1}{k^+} \sum_{r \in \text{top } k^+} s_{jr}
        + \frac{\alpha}{k^-} \sum_{r \in \text{bottom } k^-} s_{jr} \right), \quad s_{jr} = w_j \cdot f_r

    with features :math:`f_r` in the regions r of a map. If :math:`k^- = 0` or :math:`\alpha = 0`, the logit is the mean
    of the top scores only, which is not halved. :class:`WeldonPooling` has :math:`\alpha = 1`. The factor 1/2 is from
    the released code.

    X has the shape (n, C, h, w): maps of C channels, from the last convolution of a network. The parameters of the
    module are `weight` (L, C) and `bias` (L,).

    Parameters
    ----------
    k_max : int or float, default=0.2
        The number :math:`k^+` of regions with the highest scores. Below 1 it is a share of all regions, rounded to at
        least one region; from 1 on it is a count, capped at the number of regions. 1.0 is one region.
    k_min : int, float or None, default=None
        The number :math:`k^-` of regions with the lowest scores, likewise; 0 or below for none, None for `k_max`.
    alpha : float, default=0.7
        The weight :math:`\alpha` of the lowest scores, at least 0.

    See Also
    --------
    WeldonPooling : The same with equal weights, and by default one region of each kind.

    Notes
    -----
    The source averages several maps per label before pooling. An average of linear maps is one linear map with the
    average weights, so several maps add no functions and only divide the learning rate. Here there is one map per
    label.

    Weights start at zero, where all scores tie. Regions that tie for the last places share them, so that the first step
    has the direction of that of :class:`AveragePooling`, and no random start is needed.

    References
    ----------
    .. [1] T. Durand, T. Mordan, N. Thome, M. Cord, "WILDCAT: Weakly Supervised Learning of Deep ConvNets for Image
       Classification, Pointwise Localization and Segmentation", CVPR 2017.

    Examples
    --------
    >>> import torch
    >>> from skpartial.heads import HeadContext, WildcatPooling
    >>> module = WildcatPooling(k_max=2, k_min=0.25, alpha=0.5).build(HeadContext(n_features=1, n_labels=1))
    >>> _ = torch.nn.init.ones_(module.weight)
    >>> module(torch.tensor([[[[4.0, 2.0], [1.0, -1.0]]]])).item()  # (mean of 4 and 2, less half of 1) / 2
    1.25
    """

    takes_maps = True
    draws = False
    keeps_units = True

    def __init__(self, k_max: float = 0.2, k_min: float | None = None, alpha: float = 0.7) -> None:
        self.k_max = k_max
        self.k_min = k_min
        self.alpha = alpha

    @override
    def build(self, context: HeadContext) -> nn.Module:
        return _build(self, context, self.k_max, self.k_min, self.alpha)
