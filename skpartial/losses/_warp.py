"""Ranking losses that weight pairs by the rank of the positive label, and the mean of that weight."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_choice, check_number
from skpartial._state import State, StateTensor
from skpartial.labels import LabelMatrix
from skpartial.losses._assume_negative import _row_uniform
from skpartial.losses._base import Step, Traits
from skpartial.losses._pairs import Hinge, Pairs, sides_of
from skpartial.losses._ranking import RankingLoss

__all__ = ["WARP", "RampWARP"]

#: Number of entries of one temporary array for expected weights: 8 MB.
_BLOCK = 1 << 20


def _harmonic(n: Tensor) -> Tensor:
    """1 + 1/2 + ... + 1/n, and 0 for n = 0."""
    return torch.digamma(n.double() + 1) + 0.5772156649015329  # Euler's constant


def _rank(trials: Tensor, counted: Tensor) -> Tensor:
    """(m - 1) / q, with halves rounded up as in the released code; the paper's equation takes the floor."""
    return (2 * (counted - 1) + trials) // (2 * trials)


def _no_violator(trials: Tensor, violators: Tensor, absent: Tensor, log_factorial: Tensor) -> Tensor:
    """Probability that the first q entries of a random order hold no violator: C(n - q, V) / C(n, V)."""
    rest = absent - violators - trials
    log = log_factorial[(absent - trials).clamp(min=0)] - log_factorial[rest.clamp(min=0)]
    log = log + (log_factorial[absent - violators] - log_factorial[absent])
    return log.exp_().mul_(rest >= 0)


def _log_factorials(largest: Tensor) -> Tensor:
    return torch.lgamma(torch.arange(1, int(largest) + 2, dtype=torch.float64, device=largest.device))


def _expected_weight(violators: Tensor, absent: Tensor, counted: Tensor) -> Tensor:
    """Mean over random orders of the weight H_round((m - 1) / q), where q is the position of the first violator.

    Among the L values of q, those above the square root of 2 m have only about that many distinct ranks. The sum of 1/j
    over j up to the rank is therefore cut at j = J: each j up to J is reached by all q up to some last one, and only a
    few small q go beyond J.
    """
    J = math.isqrt(int(counted.max())) + 1
    j = torch.arange(1, J + 1, device=violators.device)
    q = torch.arange(1, 2 * int(counted.max()) // (2 * J + 1) + 1, device=violators.device)
    log_factorial, start = _log_factorials(absent.max()), torch.zeros_like(q[:1])
    size = max(1, _BLOCK // (J + len(q)))
    parts = []
    for v, n, m in zip(*(t[:, None].split(size) for t in (violators, absent, counted))):
        last = 2 * (m - 1) // (2 * j - 1)  # the last q of rank j or more
        few = ((1 - _no_violator(last, v, n, log_factorial)) / j).sum(1)
        first_at = -_no_violator(torch.cat([start, q]), v, n, log_factorial).diff(dim=1)
        beyond = (_harmonic(_rank(q, m)) - _harmonic(j[-1])).clamp_(min=0)
        parts.append(few + (first_at * beyond).sum(1))
    return torch.cat(parts)


def _sampled_trials(violators: Tensor, absent: Tensor, uniform: Tensor) -> Tensor:
    """The position of the first violator in a random order, from a uniform number in [0, 1) by bisection."""
    log_factorial = _log_factorials(absent.max())
    low, high = torch.zeros_like(absent), absent - violators + 1
    for _ in range(int(high.max()).bit_length()):
        middle = (low + high) // 2
        found = _no_violator(middle, violators, absent, log_factorial) <= uniform
        low, high = torch.where(found, low, middle), torch.where(found, middle, high)
    return high


class _RankWeightedLoss(RankingLoss):
    """Base class of losses that weight pairs by the rank of the positive label."""

    rank: str

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        check_choice(self, "rank", self.rank, ("exact", "expected", "sample"))
        super().check(labels)

    @override
    def state_spec(self) -> dict[str, StateTensor]:
        return {"seed": StateTensor()} if self.rank == "sample" else {}

    @override
    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State | None:
        if self.rank != "sample":
            return None
        if previous is not None:
            return {"seed": previous["seed"].clone()}
        return {"seed": torch.randint(1 << 62, (), generator=generator)}

    def _coefficients(self, pairs: Pairs, hinge: Hinge, state: State | None, rows: Tensor | None, epoch: int) -> Tensor:
        """Rank weight of each positive entry, times the square root of its sample weight; shape (n, P)."""
        violators, sides = pairs.violators(hinge), pairs.sides
        if self.rank == "exact":
            return pairs.weight * _harmonic(violators)
        coefficient = torch.zeros_like(pairs.weight)
        row, place = (violators > 0).nonzero(as_tuple=True)
        if len(row) == 0:
            return coefficient
        above, absent, counted = violators[row, place], sides.n_absent[row], sides.n_counted[row]
        if self.rank == "expected":
            by_rank = _expected_weight(above, absent, counted)
        else:
            index = row if rows is None else rows.to(row.device)[row]
            entry = index * sides.logits.shape[1] + pairs.column[row, place]
            uniform = _row_uniform(0 if state is None else int(state["seed"]), entry, epoch)
            by_rank = _harmonic(_rank(_sampled_trials(above, absent, uniform), counted))
        coefficient[row, place] = by_rank
        return coefficient.mul_(pairs.weight)


class WARP(_RankWeightedLoss):
    r"""Weighted approximate ranking: pairwise hinges, weighted by the rank of the positive label.

    .. math::

        \frac{1}{n L} \sum_i \sum_{p \text{ present}} H(r_{ip}) \sum_{q \text{ absent}} \max(0, 1 - x_{ip} + x_{iq}),
        \quad H(r) = \sum_{j=1}^r \frac{1}{j}

    The rank r of a positive label is known exactly: it is the number V of its violators, the negative labels with
    1 - x_p + x_q > 0. The published method estimates it by drawing negative labels until one is a violator. Here the
    sum is over all pairs, not over that violator only. The weight H is held fixed in the gradient.

    Only the order of labels within each row is learned: `predict_proba` is the sigmoid of a score, not a probability,
    and 0.5 is not a natural threshold. Evaluate with ranking metrics, and to predict labels, tune thresholds with
    :class:`~skpartial.model_selection.TunedThresholdsCV`.

    Parameters
    ----------
    rank : {"exact", "expected", "sample"}, default="exact"
        The weight of a positive label. "exact" is H(V). "sample" is H(r) with r = (m - 1) / q rounded, where q is the
        position of the first violator in a random order of the negative labels, drawn anew in every epoch, and m is the
        number of labels of the row. "expected" is the mean of "sample" over all orders.
    unknown : {"absent", "ignore"}, default="absent"
        Whether unknown entries count as negative, or are in no pair and not among the m labels.

    Notes
    -----
    With sample weights of shape (n, L), the weight of a pair is the geometric mean of the weights of its two entries.
    An entry of weight zero is in no pair, and does not count in ranks; other weights do not change ranks.

    A draw is a hash of the seed in the state, the row, the label and the epoch, so it does not depend on how rows are
    batched. Without `rows` they are counted from 0, and without a state the seed is 0. Per row with P positives, time
    is O(L log P) and memory O(L).

    References
    ----------
    .. [1] H. Cevikalp, B. Benligiray, O. N. Gerek, "Semi-Supervised Robust Deep Neural Networks for Multi-Label Image
       Classification", Pattern Recognition 2020, equations 2 and 3 for weight and rank.
    .. [2] Y. Gong et al., "Deep Convolutional Ranking for Multilabel Image Annotation", ICLR 2014.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import WARP
    >>> logits, labels = torch.tensor([[0.0, -0.5, 0.5, -3.0]]), torch.tensor([[1, 0, -1, 0]])
    >>> WARP()(logits, labels)
    tensor(0.7500)
    >>> WARP(rank="expected", unknown="ignore")(logits, labels)
    tensor(0.3750)
    """

    short_names = {"warp": {}}

    def __init__(
        self,
        rank: Literal["exact", "expected", "sample"] = "exact",
        unknown: Literal["absent", "ignore"] = "absent",
    ) -> None:
        self.rank = rank
        self.unknown = unknown

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
        pairs = Pairs(sides_of(logits, labels, weights, self.unknown))
        hinge = pairs.hinge(1)
        coefficient = self._coefficients(pairs, hinge, state, rows, epoch)
        value = (coefficient * hinge.excess).sum()
        return pairs.sides.step(value, pairs.gradient(hinge, coefficient), logits.dtype)


class RampWARP(_RankWeightedLoss):
    r"""WARP with ramps in place of hinges, and one more ramp per label (RML).

    .. math::

        \frac{1}{n L} \sum_i \left[ \sum_{p \text{ present}} H(r_{ip}) \sum_{q \text{ absent}} R(x_{ip} - x_{iq})
        + \kappa \sum_j R(y_{ij} x_{ij}) \right], \quad
        R(t) = \max(0, 1 - t) - (1 - \lambda) \max(0, s - t)

    with scores x, ranks r and weights H as in :class:`WARP`, s = `ramp`, :math:`\kappa` = `kappa` and :math:`\lambda` =
    `leak`. With y = 1 for positive and -1 for negative entries, the last sum pulls scores above 1 or below -1. A ramp
    has slope 1 up to a violation of 1 - s, and slope :math:`\lambda` beyond. Without a leak, a wrong or missing label
    therefore has no effect once the scores clearly contradict it.

    Scores have a margin, with 0 between positive and negative: `predict_proba` is the sigmoid of a score, not a
    probability. Evaluate with ranking metrics, and to predict labels, tune thresholds with
    :class:`~skpartial.model_selection.TunedThresholdsCV`.

    Parameters
    ----------
    ramp : float, default=-0.8
        Point s < 1 at which the ramp flattens; the paper requires -1 < s <= 0.
    kappa : float, default=5.0
        Weight of the ramps of single entries, at least 0.
    leak : float, default=0.0
        Slope of a ramp in its flat part, in [0, 1]. The paper's released code has 0.1. At 1, ramps are hinges.
    rank : {"exact", "expected", "sample"}, default="exact"
        How the rank of a positive label is found; see :class:`WARP`.
    unknown : {"absent", "ignore"}, default="absent"
        Whether unknown entries are treated as negative, or left out of all sums and ranks.

    Notes
    -----
    With sample weights of shape (n, L), the weight of a pair is the geometric mean of the weights of its two entries,
    and the weight of an entry's own ramp is the weight of the entry. An entry of weight zero is left out of all sums
    and ranks; other weights do not change ranks.

    The released code has kappa = 1, and divides sums over a batch of n rows by 20 n, or by 200 n with unlabelled rows.
    Labelled rows have weight 5, and unlabelled rows are weighted by their similarity to the nearest labelled row.

    References
    ----------
    .. [1] H. Cevikalp, B. Benligiray, O. N. Gerek, "Semi-Supervised Robust Deep Neural Networks for Multi-Label Image
       Classification", Pattern Recognition 2020, equations 1 to 3, and 6 for weighted rows.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import RampWARP
    >>> logits, labels = torch.tensor([[0.0, -0.5, 9.0, -3.0]]), torch.tensor([[1, 0, 0, 0]])
    >>> RampWARP()(logits, labels)
    tensor(4.9875)
    >>> RampWARP(kappa=0, unknown="ignore")(logits, labels)
    tensor(0.)
    """

    short_names = {"ramp_warp": {}}

    def __init__(
        self,
        ramp: float = -0.8,
        kappa: float = 5.0,
        leak: float = 0.0,
        rank: Literal["exact", "expected", "sample"] = "exact",
        unknown: Literal["absent", "ignore"] = "absent",
    ) -> None:
        self.ramp = ramp
        self.kappa = kappa
        self.leak = leak
        self.rank = rank
        self.unknown = unknown

    @override
    def traits(self) -> Traits:
        # The ramps of single entries need no pair.
        return replace(super().traits(), rows_need_present=self.kappa == 0)

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        check_number(self, "ramp", self.ramp, "(-inf, 1)")
        check_number(self, "kappa", self.kappa, "[0, inf)")
        check_number(self, "leak", self.leak, "[0, 1]")
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
        push = sides.present.square() - sides.absent.square()  # the weight of an entry, with its sign
        weight, signed = push.abs(), push * sides.logits
        # A ramp is a hinge at 1 minus a share of the hinge at its end: values and gradients are sums over both hinges.
        margins, shares = (1.0, self.ramp), (1.0, self.leak - 1.0)
        pairs = Pairs(sides)
        hinges = [pairs.hinge(margin) for margin in margins]
        coefficient = self._coefficients(pairs, hinges[0], state, rows, epoch)
        value, gradient = sides.logits.new_zeros(()), torch.zeros_like(sides.logits)
        for margin, share, hinge in zip(margins, shares, hinges):
            short = (weight * margin).sub_(signed).clamp_(min=0)
            value += share * ((coefficient * hinge.excess).sum() + self.kappa * short.sum())
            gradient.add_(pairs.gradient(hinge, coefficient), alpha=share)
            gradient.sub_(push * (short > 0), alpha=share * self.kappa)
        return sides.step(value, gradient, logits.dtype)
