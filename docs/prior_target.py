"""A loss as a user of skpartial writes one: unknown entries are drawn towards the prevalence of their label."""

from __future__ import annotations

import torch
from torch import Tensor

from skpartial.labels import LabelMatrix
from skpartial.losses import Block, PointwiseLoss, StateTensor, Targets, Traits


class PriorTarget(PointwiseLoss):
    r"""Cross-entropy whose unknown entries have the prevalence of their label as a target, at a small weight.

    .. math::

        \frac{1}{n L} \left[ \sum_{ij \text{ known}} \ell(x_{ij}, 1[y_{ij} = 1])
        + \gamma \sum_{ij \text{ unknown}} \ell(x_{ij}, \pi_j) \right], \quad
        \pi_j = \frac{\#\{i: y_{ij} = 1\} + 1/2}{\#\{i: y_{ij} \ne 0\} + 1}

    Parameters
    ----------
    unknown_weight : float, default=0.1
        The weight gamma of an unknown entry, in [0, 1].
    eps : float, default=0.0
        The constant inside the logarithm.

    Examples
    --------
    >>> labels = torch.tensor([[1, 0], [-1, -1], [0, -1]])
    >>> PriorTarget(unknown_weight=0.5).targets(Block(labels))
    Targets(target=tensor([[1.0000, 0.1667],
            [0.0000, 0.0000],
            [0.5000, 0.0000]]), weight=tensor([[1.0000, 0.5000],
            [1.0000, 1.0000],
            [0.5000, 1.0000]]))
    """

    def __init__(self, unknown_weight: float = 0.1, *, eps: float = 0.0) -> None:
        super().__init__(eps=eps)
        self.unknown_weight = unknown_weight

    def traits(self) -> Traits:
        """Convex at `eps=0`: targets and weights depend on the labels, not on the logits."""
        return Traits(convex=self.eps == 0, unknown="estimate")

    def check(self, labels: LabelMatrix | None = None) -> None:
        """Refuse a weight out of range, before any work."""
        super().check(labels)
        if not 0 <= self.unknown_weight <= 1:
            raise ValueError(f"PriorTarget: unknown_weight must be a number in [0, 1], got {self.unknown_weight!r}.")

    def state_spec(self) -> dict[str, StateTensor]:
        """One tensor that nothing changes during training, and that does not belong to rows."""
        return {"prevalence": StateTensor()}

    def init_state(
        self,
        labels: Tensor,
        generator: torch.Generator | None = None,
        previous: dict[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The prevalence of each label among the known entries of the training set."""
        if previous is not None:
            return previous
        present, known = (labels == 1).sum(dim=0), (labels != 0).sum(dim=0)
        return {"prevalence": (present + 0.5) / (known + 1)}

    def targets(self, block: Block) -> Targets:
        """Targets and weights of a block of labels: the rule that the loss is."""
        state = self.init_state(block.labels) if block.state is None else block.state
        target = torch.where(block.unknown, state["prevalence"].to(block.dtype), block.present)
        weight = torch.where(block.unknown, self.unknown_weight, 1.0).to(block.dtype)
        return Targets(target, weight)
