"""Ensembles: copies of a head, each trained separately with its own row weights."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from typing_extensions import override

from skpartial._checks import check_whole
from skpartial.heads._base import Head, HeadContext, ParameterGroup
from skpartial.heads._linear import Linear, LinearModule
from skpartial.heads._module import CombinedHead, HeadModule, build_head

__all__ = ["Ensemble", "LinearMembersModule", "members_of_linear"]


class LinearMembersModule(LinearModule):
    """Linear heads computed in one product, with `weight` (M L, d) and `bias` (M L,), member by member.

    Parameters
    ----------
    n_features, n_labels, n_members : int
        Width of the features, number of labels and of members.
    """

    def __init__(self, n_features: int, n_labels: int, n_members: int) -> None:
        super().__init__(n_features, n_labels * n_members)
        self.n_members = n_members

    @override
    def set_prior(self, prior: Tensor) -> None:
        super().set_prior(prior.repeat(self.n_members))

    @override
    def settle(self, labels: Tensor, prior: Tensor) -> None:
        super().settle(labels.repeat(self.n_members), prior.repeat(self.n_members))

    @property
    @override
    def mean_weight(self) -> Tensor:
        return self.weight.unflatten(0, (self.n_members, -1)).mean(0)

    @override
    def member_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = super().forward(features)
        return logits.unflatten(1, (self.n_members, -1)).transpose(0, 1)

    @override
    def forward(self, features: Tensor) -> Tensor:
        """Mean logits of a batch over the members, which is linear as well."""
        bias = self.bias.unflatten(0, (self.n_members, -1)).mean(0)
        return self.affine(features, self.mean_weight, bias)


class MembersModule(CombinedHead):
    """Any heads, evaluated one by one.

    Parameters
    ----------
    members : list of HeadModule
        The heads, all of one kind.
    """

    def __init__(self, members: list[HeadModule]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    @property
    def parts(self) -> dict[str, HeadModule]:
        return {f"members.{i}": cast(HeadModule, member) for i, member in enumerate(self.members)}

    def member_logits(self, features: Tensor) -> Tensor:
        """Logits (M, b, L) of the members."""
        return torch.stack([member(features) for member in self.members])

    def forward(self, features: Tensor) -> Tensor:
        """Mean logits (b, L)."""
        return self.member_logits(features).mean(0)


class Ensemble(Head):
    r"""Copies of a head, trained side by side but separately; logits are the mean over the members.

    The loss of every member is on its own logits, with its own row weights, drawn once per fit from a gamma
    distribution with mean 1 and standard deviation 1/2. The Bayesian bootstrap [1]_ has a standard deviation of 1. With
    half of it, members differ about half as much; at full strength their mean was worse than a single head. Unlike
    drawing rows with replacement, weights leave out no row, so no member lacks the few positives of a rare label. A
    loss with a state shares one state among all members.

    With linear heads, the logits of all members are one matrix product, with ``solver=FullBatch()`` and ``Minibatch()``
    alike. Their mean is linear too: the estimator has it as `coef_` and `intercept_`, in addition to `member_coef_` (M,
    L, d) and `member_intercept_` (M, L). The standard deviation of ``member_decision_function(X)`` over the first axis
    shows how much the members differ per row and label.

    Parameters
    ----------
    head : Head or str, default="linear"
        The head to copy.
    n_members : int, default=5
        Number M of members.

    References
    ----------
    .. [1] D. B. Rubin, "The Bayesian Bootstrap", The Annals of Statistics 9, 1981.
    .. [2] B. Lakshminarayanan, A. Pritzel, C. Blundell, "Simple and Scalable Predictive Uncertainty Estimation using
       Deep Ensembles", NeurIPS 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.heads import Ensemble
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.standard_normal((50, 4)), rng.integers(-1, 2, size=(50, 3))
    >>> clf = PartialLabelClassifier(head=Ensemble(n_members=7), alpha=0.01, random_state=0).fit(X, Y)
    >>> spread = clf.member_decision_function(X).std(axis=0)
    >>> spread.shape
    (50, 3)
    """

    def __init__(self, head: str | Head = "linear", n_members: int = 5) -> None:
        self.head = head
        self.n_members = n_members

    @property
    def _head(self) -> Head:
        from skpartial import heads

        return heads.get(self.head)

    @property
    def takes_maps(self) -> bool:  # type: ignore[override]  # of a value object
        """Whether the members take feature maps."""
        return self._head.takes_maps

    @property
    def draws(self) -> bool:  # type: ignore[override]
        """Whether the members draw from PyTorch's global generator."""
        return self._head.draws

    @override
    def build(self, context: HeadContext) -> nn.Module:
        n_members, head = check_whole(self, "n_members", self.n_members, 1), self._head
        if members_of_linear(head) == 1:
            return LinearMembersModule(context.n_features, context.n_labels, n_members)
        return MembersModule([build_head(head, context) for _ in range(n_members)])

    @property
    def keeps_units(self) -> bool:  # type: ignore[override]  # of a value object
        """Whether `alpha` refers to features in the units in which they are passed, as for the members."""
        return self._head.keeps_units

    @override
    def parameter_groups(self, module: nn.Module) -> list[ParameterGroup]:
        if not isinstance(module, MembersModule):
            return super().parameter_groups(module)
        groups = [self._head.parameter_groups(member.inner) for member in module.parts.values()]
        return [
            ParameterGroup([p for group in alike for p in group.parameters], *alike[0][1:]) for alike in zip(*groups)
        ]

    @override
    def extra_penalty(self, module: nn.Module) -> Tensor | None:
        if not isinstance(module, MembersModule):
            return None
        found = [self._head.extra_penalty(member.inner) for member in module.parts.values()]
        return torch.stack(terms).sum() if (terms := [term for term in found if term is not None]) else None


def members_of_linear(head: Any) -> int | None:
    """Number of linear heads without dropout that make up a head; None for other heads."""
    if isinstance(head, Linear) and head.dropout == 0:
        return 1
    if isinstance(head, Ensemble) and members_of_linear(head._head) == 1:
        return check_whole(head, "n_members", head.n_members, 1)
    return None
