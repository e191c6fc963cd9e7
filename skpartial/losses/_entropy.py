"""Entropy maximisation: unknown entries are neither fitted nor ignored, but kept undecided."""

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

# Of the unknown entries of a label, this share becomes soft negatives in the end.
_MOST = 0.9
# Logits are noted within these, the range of float16.
_WIDEST = 6e4


class EntropyMaximization(EntrywiseLoss):
    r"""Cross-entropy of known entries, and the negative entropy of unknown ones (EM), with soft negatives (APL).

    .. math::

        f_{ij} = \begin{cases}
        \ell(x, y) & \text{known} \\
        \alpha \left[ p \log p + (1 - p) \log(1 - p) \right] & \text{unknown} \\
        \beta \, \ell(x, \tilde p) & \text{unknown, and a soft negative}
        \end{cases}

    The derivative of the second term in x is :math:`\alpha x p (1 - p)`: small near one half and where the classifier
    is sure, so that unknown entries follow what it learns from the known ones.

    With :math:`\beta > 0` asymmetric pseudo-labelling follows a warm-up of W epochs. After each epoch, of every label
    the unknown entries of lowest probability become soft negatives, whose target is that probability: each time the
    share 0.9 / (E - W) of the label's unknown entries, until epoch E. Presences are never guessed. The state holds two
    float16 tensors (N, L), NaN where there is nothing: soft negatives, and the logits of unknown entries as they were
    last evaluated, from which those are chosen. After training `soft_negatives_`, float32 (N, L), holds the targets,
    NaN where an entry has none.

    Parameters
    ----------
    entropy_weight : float, default=0.2
        The weight :math:`\alpha`, at least 0; published are 0.01 to 0.2.
    pseudo_weight : float, default=0.0
        The weight :math:`\beta` of soft negatives, at least 0; published are 0.02 to 0.9. At 0 there are none. They
        take 4 bytes for each entry of the training set.
    warm_up : int, default=5
        Epochs W without soft negatives, at least 1.
    n_epochs : int, default=10
        The epoch E by which 90% of the unknown entries have become soft negatives; more than `warm_up`.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).

    Notes
    -----
    Probabilities of entries that are never pulled down are high throughout: a threshold of one half calls too much
    present. The source uses 0.75; :class:`~skpartial.model_selection.TunedThresholdsCV` finds one for each label.

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
            # An entry that has become known meanwhile is no guess any more.
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
        # Label by label: a sort of everything at once would take several times the memory of the state.
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
