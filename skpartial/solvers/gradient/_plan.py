"""Numbers that gradient training runs by."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Numbers that training runs by.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd"}
        Which optimiser.
    learning_rate, momentum : float
        Its step size, and the momentum of "sgd".
    head_rate : float
        Step size of the head, as a multiple of the network's.
    weight_decay : float
        L2 penalty of the network's weights.
    schedule : {"constant", "cosine"}
        How step sizes change over the epochs.
    warm_up : float
        Share of all steps in which they rise from zero.
    clip_norm : float or None
        Length that the gradient of all parameters is cut to.
    accumulate : int
        Portions that a batch passes through the network in.
    max_epochs, batch_size : int
        How long and in what portions.
    shuffle : bool
        Whether each epoch draws a new order.
    rescale : bool
        Whether features are brought to a root mean square of 1 on their way in.
    patience : int or None
        Epochs without progress before stopping.
    tol : float
        Relative progress of the training loss that counts.
    """

    optimizer: str
    learning_rate: float
    momentum: float
    head_rate: float
    weight_decay: float
    schedule: str
    warm_up: float
    clip_norm: float | None
    accumulate: int
    max_epochs: int
    batch_size: int
    shuffle: bool
    rescale: bool
    patience: int | None
    tol: float

    @property
    def steady(self) -> bool:
        """Whether all steps have the same size."""
        return self.schedule == "constant" and self.warm_up == 0
