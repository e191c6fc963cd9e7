"""Pointwise losses: weighted cross-entropy, or squared error, with targets and weights from a rule over the labels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_choice, check_number
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._cross_entropy import cross_entropy, cross_entropy_gradient
from skpartial.losses._entrywise import Block, Entries, EntrywiseLoss
from skpartial.losses._squared_error import squared_error, squared_error_gradient

__all__ = ["ALPHA_OF_ABSENCES", "PointwiseLoss", "Surrogate", "Targets"]

#: `Traits.relative_alpha` of cross-entropy that treats most unknown entries as negatives with full weight.
ALPHA_OF_ABSENCES = 6e-4
#: The same where unknown entries are left out, for complete labels, and the power of the share of known ones.
_ALPHA_OF_KNOWN, _EXPONENT = 3e-4, 0.25

#: Function that replaces the classification error of each entry.
Surrogate = Literal["logistic", "squared"]


class Targets(NamedTuple):
    """Targets and weights that a rule gives to a block of labels.

    Parameters
    ----------
    target : Tensor of shape (n, L)
        Target probability of presence, in [0, 1].
    weight : Tensor broadcastable to (n, L), or None
        Non-negative weight of each entry; None means 1 everywhere.
    """

    target: Tensor
    weight: Tensor | None


class PointwiseLoss(EntrywiseLoss):
    r"""Base class of losses that are cross-entropy with a rule for the entries.

    .. math::

        \frac{1}{\sum_{ij} s_{ij}} \sum_{ij} s_{ij} w_{ij}
        \left[ -t_{ij} \log(p_{ij} + \epsilon) - (1 - t_{ij}) \log(1 - p_{ij} + \epsilon) \right]

    with sample weights s (1 unless given). Without them the divisor is n x L, unknown entries included. With
    ``surrogate="squared"``, the brackets hold the second-order expansion of cross-entropy about logits of zero,
    :math:`\tfrac18 (x_{ij} - 2 (2 t_{ij} - 1))^2`, whose minimum has a closed form.

    A subclass defines `targets`, which alone decides how known and unknown entries are treated. Value, gradient and the
    problem of the convex solver follow from it.

    Parameters
    ----------
    eps : float, default=0.0
        The constant inside the logarithm. The released code of Cole et al. (2021) has 1e-5. At 0 the loss is convex,
        and stable for all logits.
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error.
    """

    def __init__(self, *, eps: float = 0.0, surrogate: Surrogate = "logistic") -> None:
        self.eps = eps
        self.surrogate = surrogate

    @abstractmethod
    def targets(self, block: Block) -> Targets:
        """Targets and weights of a block of labels.

        Parameters
        ----------
        block : Block
            Labels, and everything else that a rule may use.

        Returns
        -------
        Targets
            The target and the weight of each entry.
        """

    def soft_targets(self, block: Block, targets: Tensor | None) -> Targets:
        """Targets and weights of a block with soft targets from a relabelling.

        The rule is applied to a positive with weight t and to a negative with weight 1 - t. The two cross-entropies add
        up to one cross-entropy with a target in between.

        Parameters
        ----------
        block : Block
            Labels, and everything else that a rule may use.
        targets : Tensor of shape (n, L), or None
            Probabilities of presence, NaN where the label is the target; None means NaN everywhere.

        Returns
        -------
        Targets
            The target and the weight of each entry.
        """
        if targets is None:
            return self.targets(block)
        (target, weight), (of_absent, weight_of_absent) = map(self.targets, block.signs_of(targets))
        share = targets.nan_to_num(1.0).to(block.dtype)
        mass = share if weight is None else share * weight
        rest = (1 - share) if weight_of_absent is None else (1 - share) * weight_of_absent
        total = mass + rest
        mixed = torch.where(total > 0, (mass * target + rest * of_absent) / total, target)
        # Where the label is the target, avoid the rounding of the mixture.
        return Targets(torch.where(share == 1, target, mixed), total)

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_number(self, "eps", self.eps, "[0, 1)")
        check_choice(self, "surrogate", self.surrogate, ("logistic", "squared"))
        if self.surrogate == "squared" and self.eps != 0:
            raise ValueError(
                f"{type(self).__name__}: eps is a constant inside the logarithm of cross-entropy, which "
                f"surrogate='squared' does not have: leave eps at 0, got {self.eps!r}."
            )

    @override
    def entries(self, block: Block) -> Entries:
        target, weight = self.targets(block)
        logits = block.needed_logits
        if self.surrogate == "squared":
            value, gradient = squared_error(logits, target), squared_error_gradient(logits, target)
        else:
            value = cross_entropy(logits, target, self.eps)
            gradient = cross_entropy_gradient(logits, target, self.eps)
        if weight is None:
            return Entries(value, gradient)
        return Entries(value.mul_(weight), gradient.mul_(weight))

    def _relative_alpha(self, unknown: str, logistic: float) -> float:
        """`Traits.relative_alpha` for the surrogate; for cross-entropy, the number given."""
        if self.surrogate == "logistic":
            return logistic
        # Squared error penalises entries far from their targets more, and many assumed negatives are.
        return 1.5e-3 if unknown == "absent" else 1.5e-4

    def _convex_traits(self, unknown: Literal["ignore", "absent"], alpha_of_absences: float = 1.5e-4) -> Traits:
        """Traits of a rule that does not depend on the logits."""
        traits = Traits(convex=self.eps == 0, unknown=unknown)
        if unknown == "ignore" and self.surrogate == "logistic":
            return replace(traits, relative_alpha=_ALPHA_OF_KNOWN, alpha_exponent=_EXPONENT)
        return replace(traits, relative_alpha=self._relative_alpha(unknown, alpha_of_absences))
