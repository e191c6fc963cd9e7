"""Entropy maximisation: unknown entries are neither fitted nor ignored, but kept uncertain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_number, check_whole
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._cross_entropy import cross_entropy, cross_entropy_gradient
from skpartial.losses._entrywise import Block, Entries, EntrywiseLoss

__all__ = ["EntropyMaximization"]

# Share of the unknown entries of a label that become soft negatives in the end.
_MOST = 0.9
# Stored logits are clipped to the range of float16.
_WIDEST = 6e4


class EntropyMaximization(EntrywiseLoss):
    r"""Cross-entropy on known entries, and negative entropy on unknown ones (EM), with soft negatives (APL).

    .. math::

        f_{ij} = \begin{cases}
        \ell(x, y) & \text{known} \\
        \alpha \left[ p \log p + (1 - p) \log(1 - p) \right] & \text{unknown} \\
        \beta \, \ell(x, \tilde p) & \text{unknown, and a soft negative}
        \end{cases}

    The derivative of the second term in x is :math:`\alpha x p (1 - p)`. It is small near p = 1/2 and where the
    classifier is confident, so that unknown entries follow what the classifier learns from the known ones.

    With :math:`\beta > 0`, asymmetric pseudo-labelling follows a warm-up of W epochs. After each epoch, the unknown
    entries of each label with the lowest probabilities become soft negatives, with that probability as target: each
    time a share of 0.9 / (E - W) of the label's unknown entries, until epoch E. There are no positive pseudo-labels.
    The state holds two float16 tensors (N, L), NaN where empty: the soft negatives, and the logits of unknown entries
    when last evaluated, from which soft negatives are chosen. After training, `soft_negatives_`, float32 (N, L), holds
    the targets, NaN for entries without one.

    Parameters
    ----------
    entropy_weight : float, default=0.2
        The weight :math:`\alpha`, at least 0; published values are 0.01 to 0.2.
    pseudo_weight : float, default=0.0
        The weight :math:`\beta` of soft negatives, at least 0; published values are 0.02 to 0.9. At 0 there are none.
        Above 0 they need 4 bytes of memory per entry of the training set.
    warm_up : int, default=5
        Epochs W without soft negatives, at least 1.
    n_epochs : int, default=10
        The epoch E by which 90% of the unknown entries are soft negatives; more than `warm_up`.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).

    Notes
    -----
    Because little pulls the probabilities of unknown entries down, all probabilities are high, and a threshold of one
    half predicts too many positives. The source uses 0.75; :class:`~skpartial.model_selection.TunedThresholdsCV` finds
    a threshold per label.

    References
    ----------
    .. [1] D. Zhou, P. Chen, Q. Wang, G. Chen, P.-A. Heng, "Acknowledging the Unknown for Multi-Label Learning with
       Single Positive Labels", ECCV 2022.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import EntropyMaximization
    >>> step = EntropyMaximization().value_and_gradient(torch.tensor([[0.0, 2.0, -9.0]]), torch.zeros(1, 3))
    >>> [round(float(slope), 4) for slope in step.gradient[0]]
    [0.0, 0.014, -0.0001]
    """

    short_names = {"em": {}}

    def __init__(
        self,
        entropy_weight: float = 0.2,
        pseudo_weight: float = 0.0,
        warm_up: int = 5,
        n_epochs: int = 10,
        *,
        eps: float = 0.0,
    ) -> None:
        self.entropy_weight = entropy_weight
        self.pseudo_weight = pseudo_weight
        self.warm_up = warm_up
        self.n_epochs = n_epochs
        self.eps = eps

    @property
    def _labels(self) -> bool:
        """Whether there are soft negatives."""
        return self.pseudo_weight > 0

    @override
    def traits(self) -> Traits:
        return Traits(unknown="estimate")

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_number(self, "entropy_weight", self.entropy_weight, "[0, inf)")
        check_number(self, "pseudo_weight", self.pseudo_weight, "[0, inf)")
        check_whole(self, "warm_up", self.warm_up, 1)
        check_whole(self, "n_epochs", self.n_epochs, 1)
        check_number(self, "eps", self.eps, "[0, 1)")
        if self._labels and self.n_epochs <= self.warm_up:
            raise ValueError(
                f"EntropyMaximization: n_epochs must be more than warm_up, got {self.n_epochs!r} and {self.warm_up!r}."
            )

    @override
    def state_spec(self) -> dict[str, StateTensor]:
        return {name: StateTensor(per_row=True) for name in ("soft_negatives", "logits")} if self._labels else {}

    @override
    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State | None:
        if not self._labels:
            return None
        state = {name: torch.full(labels.shape, torch.nan, dtype=torch.float16) for name in self.state_spec()}
        if previous is not None:
            # An entry that has become known since is no longer a soft negative.
            known = (labels.to_dense() if labels.layout == torch.sparse_csr else labels) != 0
            state["soft_negatives"] = previous["soft_negatives"].masked_fill(
                known.to(previous["logits"].device), torch.nan
            )
        return state

    @override
    def end_epoch(self, state: State | None, epoch: int, context: TrainingContext | None = None) -> None:
        if state is None or not self.warm_up <= epoch < self.n_epochs:
            return
        logits, soft = state["logits"], state["soft_negatives"]
        unknown = ~logits.isnan()
        share = _MOST / (self.n_epochs - self.warm_up)
        n_unknown = unknown.sum(0).double()
        left_over = (_MOST * n_unknown + 1e-9).long() - (~soft.isnan()).sum(0)
        n_new = torch.minimum((share * n_unknown + 1e-9).long(), left_over.clamp(min=0))
        # Label by label: sorting all at once would take several times the memory of the state.
        for label in torch.nonzero(n_new).flatten().tolist():
            left = torch.nonzero(unknown[:, label] & soft[:, label].isnan()).flatten()
            lowest = logits[left, label].float().argsort(stable=True)[: int(n_new[label])]
            chosen = left[lowest]
            soft[chosen, label] = torch.sigmoid(logits[chosen, label].float()).to(soft.dtype)

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        return {} if state is None else {"soft_negatives_": state["soft_negatives"].float().cpu().numpy()}

    @override
    def entries(self, block: Block) -> Entries:
        x, eps, unknown = block.needed_logits, self.eps, block.unknown
        p, absent = torch.sigmoid(x), torch.sigmoid(-x)
        # Entropy is the cross-entropy of p with itself.
        value = cross_entropy(x, p, eps).mul_(-self.entropy_weight)
        slope = x if eps == 0 else (p + eps).log() - (absent + eps).log() + p / (p + eps) - absent / (absent + eps)
        gradient = self.entropy_weight * slope * p * absent
        known = (cross_entropy(x, block.present, eps), cross_entropy_gradient(x, block.present, eps))
        value, gradient = (torch.where(unknown, a, b) for a, b in zip((value, gradient), known))
        if self._labels and block.state is not None:
            soft = block.state["soft_negatives"] if block.rows is None else block.state["soft_negatives"][block.rows]
            chosen = unknown & ~soft.isnan()
            target = soft.to(x.dtype).nan_to_num(0.0)
            value = torch.where(chosen, self.pseudo_weight * cross_entropy(x, target, eps), value)
            gradient = torch.where(chosen, self.pseudo_weight * cross_entropy_gradient(x, target, eps), gradient)
            counts = unknown if block.counted is None else unknown & block.counted
            noted = x.clamp(-_WIDEST, _WIDEST).masked_fill_(~counts, torch.nan).to(block.state["logits"].dtype)
            if block.rows is None:
                block.state["logits"].copy_(noted)
            else:
                block.state["logits"][block.rows] = noted
        return Entries(value, gradient)
