"""Losses that treat unknown as negative: assume-negative, its smoothed and weak forms, and pseudo-negative sampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_number, wrong_value
from skpartial._state import State, StateTensor
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._entrywise import Block
from skpartial.losses._pointwise import ALPHA_OF_ABSENCES, PointwiseLoss, Surrogate, Targets

__all__ = ["AssumeNegative", "PseudoNegative", "WeakAssumeNegative"]


def _unknown_weighted(block: Block, unknown_weight: float) -> Tensor | None:
    if unknown_weight == 1:
        return None
    return block.known.mul_(1 - unknown_weight).add_(unknown_weight)


class AssumeNegative(PointwiseLoss):
    r"""Assume that unknown means absent (AN), optionally with label smoothing or a smaller weight.

    .. math::

        \frac{1}{n L} \sum_{ij} w_{ij} \left[ -t_{ij} \log p_{ij} - (1 - t_{ij}) \log(1 - p_{ij}) \right]

    where t = 1 - s_present for a positive entry and t = s_unknown for the others, and w is `unknown_weight` for an
    unknown entry and 1 for a known one.

    Parameters
    ----------
    label_smoothing : float or pair of float, default=0.0
        The mass moved to the other side, in [0, 0.5): one number, or a pair (present, unknown) for asymmetric
        smoothing. It is half a paper's epsilon: the published AN-LS with epsilon = 0.1 is 0.05 here, and the released
        code used 0.1. Known negatives are smoothed like unknown entries.
    unknown_weight : float, default=1.0
        Weight of an unknown entry, in [0, 1]. At 0 the loss is :class:`IgnoreUnknown`.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error in its place, which `FullBatch` minimises in closed form; see
        :ref:`the guide <squared-loss>`.

    References
    ----------
    .. [1] E. Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, equations 3 and 9, and
       appendix A for asymmetric smoothing.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import AssumeNegative
    >>> logits, labels = torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]])
    >>> AssumeNegative()(logits, labels)
    tensor(0.2201)
    >>> AssumeNegative(label_smoothing=(0.0, 0.05))(logits, labels)
    tensor(0.2451)
    """

    short_names = {"an": {}, "an_ls": {"label_smoothing": 0.05}}

    def __init__(
        self,
        label_smoothing: float | tuple[float, float] = 0.0,
        unknown_weight: float = 1.0,
        *,
        eps: float = 0.0,
        surrogate: Surrogate = "logistic",
    ) -> None:
        super().__init__(eps=eps, surrogate=surrogate)
        self.label_smoothing = label_smoothing
        self.unknown_weight = unknown_weight

    @override
    def traits(self) -> Traits:
        traits = self._convex_traits("absent" if self.unknown_weight != 0 else "ignore", ALPHA_OF_ABSENCES)
        present, unknown = self._smoothing()
        return replace(traits, recorded=(float(unknown), 1 - float(present)) if self.unknown_weight == 1 else None)

    def _smoothing(self) -> tuple[float, float]:
        s = self.label_smoothing
        return (s[0], s[1]) if isinstance(s, tuple | list) else (s, s)

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        if isinstance(self.label_smoothing, tuple | list) and len(self.label_smoothing) != 2:
            raise wrong_value(self, "label_smoothing", "a number or a pair (present, unknown)", self.label_smoothing)
        for value in self._smoothing():
            check_number(self, "label_smoothing", value, "[0, 0.5)")
        check_number(self, "unknown_weight", self.unknown_weight, "[0, 1]")

    @override
    def targets(self, block: Block) -> Targets:
        present, unknown = self._smoothing()
        target = block.present
        if present or unknown:
            target = target.mul_(1 - present - unknown).add_(unknown)
        return Targets(target, _unknown_weighted(block, self.unknown_weight))


class WeakAssumeNegative(PointwiseLoss):
    r"""Assume that unknown means absent, with a small weight (WAN).

    .. math::

        \frac{1}{n L} \sum_{ij} -1[y_{ij} = 1] \log p_{ij} - \left(1[y_{ij} = -1] + \gamma 1[y_{ij} = 0]\right)
        \log(1 - p_{ij})

    Parameters
    ----------
    unknown_weight : float or "auto", default="auto"
        The weight gamma of an unknown entry, in [0, 1]. "auto" is 1 / (L - 1): in a row with one known positive, the
        assumed negatives together then count as much as that positive. With one label it is 1.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error in its place, which `FullBatch` minimises in closed form; see
        :ref:`the guide <squared-loss>`.

    References
    ----------
    .. [1] E. Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, equation 5; after
       O. Mac Aodha, E. Cole, P. Perona, "Presence-Only Geographical Priors for Fine-Grained Image Classification",
       ICCV 2019.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import WeakAssumeNegative
    >>> WeakAssumeNegative()(torch.tensor([[2.0, -1.0, 0.0]]), torch.tensor([[1, 0, 0]]))
    tensor(0.2100)
    """

    short_names = {"wan": {}}

    def __init__(
        self, unknown_weight: float | Literal["auto"] = "auto", *, eps: float = 0.0, surrogate: Surrogate = "logistic"
    ) -> None:
        super().__init__(eps=eps, surrogate=surrogate)
        self.unknown_weight = unknown_weight

    @override
    def traits(self) -> Traits:
        return self._convex_traits("absent" if self.unknown_weight != 0 else "ignore")

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        if self.unknown_weight != "auto":
            check_number(self, "unknown_weight", self.unknown_weight, "[0, 1]")

    @override
    def targets(self, block: Block) -> Targets:
        gamma = 1 / max(1, block.labels.shape[1] - 1) if self.unknown_weight == "auto" else float(self.unknown_weight)
        return Targets(block.present, _unknown_weighted(block, gamma))


def _row_uniform(seed: int, rows: Tensor, epoch: int) -> Tensor:
    """One number in [0, 1) per row: a hash of seed, row and epoch, so that the order of batches does not change it."""

    def constant(value: int) -> int:
        return value - (1 << 64) if value >= 1 << 63 else value

    def shift(value: Tensor, bits: int) -> Tensor:
        return (value >> bits) & ((1 << (64 - bits)) - 1)  # int64 has arithmetic shifts only

    start = (seed * 0x9E3779B97F4A7C15 + epoch * 0xD1B54A32D192ED03) % (1 << 64)
    value = rows.to(torch.int64) * constant(0xBF58476D1CE4E5B9) + constant(start)
    # The finaliser of the splitmix64 generator (Steele, Lea, Flood, OOPSLA 2014).
    value = (value ^ shift(value, 30)) * constant(0xBF58476D1CE4E5B9)
    value = (value ^ shift(value, 27)) * constant(0x94D049BB133111EB)
    value = value ^ shift(value, 31)
    return shift(value, 11).to(torch.float64) / (1 << 53)


class PseudoNegative(PointwiseLoss):
    r"""Treat one unknown entry per row, drawn anew in every epoch, as negative.

    .. math::

        \frac{1}{n L} \sum_i \left[ \sum_{j \text{ known}} \ell(x_{ij}, y_{ij}) - \log(1 - p_{i, u_i}) \right],
        \quad u_i \text{ uniform over the unknown entries of row } i

    In expectation this is :class:`WeakAssumeNegative` with the weight 1 / (number of unknown entries in the row). The
    draw is a hash of the seed in the state, the row and the epoch, so it does not depend on how rows are batched.
    Without `rows` they are counted from 0, and without a state the seed is 0. Because the draw changes with every
    epoch, the loss is trained in minibatches.

    Parameters
    ----------
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error in its place, which `FullBatch` minimises in closed form; see
        :ref:`the guide <squared-loss>`.

    References
    ----------
    .. [1] E. Cole et al., "Multi-Label Learning from Single Positive Labels", CVPR 2021, section 5.1.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import Block, PseudoNegative
    >>> labels = torch.tensor([[1, 0, 0, -1]])
    >>> PseudoNegative().targets(Block(labels)).weight.sum()
    tensor(3.)
    """

    short_names = {"pseudo_negative": {}}

    @override
    def traits(self) -> Traits:
        return Traits(unknown="absent")

    @override
    def state_spec(self) -> dict[str, StateTensor]:
        return {"seed": StateTensor()}

    @override
    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State:
        if previous is not None:
            return {"seed": previous["seed"].clone()}
        return {"seed": torch.randint(1 << 62, (), generator=generator)}

    @override
    def targets(self, block: Block) -> Targets:
        labels, unknown = block.labels, block.unknown
        rows = torch.arange(len(labels)) if block.rows is None else block.rows
        seed = 0 if block.state is None else int(block.state["seed"])
        uniform = _row_uniform(seed, rows.to(labels.device), block.epoch)
        rank = unknown.cumsum(dim=1)
        drawn = (uniform * rank[:, -1]).floor_().to(rank.dtype) + 1
        weight = ~unknown | (unknown & (rank == drawn[:, None]))
        return Targets(block.present, weight.to(block.dtype))
