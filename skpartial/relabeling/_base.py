"""What happens to labels between epochs: the base of curricula and propagation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from skpartial.labels import LabelMatrix

__all__ = ["Relabeling", "RelabelingContext", "apply_relabeling"]


@dataclass
class RelabelingContext:
    """What a relabelling may look at, at the start of an epoch.

    Parameters
    ----------
    epoch : int
        The epoch about to begin, from 2: before the first there is nothing to predict with.
    given : LabelMatrix
        The labels that the user passed.
    current : LabelMatrix
        The labels as relabelled so far.
    logits : callable
        From row indices, or None for all rows, to logits of shape (b, L).
    features : callable
        From row indices to features of shape (b, d).
    generator : torch.Generator
        Source of random numbers.
    """

    epoch: int
    given: LabelMatrix
    current: LabelMatrix
    logits: Callable[[Tensor | None], Tensor]
    features: Callable[[Tensor], Tensor]
    generator: torch.Generator


class Relabeling(BaseEstimator, ABC):
    """Base class of relabellings: value objects that rewrite labels between epochs or rounds.

    A subclass defines `relabel`. The labels that the user passed are never written to.
    """

    @abstractmethod
    def relabel(self, context: RelabelingContext) -> Any:
        """Labels for the epoch about to begin.

        Parameters
        ----------
        context : RelabelingContext
            The epoch, the labels and the current predictions.

        Returns
        -------
        matrix of shape (n, L) with values in {-1, 0, 1}, or None
            None leaves the labels as they are.
        """


def apply_relabeling(relabeling: Relabeling, context: RelabelingContext) -> LabelMatrix:
    """Labels after a relabelling, refused if they do not fit the training set."""
    relabelled = relabeling.relabel(context)
    if relabelled is None:
        return context.current
    encoded = LabelMatrix.encode(relabelled, name="the result of relabeling")
    if encoded.shape != context.given.shape:
        raise ValueError(
            f"{type(relabeling).__name__}.relabel returned labels of shape {encoded.shape}, but the training set has "
            f"labels of shape {context.given.shape}."
        )
    return LabelMatrix(encoded.values, context.given.names)
