"""What a regulariser is: a term of the whole batch, added to the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sklearn.base import BaseEstimator
from torch import Tensor, nn

__all__ = ["BatchContext", "Regularizer"]


@dataclass
class BatchContext:
    """What a regulariser may look at.

    Parameters
    ----------
    features : Tensor of shape (b, d)
        Of the batch.
    logits : Tensor of shape (b, L)
        Part of the graph: gradients flow to the head.
    labels : Tensor of shape (b, L)
        Values in {-1, 0, 1}.
    rows : Tensor of int64, shape (b,)
        Which rows of the training set these are.
    head : torch.nn.Module
        The live head.
    epoch : int
        Counted from 1.
    """

    features: Tensor
    logits: Tensor
    labels: Tensor
    rows: Tensor
    head: nn.Module
    epoch: int


class Regularizer(BaseEstimator, ABC):
    """Base class of regularisers: value objects that add a term of the batch to the loss.

    A subclass defines `__call__`.
    """

    @abstractmethod
    def __call__(self, batch: BatchContext) -> Tensor:
        """Value of the term.

        Parameters
        ----------
        batch : BatchContext
            The batch and the live head.

        Returns
        -------
        Tensor of shape ()
            Differentiable in the head's parameters.
        """
