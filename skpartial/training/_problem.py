"""The problem that an estimator passes to a solver, and the solution that it gets back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from skpartial._processes import ALONE, Processes
from skpartial._progress import progress_bar
from skpartial._state import Predictor, State, Stateful
from skpartial.features._base import Features
from skpartial.features._moments import Spread
from skpartial.heads import Head, HeadContext
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData
from skpartial.losses import Loss
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.training._checkpoints import Checkpoint
from skpartial.training._data import EntryWeights

__all__ = ["Monitor", "Problem", "Solution", "Validation"]


#: Takes the record of an epoch or iteration and a function that returns the parameters; True asks to stop.
Monitor = Callable[[dict[str, Any], Callable[[], dict[str, Any]]], bool]


@dataclass
class Validation:
    """Held-out rows for choosing the epoch.

    Parameters
    ----------
    features : Features
        Features of the held-out rows.
    score : callable
        From logits, an ndarray of shape (n, L), to a score; higher is better.
    """

    features: Features
    score: Callable[[NDArray[Any]], float]


@dataclass
class Problem:
    """One training task.

    Parameters
    ----------
    features : Features
        Features of the training rows.
    data : TrainingData
        Labels of the training rows, and everything else that the user passed about them.
    weights : EntryWeights
        Weights of rows or entries.
    loss : Loss
        The loss to minimise.
    head : Head
        The head, from features to logits.
    relabeling : Relabeling or None
        Changes labels between epochs.
    regularizer : Regularizer or None
        A term that depends on the whole batch.
    alpha : float
        L2 penalty of the weights of a label.
    seed : int
        Seed of all random numbers.
    monitor : Monitor
        Called at the end of every epoch.
    validation : Validation or None
        Held-out rows.
    start : dict of str to ndarray, or None
        Parameters of the head to start from.
    previous_states : dict of str to dict of str to Tensor
        States of loss, regulariser and relabelling to start from.
    optimizer_state : dict or None
        State of the optimiser from an earlier solution, for `partial_fit`.
    first_epoch : int
        Number of the first epoch.
    network : callable or None
        From a head to the network that ends in it; None if rows of features are the inputs of the head.
    pretrained : bool
        Whether that network is pretrained.
    checkpoint : Checkpoint or None
        File in which the state is saved after every epoch, and from which training continues.
    show_batches : bool
        Whether to show a progress bar over batches in every epoch.
    spread : Spread or None
        Mean and spread of the features; in a stream, those of all rows so far. None if they were not measured.
    incremental : bool
        Whether these rows are one chunk of a stream, so that a label with only one sign in them may still be fitted.
    processes : Processes, default=one alone
        Processes that train together, each with all of the data.
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
    spread: Spread | None = None
    incremental: bool = False
    processes: Processes = ALONE

    @property
    def sharing(self) -> Processes:
        """Processes that divide the rows; with a regulariser, which needs whole batches, each takes all rows."""
        return self.processes if self.regularizer is None else ALONE

    def batch_bar(self, epoch: int, n_batches: int) -> AbstractContextManager[Callable[[int], None]]:
        """A progress bar for an epoch, if `show_batches`; it returns a function to call with a number of batches."""
        return progress_bar(f"Epoch {epoch}", n_batches, shown=self.show_batches, unit="batches")

    @property
    def labels(self) -> LabelMatrix:
        """The labels that the user passed."""
        return self.data.labels

    @property
    def parts(self) -> dict[str, Stateful]:
        """Parts that may have a state, by name: loss, regulariser and relabelling."""
        parts = {"loss": self.loss, "regularizer": self.regularizer, "relabeling": self.relabeling}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def head_context(self) -> HeadContext:
        """Context that the head is built with."""
        labels = self.labels
        return HeadContext(
            self.features.n_features, labels.n_labels, label_names=labels.names, labels=labels, seed=self.seed
        )

    @property
    def draws(self) -> bool:
        """Whether training draws from PyTorch's global generator, which then has to be seeded."""
        return self.network is not None or self.head.draws

    @property
    def device(self) -> torch.device:
        """Device of the computation."""
        return self.features.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the computation."""
        return self.features.dtype


@dataclass
class Solution:
    """Result of a training.

    Parameters
    ----------
    parameters : dict of str to ndarray
        Parameters of the head, by their names in the module; a linear head has "weight" (L, d) and "bias" (L,).
    states : dict of str to dict of str to Tensor
        States of loss, regulariser and relabelling in the chosen epoch.
    data : TrainingData
        Training data of that epoch.
    head_context : HeadContext
        Context that the head was built with.
    history : list of dict
        One record per epoch or iteration.
    n_iter : int
        Number of epochs or iterations.
    stopped : bool
        Whether training stopped before the last epoch.
    best_epoch : int or None
        The epoch chosen by validation.
    unfitted : ndarray of bool, shape (L,)
        Labels that could not be fitted and keep a prior intercept.
    optimizer_state : dict or None
        State of the optimiser, for `partial_fit` to continue from.
    predictor : Predictor or None
        Predictions for the training rows with these parameters.
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
