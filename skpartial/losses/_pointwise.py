"""Pointwise losses: weighted cross-entropy whose targets and weights are a rule over the labels."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.labels import LabelMatrix
from skpartial.losses._base import Loss, State, Traits, mean_weight
from skpartial.losses._cross_entropy import cross_entropy, cross_entropy_gradient

__all__ = ["Block", "PointwiseLoss", "Targets"]


@dataclass(frozen=True)
class Block:
    """Rows of the training set as a rule sees them.

    Parameters
    ----------
    labels : Tensor of shape (n, L)
        Values in {-1, 0, 1}.
    logits : Tensor of shape (n, L), or None, default=None
        Detached; only an iterative rule looks at them.
    state : dict of str to Tensor, or None, default=None
        The state of the loss.
    rows : Tensor of int64, shape (n,), or None, default=None
        Which rows of the training set these are.
    epoch : int, default=1
        The pass over the training set, or the round, counted from 1.
    dtype : torch.dtype, default=torch.get_default_dtype()
        Floating type in which to answer.

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import Block
    >>> Block(torch.tensor([[1, 0, -1]])).known
    tensor([[1., 0., 1.]])
    """

    labels: Tensor
    logits: Tensor | None = None
    state: State | None = None
    rows: Tensor | None = None
    epoch: int = 1
    dtype: torch.dtype = field(default_factory=torch.get_default_dtype)

    @property
    def present(self) -> Tensor:
        """1 where a label is present, else 0; a new tensor of type `dtype`."""
        return (self.labels == 1).to(self.dtype)

    @property
    def known(self) -> Tensor:
        """1 where a label is known, else 0; a new tensor of type `dtype`."""
        return (self.labels != 0).to(self.dtype)

    @property
    def unknown(self) -> Tensor:
        """Whether a label is unknown; a new boolean tensor."""
        return self.labels == 0


class Targets(NamedTuple):
    """What a rule makes of a block of labels.

    Parameters
    ----------
    target : Tensor of shape (n, L)
        Probability of presence that the logits are drawn to, in [0, 1].
    weight : Tensor broadcastable to (n, L), or None
        Non-negative weight of each entry; None is 1 throughout.
    """

    target: Tensor
    weight: Tensor | None


def check_number(owner: object, name: str, value: object, interval: str) -> float:
    """Return a hyperparameter as a float, or refuse it with a sentence that names it.

    `interval` is written as in mathematics, such as "[0, 1)".
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    if not isinstance(value, bool) and isinstance(value, Real):
        number = float(value)
        above = number > low or (number == low and interval[0] == "[")
        below = number < high or (number == high and interval[-1] == "]")
        if above and below:
            return number
    raise ValueError(f"{type(owner).__name__}: {name} must be a number in {interval}, got {value!r}.")


class PointwiseLoss(Loss):
    r"""Base class of losses that are cross-entropy under a rule for the entries.

    .. math::

        \frac{1}{\sum_{ij} s_{ij}} \sum_{ij} s_{ij} w_{ij}
        \left[ -t_{ij} \log(p_{ij} + \epsilon) - (1 - t_{ij}) \log(1 - p_{ij} + \epsilon) \right]

    with sample weights s (1 unless given), so that without them the divisor is n x L, unknown entries included.

    A subclass defines `targets`, the one place that decides what a known and an unknown entry mean, from which value,
    gradient and the convex solver's problem follow.

    Parameters
    ----------
    eps : float, default=0.0
        The constant inside the logarithm. The released code of Cole et al. (2021) has 1e-5; at 0 the loss is convex
        and stable for any logits.
    """

    def __init__(self, *, eps: float = 0.0) -> None:
        self.eps = eps

    @abstractmethod
    def targets(self, block: Block) -> Targets:
        """Targets and weights of a block of labels.

        Parameters
        ----------
        block : Block
            Labels, and what else a rule may look at.

        Returns
        -------
        Targets
            The target of each entry, and its weight.
        """

    def check(self, labels: LabelMatrix | None = None) -> None:
        """Refuse hyperparameters, or labels, that this loss cannot work with.

        Parameters
        ----------
        labels : LabelMatrix or None, default=None
            The labels to be trained on; None checks the hyperparameters alone.

        Raises
        ------
        ValueError
            Naming the parameter, its value and what to do.
        """
        super().check(labels)
        check_number(self, "eps", self.eps, "[0, 1)")

    def _resolve(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None,
        rows: Tensor | None,
        epoch: int,
        weights: Tensor | None,
    ) -> tuple[Tensor, Tensor | None, Tensor | float]:
        target, weight = self.targets(Block(labels, logits.detach(), state, rows, epoch, logits.dtype))
        sample, divisor = mean_weight(weights, logits)
        if sample is not None:
            weight = sample if weight is None else weight * sample
        return target, weight, divisor

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Weighted mean of the entries' cross-entropy.

        Parameters
        ----------
        logits : Tensor of shape (n, L)
            Real scores.
        labels : Tensor of shape (n, L)
            Values in {-1, 0, 1}.
        state : dict of str to Tensor, or None, default=None
            What `init_state` returned.
        rows : Tensor of int64, shape (n,), or None, default=None
            Which rows of the training set these are.
        epoch : int, default=1
            The pass over the training set, counted from 1.
        weights : Tensor of shape (n,) or (n, L), or None, default=None
            Sample weights.

        Returns
        -------
        Tensor of shape ()
            Differentiable in `logits`.
        """
        self.check()
        if logits.shape != labels.shape:
            raise ValueError(f"logits has shape {tuple(logits.shape)}, but labels has shape {tuple(labels.shape)}.")
        target, weight, divisor = self._resolve(logits, labels, state, rows, epoch, weights)
        entries = cross_entropy(logits, target, self.eps)
        return (entries if weight is None else entries * weight).sum() / divisor

    def value_and_gradient(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Value and gradient in closed form, without an autograd graph.

        Parameters
        ----------
        logits, labels, state, rows, epoch, weights
            As in `__call__`.

        Returns
        -------
        value : Tensor of shape ()
            The loss.
        gradient : Tensor of shape (n, L)
            Its derivative in each logit.
        """
        with torch.no_grad():
            target, weight, divisor = self._resolve(logits, labels, state, rows, epoch, weights)
            entries = cross_entropy(logits, target, self.eps)
            gradient = cross_entropy_gradient(logits, target, self.eps)
            if weight is not None:
                entries, gradient = entries * weight, gradient * weight
            return entries.sum() / divisor, gradient / divisor

    def _convex_traits(self, unknown: str) -> Traits:
        """Traits of a rule that does not look at the logits."""
        return Traits(convex=self.eps == 0, unknown=unknown)  # type: ignore[arg-type]
