"""Settings of gradient training."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """Settings of gradient training.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd"}
        The optimiser.
    learning_rate, momentum : float
        Step size, and the momentum of "sgd".
    head_rate : float
        Step size of the head, as a multiple of the step size of the network.
    weight_decay : float
        L2 penalty of the network's weights.
    schedule : {"constant", "cosine"}
        How step sizes change over the epochs.
    warm_up : float
        Share of all steps during which step sizes rise from zero.
    clip_norm : float or None
        Maximal norm of the gradient of all parameters.
    accumulate : int
        Number of parts in which a batch passes through the network.
    shard_parameters : bool
        Whether processes that train together divide the parameters of the network.
    max_epochs, batch_size : int
        Maximal number of epochs, and number of rows per batch.
    shuffle : bool
        Whether each epoch has a new order of rows.
    rescale : bool
        Whether features are scaled to a root mean square of 1.
    patience : int or None
        Number of epochs without progress before stopping.
    tol : float
        Least relative progress of the training loss that counts.
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
    shard_parameters: bool
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
