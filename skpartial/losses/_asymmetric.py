"""Focal losses that treat positive, negative and unknown entries differently: asymmetric and selective."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_number, wrong_value
from skpartial._state import State, StateTensor, TrainingContext
from skpartial.labels import LabelMatrix
from skpartial.losses._base import Traits
from skpartial.losses._entrywise import Block, Entries, EntrywiseLoss
from skpartial.losses._focal import by_label

__all__ = ["AsymmetricLoss", "SelectiveLoss"]


def _shifted_present(x: Tensor, gamma: float) -> Entries:
    r"""Value :math:`-(1 - p)^γ \log p`, and its derivative with the weight held fixed."""
    absent = torch.sigmoid(-x)
    weight = absent**gamma
    return Entries(weight * F.softplus(-x), -weight * absent)


def _shifted_absent(x: Tensor, gamma: float | Tensor, margin: float) -> Entries:
    r"""Value :math:`-p_m^γ \log(1 - p_m)`, and its derivative with the weight held fixed."""
    p, absent = torch.sigmoid(x), torch.sigmoid(-x)
    if margin == 0:
        weight = p**gamma
        return Entries(weight * F.softplus(x), weight * p)
    weight = (p - margin).clamp(min=0) ** gamma
    # Entries with p below the margin are discarded.
    beyond = (p > margin).to(x.dtype)
    return Entries(-weight * (absent + margin).clamp(max=1).log(), weight * beyond * p * absent / (absent + margin))


class AsymmetricLoss(EntrywiseLoss):
    r"""Focal loss with separate focusing of positives and negatives (ASL); unknown counts as negative.

    .. math::

        f_{ij} = \begin{cases}
        -(1 - p)^{\gamma_+} \log p & \text{present} \\
        -p_m^{\gamma_-} \log(1 - p_m), \quad p_m = \max(p - m, 0) & \text{otherwise}
        \end{cases}

    Most negatives are easy. They count for little, and for nothing below a probability of m. The focusing weights are
    held fixed in the gradient, as in the released code. The source sums over entries; here the loss is their mean.

    Parameters
    ----------
    gamma_present : float, default=1.0
        Focusing :math:`\gamma_+` of positives, at least 0.
    gamma_absent : float, default=4.0
        Focusing :math:`\gamma_-` of negatives, at least 0. The source recommends small values at first if training does
        not make progress.
    margin : float, default=0.05
        Probability m that is subtracted from the probabilities of negatives, in [0, 1).

    References
    ----------
    .. [1] T. Ridnik, E. Ben-Baruch, N. Zamir, A. Noy, I. Friedman, M. Protter, L. Zelnik-Manor, "Asymmetric Loss For
       Multi-Label Classification", ICCV 2021.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import AsymmetricLoss
    >>> AsymmetricLoss()(torch.tensor([[2.0, -1.0]]), torch.tensor([[1, 0]]))
    tensor(0.0078)
    """

    short_names = {"asl": {}}

    def __init__(self, gamma_present: float = 1.0, gamma_absent: float = 4.0, margin: float = 0.05) -> None:
        self.gamma_present = gamma_present
        self.gamma_absent = gamma_absent
        self.margin = margin

    @override
    def traits(self) -> Traits:
        return Traits(unknown="absent")

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        check_number(self, "gamma_present", self.gamma_present, "[0, inf)")
        check_number(self, "gamma_absent", self.gamma_absent, "[0, inf)")
        check_number(self, "margin", self.margin, "[0, 1)")

    @override
    def entries(self, block: Block) -> Entries:
        absent = _shifted_absent(block.needed_logits, self.gamma_absent, self.margin)
        return by_label(block.labels, _shifted_present(block.needed_logits, self.gamma_present), absent, absent)


class SelectiveLoss(EntrywiseLoss):
    r"""Asymmetric focal loss that ignores unknown entries likely to be positive (partial ASL, CSL).

    .. math::

        f_{ij} = \begin{cases}
        -(1 - p)^{\gamma_+} \log p & \text{present} \\
        -p_m^{\gamma_-} \log(1 - p_m) & \text{absent} \\
        0 & \text{unknown, and the label is common or } p \text{ among the } K B \text{ largest} \\
        -p_m^{\gamma_u} \log(1 - p_m) & \text{unknown otherwise}
        \end{cases}

    A label is common if its prior exceeds a threshold. The largest probabilities are sought among the unknown entries
    of a batch of B rows. Weights are held fixed in the gradient, as in :class:`AsymmetricLoss`. After training,
    `class_prior_` (L,) holds the priors. Estimated priors are kept in the state, together with the number of known
    entries behind them: an estimate from more entries is not replaced by one from fewer.

    Parameters
    ----------
    gamma_present, gamma_absent, gamma_unknown : float, default=0.0, 1.0, 4.0
        Focusing of each kind of entry, at least 0.
    margin : float, default=0.0
        Probability m that is subtracted from the probabilities of negatives, in [0, 1).
    n_ignored : float or "auto", default="auto"
        Number K of unknown entries ignored per row of the batch, at least 0. "auto" is the published 5 with 80 labels
        or more, and a sixteenth of the number of labels with fewer.
    prior_threshold : float, default=0.5
        Labels with a larger prior are ignored where unknown; in [0, 1].
    class_prior : "estimate" or array-like of shape (L,), default="estimate"
        How common each label is, in [0, 1]. "estimate" takes the share of positives among the known entries of each
        label that has both known positives and known negatives, and 0 for the others, so that they are never ignored as
        common. The source estimates it with a classifier trained on the known entries beforehand.

    References
    ----------
    .. [1] E. Ben-Baruch, T. Ridnik, I. Friedman, A. Ben-Cohen, N. Zamir, A. Noy, L. Zelnik-Manor, "Multi-label
       Classification with Partial Annotations using Class-aware Selective Loss", CVPR 2022.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import Block, SelectiveLoss
    >>> block = Block(torch.tensor([[1, 0, 0, -1]]), torch.tensor([[0.5, 3.0, -1.0, 1.0]]))
    >>> SelectiveLoss(n_ignored=1).ignored(block)
    tensor([[False,  True, False, False]])
    """

    short_names = {"csl": {}}

    def __init__(
        self,
        gamma_present: float = 0.0,
        gamma_absent: float = 1.0,
        gamma_unknown: float = 4.0,
        margin: float = 0.0,
        n_ignored: float | Literal["auto"] = "auto",
        prior_threshold: float = 0.5,
        class_prior: Literal["estimate"] | ArrayLike = "estimate",
    ) -> None:
        self.gamma_present = gamma_present
        self.gamma_absent = gamma_absent
        self.gamma_unknown = gamma_unknown
        self.margin = margin
        self.n_ignored = n_ignored
        self.prior_threshold = prior_threshold
        self.class_prior = class_prior

    @override
    def traits(self) -> Traits:
        return Traits(unknown="absent")

    @property
    def _estimates(self) -> bool:
        return isinstance(self.class_prior, str)

    @override
    def check(self, labels: LabelMatrix | None = None) -> None:
        super().check(labels)
        for name in ("gamma_present", "gamma_absent", "gamma_unknown"):
            check_number(self, name, getattr(self, name), "[0, inf)")
        if self.n_ignored != "auto":
            check_number(self, "n_ignored", self.n_ignored, "[0, inf)")
        check_number(self, "margin", self.margin, "[0, 1)")
        check_number(self, "prior_threshold", self.prior_threshold, "[0, 1]")
        if self._estimates:
            if self.class_prior != "estimate":
                raise wrong_value(self, "class_prior", "'estimate' or one number per label", self.class_prior)
            return
        prior = np.asarray(self.class_prior)
        if prior.ndim != 1 or prior.dtype.kind not in "iuf" or not ((prior >= 0) & (prior <= 1)).all():
            raise wrong_value(self, "class_prior", "one number in [0, 1] per label", prior.tolist())
        if labels is not None and len(prior) != labels.n_labels:
            raise ValueError(
                f"SelectiveLoss: class_prior has {len(prior)} numbers, but y has {labels.n_labels} labels."
            )

    @override
    def state_spec(self) -> dict[str, StateTensor]:
        return {"class_prior": StateTensor(), "n_known": StateTensor()} if self._estimates else {}

    @override
    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State | None:
        if not self._estimates:
            return None
        counts = []
        for sign in (1, -1):
            if labels.layout == torch.sparse_csr:
                columns = labels.col_indices()[labels.values() == sign]
                counts.append(torch.bincount(columns, minlength=labels.shape[1]))
            else:
                counts.append((labels == sign).sum(0))
        present, absent = (count.double() for count in counts)
        n_known = (present + absent).sum()
        # Keep the estimate from more entries: this training set may be one chunk of a stream.
        if previous is not None and previous["n_known"].cpu() > n_known.cpu():
            return {name: tensor.clone() for name, tensor in previous.items() if name in self.state_spec()}
        both = (present > 0) & (absent > 0)
        prior = torch.where(both, present / (present + absent).clamp(min=1), 0.0)
        return {"class_prior": prior, "n_known": n_known}

    @override
    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        if not self._estimates:
            return {"class_prior_": np.asarray(self.class_prior, dtype=np.float64)}
        return {} if state is None else {"class_prior_": state["class_prior"].cpu().numpy()}

    def ignored(self, block: Block) -> Tensor:
        """Entries that the loss ignores.

        Parameters
        ----------
        block : Block
            Labels and logits. Without a state, only priors that were passed are used.

        Returns
        -------
        Tensor of bool, shape (n, L)
            Unknown entries of common labels, and those with the largest logits.
        """
        unknown, counted = block.unknown, block.counted
        n_rows: float = len(unknown)
        if counted is not None:
            unknown &= counted
            n_rows = float(counted.expand_as(unknown).sum()) / unknown.shape[1]
        ignored = torch.zeros_like(unknown)
        each = min(5.0, unknown.shape[1] / 16) if self.n_ignored == "auto" else float(self.n_ignored)
        k = min(int(round(each * n_rows, 9)), int(unknown.sum()))
        if k:
            logits = block.needed_logits.masked_fill(~unknown, -torch.inf)
            ignored |= logits >= logits.flatten().topk(k, sorted=False).values.min()
        prior = None if block.state is None else block.state["class_prior"]
        if prior is None and not self._estimates:
            prior = torch.tensor(np.asarray(self.class_prior, dtype=np.float64).tolist(), dtype=torch.float64)
        if prior is not None:
            ignored |= (prior > self.prior_threshold).to(unknown.device)
        return ignored & unknown

    @override
    def entries(self, block: Block) -> Entries:
        x = block.needed_logits
        terms = by_label(
            block.labels,
            _shifted_present(x, self.gamma_present),
            _shifted_absent(x, self.gamma_absent, self.margin),
            _shifted_absent(x, self.gamma_unknown, self.margin),
        )
        ignored = self.ignored(block)
        return Entries(terms.value.masked_fill_(ignored, 0), terms.gradient.masked_fill_(ignored, 0))
