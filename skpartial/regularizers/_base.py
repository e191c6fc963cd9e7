"""Base class of regularisers: terms that depend on the whole batch, added to the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skpartial._documentation import Documented
from skpartial._state import State, Stateful
from skpartial.labels import LabelMatrix

__all__ = ["BatchContext", "Regularizer"]


@dataclass(frozen=True)
class BatchContext:
    """Everything that a regulariser may use.

    Parameters
    ----------
    features : Tensor of shape (b, d), or (b, C, h, w)
        Input of the head, in the units of X. With a backbone, these are the features or maps from the network, never
        pixels, and gradients flow through them to the network. Sparse COO if X is sparse.
    logits : Tensor of shape (b, L)
        Part of the autograd graph: gradients flow to the head.
    labels : Tensor of shape (b, L)
        Labels used in training, in {-1, 0, 1}.
    rows : Tensor of int64, shape (b,)
        Indices of these rows in the training set.
    head : torch.nn.Module
        The head being trained, from `features` to `logits`; never the whole network.
    epoch : int
        Counted from 1.
    state : dict of str to Tensor, or None, default=None
        State of the regulariser. Learned tensors are part of the autograd graph and trained by the gradient of the
        term; all others may be updated in place.
    targets : Tensor of shape (b, L), or None, default=None
        Soft targets from a relabelling, NaN where there are none.
    weights : Tensor of shape (b,) or (b, L), or None, default=None
        Weights of rows or entries.
    loss : Tensor of shape (), or None, default=None
        Value of the loss on the batch, detached, for terms that are scaled relative to it.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    rows: Tensor
    head: nn.Module
    epoch: int
    state: State | None = None
    targets: Tensor | None = None
    weights: Tensor | None = None
    loss: Tensor | None = None


class Regularizer(Stateful, Documented, BaseEstimator, ABC):
    """Base class of regularisers: value objects that add a term to the loss of a batch.

    A subclass defines `__call__`. If it has a state, such as a memory bank or a learned matrix, it also defines
    `state_spec` and `start`, and finds the state in the batch.
    """

    #: Whether the term needs meaningful predictions from its first batch on. If so, the head is first trained without
    #: the term, by a convex solve where possible, and then refined with it.
    refines: ClassVar[bool] = False

    def check(self, labels: LabelMatrix) -> None:
        """Raise an error, before training, for hyperparameters or labels that this term cannot work with.

        Parameters
        ----------
        labels : LabelMatrix
            The training labels.

        Raises
        ------
        ValueError
            The message names the parameter, its value and what to do. By default nothing is checked.
        """

    @abstractmethod
    def __call__(self, batch: BatchContext) -> Tensor:
        """Value of the term.

        Parameters
        ----------
        batch : BatchContext
            The batch, the head being trained, and the state.

        Returns
        -------
        Tensor of shape ()
            Differentiable in the head's parameters, in the features, and in the learned tensors of the state.
        """
