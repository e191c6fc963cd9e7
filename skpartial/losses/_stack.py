"""Several losses of a class as one, for candidates that are trained together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from skpartial._state import State
from skpartial.losses._base import Loss

__all__ = ["StackedLoss", "stack"]


class StackedLoss:
    """Several losses of one class, evaluated side by side on logits of several candidates.

    Parameters
    ----------
    losses : sequence of Loss
        The losses, one a candidate.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        if len({type(loss) for loss in losses}) != 1:
            raise ValueError(
                "stack needs at least one loss, and all of one class: "
                f"got {sorted({type(loss).__name__ for loss in losses})}."
            )
        self.losses = tuple(losses)

    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        states: Sequence[State | None] | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Values of all losses.

        Parameters
        ----------
        logits : Tensor of shape (K, n, L)
            Logits of each candidate.
        labels : Tensor of shape (n, L)
            Labels, shared by the candidates.
        states : sequence of K states, or None, default=None
            The state of each loss.
        rows, epoch, weights
            As for a single loss, shared by the candidates.

        Returns
        -------
        Tensor of shape (K,)
            The value of each loss on its own logits.
        """
        if logits.shape[0] != len(self.losses):
            raise ValueError(f"logits has {logits.shape[0]} candidates, but {len(self.losses)} losses were stacked.")
        chosen = states if states is not None else [None] * len(self.losses)
        return torch.stack(
            [
                loss(x, labels, state, rows=rows, epoch=epoch, weights=weights)
                for loss, x, state in zip(self.losses, logits, chosen)
            ]
        )


def stack(losses: Sequence[Loss]) -> StackedLoss:
    """Make one batched loss of several losses of a class that differ in their hyperparameters.

    Parameters
    ----------
    losses : sequence of Loss
        At least one, all of one class.

    Returns
    -------
    StackedLoss
        Maps logits (K, n, L) to values (K,).

    Examples
    --------
    >>> import torch
    >>> from skpartial.losses import PartialBCE, stack
    >>> logits, labels = torch.zeros(2, 3, 4), torch.ones(3, 4)
    >>> stack([PartialBCE(gamma=1), PartialBCE(gamma=-1)])(logits, labels)
    tensor([0.6931, 0.6931])
    """
    return StackedLoss(losses)
