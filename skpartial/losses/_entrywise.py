"""Entrywise losses: the mean over entries of a function of each logit."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._state import State
from skpartial.losses._base import ClosedFormLoss, Step, mean_weight

__all__ = ["Block", "Entries", "EntrywiseLoss", "LogitsNeeded"]


class LogitsNeeded(ValueError):
    """A rule that needs logits was called without them."""


@dataclass(frozen=True)
class Block:
    """Rows of the training set, as passed to a rule.

    Parameters
    ----------
    labels : Tensor of shape (n, L)
        Values in {-1, 0, 1}.
    logits : Tensor of shape (n, L), or None, default=None
        Detached.
    state : dict of str to Tensor, or None, default=None
        The state of the loss.
    rows : Tensor of int64, shape (n,), or None, default=None
        Indices of these rows in the training set; None means all rows, in order.
    epoch : int, default=1
        The pass over the training set, or the round, counted from 1.
    dtype : torch.dtype, default=torch.get_default_dtype()
        Floating type of the result.
    weights : Tensor of shape (n,) or (n, L), or None, default=None
        Sample weights, which the mean over entries applies. A rule that compares entries leaves out entries of weight
        0.

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
    weights: Tensor | None = None

    def signs_of(self, targets: Tensor) -> tuple[Block, Block]:
        """The same rows with every soft target set to positive, and to negative.

        Parameters
        ----------
        targets : Tensor of shape (n, L)
            NaN where the label is the target.

        Returns
        -------
        tuple of two Blocks
            Equal where the label is the target.
        """
        soft = ~targets.isnan()
        present, absent = (replace(self, labels=self.labels.masked_fill(soft, sign)) for sign in (1, -1))
        return present, absent

    @property
    def counted(self) -> Tensor | None:
        """Entries of non-zero weight, as a boolean tensor broadcastable to (n, L); None if all are."""
        if self.weights is None:
            return None
        return (self.weights[:, None] if self.weights.ndim == 1 else self.weights) > 0

    @property
    def needed_logits(self) -> Tensor:
        """The logits; raises an error if the block has none."""
        if self.logits is None:
            raise LogitsNeeded("This loss needs logits: pass them too, as Block(labels, logits).")
        return self.logits

    @property
    def present(self) -> Tensor:
        """1 where a label is positive, else 0; a new tensor of type `dtype`."""
        return (self.labels == 1).to(self.dtype)

    @property
    def known(self) -> Tensor:
        """1 where a label is known, else 0; a new tensor of type `dtype`."""
        return (self.labels != 0).to(self.dtype)

    @property
    def unknown(self) -> Tensor:
        """Whether a label is unknown; a new boolean tensor."""
        return self.labels == 0


class Entries(NamedTuple):
    """The loss of every entry of a block.

    Parameters
    ----------
    value : Tensor of shape (n, L)
        The loss of each entry; a new tensor.
    gradient : Tensor of shape (n, L)
        The derivative of the value in the logit of the entry; a new tensor.
    """

    value: Tensor
    gradient: Tensor


class EntrywiseLoss(ClosedFormLoss):
    r"""Base class of losses that are a mean of terms, each of one logit.

    .. math:: \frac{1}{\sum_{ij} s_{ij}} \sum_{ij} s_{ij} f_{ij}(x_{ij})

    with sample weights s (1 unless given). Without them the divisor is n x L, unknown entries included.

    A subclass defines `entries`.
    """

    @abstractmethod
    def entries(self, block: Block) -> Entries:
        """The terms of a block, and their derivatives.

        Parameters
        ----------
        block : Block
            Labels, logits and everything else that the terms may depend on.

        Returns
        -------
        Entries
            Not reduced, and without sample weights.
        """

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
        return self.soft_step(logits, labels, None, state, rows=rows, epoch=epoch, weights=weights)

    @override
    def soft_step(
        self,
        logits: Tensor,
        labels: Tensor,
        targets: Tensor | None,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Step:
        with torch.no_grad():
            sample, divisor = mean_weight(weights, logits)
            block = Block(labels, logits.detach(), state, rows, epoch, logits.dtype, sample)
            value, gradient = self.entries(block) if targets is None else self._soft_entries(block, targets)
            if sample is not None:
                value, gradient = value.mul_(sample), gradient.mul_(sample)
            # In half precision the sum may overflow although the mean does not.
            total = value.sum(dtype=torch.promote_types(value.dtype, torch.float32))
            return Step((total / divisor).to(value.dtype), gradient.div_(divisor), {})

    def _soft_entries(self, block: Block, targets: Tensor) -> Entries:
        """Terms of a block; with a soft target, the mean over labels drawn from it."""
        (present, absent), share = block.signs_of(targets), targets.nan_to_num(1.0).to(block.dtype)
        mixed = zip(self.entries(present), self.entries(absent))
        return Entries(*(torch.lerp(of_absent, of_present, share) for of_present, of_absent in mixed))
