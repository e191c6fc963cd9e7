"""What a regulariser is: a term of the whole batch, added to the loss."""

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
    """What a regulariser may look at.

    Parameters
    ----------
    features : Tensor of shape (b, d), or (b, C, h, w)
        What the head sees of the batch, in the units of X: with a backbone the features or maps that the network makes
        of images, through which gradients flow to it, never pixels. Sparse COO where X is sparse.
    logits : Tensor of shape (b, L)
        Part of the graph: gradients flow to the head.
    labels : Tensor of shape (b, L)
        Labels in use, in {-1, 0, 1}.
    rows : Tensor of int64, shape (b,)
        Which rows of the training set these are.
    head : torch.nn.Module
        The live head, from `features` to `logits`; never the whole network.
    epoch : int
        Counted from 1.
    state : dict of str to Tensor, or None, default=None
        The regulariser's. What is learned is part of the graph, and moved by the gradient of the term; everything else
        may be updated in place.
    targets : Tensor of shape (b, L), or None, default=None
        Soft targets that a relabelling gave, NaN where there is none.
    weights : Tensor of shape (b,) or (b, L), or None, default=None
        Weights of rows or entries.
    loss : Tensor of shape (), or None, default=None
        Value of the loss on the batch, detached, for terms that are weighed against it.
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
    """Base class of regularisers: value objects that add a term of the batch to the loss.

    A subclass defines `__call__`. One that remembers something, such as a memory bank or a matrix that is learned,
    defines `state_spec` and `start` as well, and finds its state in the batch.
    """

    #: Whether the term needs predictions that mean something from its first batch on: the head is then trained without
    #: it first, by a convex solve where that is possible, and refined with it.
    refines: ClassVar[bool] = False

    def check(self, labels: LabelMatrix) -> None:
        """Refuse hyperparameters, or labels, that this term cannot work with, before any training.

        Parameters
        ----------
        labels : LabelMatrix
            The labels to be trained on.

        Raises
        ------
        ValueError
            Naming the parameter, its value and what to do. By default nothing is refused.
        """

    @abstractmethod
    def __call__(self, batch: BatchContext) -> Tensor:
        """Value of the term.

        Parameters
        ----------
        batch : BatchContext
            The batch, the live head, and the state.

        Returns
        -------
        Tensor of shape ()
            Differentiable in the head's parameters, in the features, and in what the state learns.
        """
