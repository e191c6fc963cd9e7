"""Large-loss modification: unknown entries with a large loss are assumed to be missed positives."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_choice, check_flag, check_number
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._cross_entropy import cross_entropy
from skpartial.losses._entrywise import Block
from skpartial.losses._pointwise import ALPHA_OF_ABSENCES, PointwiseLoss, Surrogate, Targets

__all__ = ["LargeLoss"]


class LargeLoss(PointwiseLoss):
    r"""Treat unknown as negative, but reject or correct the unknown entries with the largest losses (LL).

    .. math::

        \frac{1}{n L} \sum_{ij} w_{ij} \ell(x_{ij}, t_{ij}), \quad
        (w_{ij}, t_{ij}) = \begin{cases}
        (1, y_{ij}) & \text{known} \\
        (0, \cdot) \text{ or } (1, 1) & \text{unknown, and } \ell(x_{ij}, 0) \geq \theta_t \\
        (1, 0) & \text{unknown otherwise}
        \end{cases}

    A classifier fits true negatives before it memorises false ones, so the unknown entries with the largest losses are
    likely to be positives that nobody recorded. The number of modified entries grows with the epoch t. In minibatches
    the largest losses are sought in each batch, as published. :class:`~skpartial.solvers.FullBatch` solves one convex
    problem per epoch, with a threshold over the whole training set. Known entries are never modified.

    Parameters
    ----------
    scheme : {"reject", "correct", "correct_permanently"}, default="reject"
        Leave these entries out of the step (LL-R), treat them as positive in this step (LL-Ct), or from then on
        (LL-Cp). LL-Cp corrects a copy of the labels in the state, which is also the fitted attribute
        `corrected_labels_`, int8 (N, L). Corrections are passed on to a later stage of training, except for entries
        that have become known. The labels passed by the user are not changed.
    delta : float, default=0.002
        With "relative", the growth per epoch of the number of modified entries, as a share of all entries, known ones
        included: in epoch t the :math:`\lceil n L (t - 1) \Delta \rceil` largest losses are modified, and with
        "correct_permanently" :math:`\lceil n L \Delta \rceil` new ones in every epoch but the first. In [0, 1];
        published values are 0.001 to 0.004 over ten epochs. With "absolute", the decrease of the threshold per epoch,
        at least 0; published values are 0.1 to 0.2.
    threshold : {"relative", "absolute"}, default="relative"
        Whether :math:`\theta_t` is the k-th largest loss, or the number :math:`R_0 - t \Delta` (only losses above it
        count).
    initial_threshold : float, default=1.5
        The number :math:`R_0` for "absolute"; published values are 1 to 2. Once :math:`R_0 = t \Delta`, every unknown
        entry is modified if `eps` is 0.
    strict : bool, default=False
        Whether "correct_permanently" flips only entries above the k-th largest loss, which is one fewer, as in the
        released code.
    eps : float, default=0.0
        The constant inside the logarithm, in [0, 1).
    surrogate : {"logistic", "squared"}, default="logistic"
        Cross-entropy, or the squared error in its place, which `FullBatch` minimises in closed form; see :ref:`the
        guide <squared-loss>`. Large losses are found by cross-entropy in either case.

    References
    ----------
    .. [1] Y. Kim, J. M. Kim, Z. Akata, J. Lee, "Large Loss Matters in Weakly Supervised Multi-Label Classification",
       CVPR 2022, equations 5 to 7, and section 5.4 for the absolute threshold.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import Block, LargeLoss
    >>> labels, logits = torch.tensor([[1, 0, 0, 0]]), torch.tensor([[-3.0, 2.0, -1.0, -2.0]])
    >>> LargeLoss("reject", delta=0.25).targets(Block(labels, logits, epoch=2)).weight
    tensor([[1., 0., 1., 1.]])
    >>> LargeLoss("correct", delta=0.25).targets(Block(labels, logits, epoch=3)).target
    tensor([[1., 1., 1., 0.]])
    """

    short_names = {
        "ll_r": {"scheme": "reject"},
        "ll_ct": {"scheme": "correct"},
        "ll_cp": {"scheme": "correct_permanently"},
    }

    def __init__(
        self,
        scheme: Literal["reject", "correct", "correct_permanently"] = "reject",
        delta: float = 0.002,
        threshold: Literal["relative", "absolute"] = "relative",
        initial_threshold: float = 1.5,
        strict: bool = False,
        *,
        eps: float = 0.0,
        surrogate: Surrogate = "logistic",
    ) -> None:
        super().__init__(eps=eps, surrogate=surrogate)
        self.scheme = scheme
        self.delta = delta
        self.threshold = threshold
        self.initial_threshold = initial_threshold
        self.strict = strict

    @property
    def _permanent(self) -> bool:
        return self.scheme == "correct_permanently"

    @override
    def traits(self) -> Traits:
        relative = self._relative_alpha("absent", ALPHA_OF_ABSENCES)
        return Traits(
            iterative=self.eps == 0, unknown="absent", scheduled=True, recorded=(0.0, 1.0), relative_alpha=relative
        )

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_choice(self, "scheme", self.scheme, ("reject", "correct", "correct_permanently"))
        check_choice(self, "threshold", self.threshold, ("relative", "absolute"))
        check_number(self, "delta", self.delta, "[0, 1]" if self.threshold == "relative" else "[0, inf)")
        check_number(self, "initial_threshold", self.initial_threshold, "(0, inf)")
        check_flag(self, "strict", self.strict)

    def n_modified(self, n_entries: int, epoch: int) -> int:
        r"""Number of entries of a batch that the relative schedule modifies, if that many are unknown.

        .. math:: k_t = \lceil n L (t - 1) \Delta \rceil, \text{ and } \lceil n L \Delta \rceil
            \text{ for } t \geq 2 \text{ under "correct\_permanently"}

        Parameters
        ----------
        n_entries : int
            Number n x L of entries of the batch, known ones included.
        epoch : int
            Counted from 1.

        Returns
        -------
        int
            From 0 to `n_entries`.
        """
        steps = min(epoch - 1, 1) if self._permanent else epoch - 1
        # Round first, so that 0.1 * 3 * 10 is 3.
        return min(n_entries, math.ceil(round(n_entries * steps * float(self.delta), 9)))

    @override
    def state_spec(self) -> dict[str, StateTensor]:
        return {"labels": StateTensor(per_row=True)} if self._permanent else {}

    @override
    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State | None:
        if not self._permanent:
            return None
        copy = (labels.to_dense() if labels.layout == torch.sparse_csr else labels).to(torch.int8, copy=True)
        if previous is not None:
            copy = torch.where(copy == 0, previous["labels"].to(copy.device), copy)
        return {"labels": copy}

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        return {} if state is None else {"corrected_labels_": state["labels"].cpu().numpy()}

    def _large(self, block: Block, unknown: Tensor) -> tuple[Tensor, Tensor]:
        """Two masks of unknown entries: modified in this step, and modified permanently."""
        if block.counted is not None:
            unknown = unknown & block.counted
        if self.threshold == "absolute":
            limit = max(self.initial_threshold - block.epoch * self.delta, 0.0)
            large = unknown & (
                cross_entropy(block.needed_logits, torch.zeros_like(block.needed_logits), self.eps) > limit
            )
            return large, large
        counted = block.counted
        n_entries = unknown.numel() if counted is None else int(counted.expand_as(unknown).sum())
        k = self.n_modified(n_entries, block.epoch)
        k = min(k, int(unknown.sum())) if k else 0
        if k == 0:
            nothing = torch.zeros_like(unknown)
            return nothing, nothing
        # The loss of an assumed negative rises with the logit, and the logit does not saturate.
        logits = block.needed_logits.masked_fill(~unknown, -math.inf)
        kth = logits.flatten().topk(k, sorted=False).values.min()
        large = unknown & (logits >= kth)
        return large, large & (logits > kth) if self.strict else large

    @override
    def targets(self, block: Block) -> Targets:
        labels = block.labels
        if self._permanent and block.state is not None:
            # Corrections apply to unknown entries only; a relabelling may have filled in more since.
            kept = block.state["labels"] if block.rows is None else block.state["labels"][block.rows]
            labels = torch.where(labels == 0, kept, labels.to(kept.dtype))
        large, lasting = self._large(block, labels == 0)
        present = labels == 1
        if self.scheme == "reject":
            return Targets(present.to(block.dtype), (~large).to(block.dtype))
        if self._permanent and block.state is not None:
            # Entries that a relabelling fills in may change later, so they are not stored.
            corrected = kept.masked_fill(lasting, 1)
            if block.rows is None:
                block.state["labels"].copy_(corrected)
            else:
                block.state["labels"][block.rows] = corrected
        return Targets((present | large).to(block.dtype), None)
