"""What an estimator hands to a solver, and what it gets back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skpartial._progress import progress_bar
from skpartial._state import Predictor, State, Stateful
from skpartial.features._base import Features
from skpartial.heads import Head, HeadContext
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData
from skpartial.losses import Loss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.training._checkpoints import Checkpoint
from skpartial.training._data import EntryWeights

__all__ = ["Monitor", "Problem", "Solution", "Validation"]


#: Takes the record of an epoch or iteration and a function that gives its parameters; True asks to stop.
Monitor = Callable[[dict[str, Any], Callable[[], dict[str, Any]]], bool]


@dataclass
class Validation:
    """Held-out rows by which the epoch is chosen.

    Parameters
    ----------
    features : Features
        Of the held-out rows.
    score : callable
        From logits, an ndarray of shape (n, L), to a number of which more is better.
    """

    features: Features
    score: Callable[[NDArray[Any]], float]


@dataclass
class Problem:
    """One training task.

    Parameters
    ----------
    features : Features
        The training rows.
    data : TrainingData
        Their labels, and what else the user knows of them.
    weights : EntryWeights
        Weights of rows or entries.
    loss : Loss
        What is minimised.
    head : Head
        From features to logits.
    relabeling : Relabeling or None
        What happens to labels between epochs.
    regularizer : Regularizer or None
        A term of the batch.
    alpha : float
        L2 penalty of a label's weights.
    seed : int
        Of all random numbers.
    monitor : Monitor
        Called at the end of every epoch.
    validation : Validation or None
        Held-out rows.
    start : dict of str to ndarray, or None
        Parameters of the head to go on from.
    previous_states : dict of str to dict of str to Tensor
        States of loss, regulariser and relabelling to go on from.
    optimizer_state : dict or None
        What an earlier solution left, for `partial_fit`.
    first_epoch : int
        What the first epoch is called.
    network : callable or None
        From a head to the network that ends in it; None where rows of features go to the head as they are.
    pretrained : bool
        Whether that network has learned something before.
    checkpoint : Checkpoint or None
        Where the state is saved after every epoch, and gone on from.
    show_batches : bool
        Whether a bar is shown in every epoch of batches.
    incremental : bool
        Whether these rows are one part of a stream, so that a label without both signs in them may still be fitted.
    """

    features: Features
    data: TrainingData
    weights: EntryWeights
    loss: Loss
    head: Head
    relabeling: Relabeling | None
    regularizer: Regularizer | None
    alpha: float
    seed: int
    monitor: Monitor
    validation: Validation | None = None
    start: dict[str, NDArray[Any]] | None = None
    previous_states: dict[str, State] = field(default_factory=dict)
    optimizer_state: dict[str, Any] | None = None
    first_epoch: int = 1
    network: Callable[[nn.Module], nn.Module] | None = None
    pretrained: bool = False
    checkpoint: Checkpoint | None = None
    show_batches: bool = False
    incremental: bool = False

    def batch_bar(self, epoch: int, n_batches: int) -> AbstractContextManager[Callable[[int], None]]:
        """A bar for an epoch, where it is wanted; what it gives is called with a number of batches."""
        return progress_bar(f"Epoch {epoch}", n_batches, shown=self.show_batches, unit="batches")

    @property
    def labels(self) -> LabelMatrix:
        """The labels that the user passed."""
        return self.data.labels

    @property
    def parts(self) -> dict[str, Stateful]:
        """What may remember something, by name: loss, regulariser and relabelling."""
        parts = {"loss": self.loss, "regularizer": self.regularizer, "relabeling": self.relabeling}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def head_context(self) -> HeadContext:
        """What the head is built for."""
        labels = self.labels
        return HeadContext(
            self.features.n_features, labels.n_labels, label_names=labels.names, labels=labels, seed=self.seed
        )

    @property
    def draws(self) -> bool:
        """Whether training draws from PyTorch's own generator, which then has to be seeded."""
        return self.network is not None or self.head.draws

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return self.features.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type to compute in."""
        return self.features.dtype


@dataclass
class Solution:
    """What training found.

    Parameters
    ----------
    parameters : dict of str to ndarray
        The head's, by the names of its module; a linear head has "weight" (L, d) and "bias" (L,).
    states : dict of str to dict of str to Tensor
        Of loss, regulariser and relabelling, of the chosen epoch.
    data : TrainingData
        What was trained on in that epoch.
    head_context : HeadContext
        What the head was built for.
    history : list of dict
        One record an epoch or iteration.
    n_iter : int
        Epochs or iterations done.
    stopped : bool
        Whether it ended before the last epoch.
    best_epoch : int or None
        The epoch chosen by validation.
    unfitted : ndarray of bool, shape (L,)
        Labels that could not be fitted and keep a prior intercept.
    optimizer_state : dict or None
        For `partial_fit` to go on from.
    predictor : Predictor or None
        Of the training rows, under these parameters.
    """

    parameters: dict[str, NDArray[Any]]
    states: dict[str, State]
    data: TrainingData
    head_context: HeadContext
    history: list[dict[str, Any]]
    n_iter: int
    stopped: bool = False
    best_epoch: int | None = None
    unfitted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    optimizer_state: dict[str, Any] | None = None
    predictor: Predictor | None = None
