"""What an estimator hands to a solver, and what it gets back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skpartial.features._base import Features, as_tensor
from skpartial.heads import Head
from skpartial.labels import LabelMatrix
from skpartial.losses import Loss
from skpartial.losses._base import State
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.training._checkpoints import Checkpoint

__all__ = ["EntryWeights", "LabelSource", "Monitor", "Problem", "Solution", "Validation"]


class LabelSource:
    """Blocks of labels on a device: resident where the matrix is dense, made dense by the block where it is sparse."""

    def __init__(self, labels: LabelMatrix, device: torch.device) -> None:
        self.matrix = labels
        self.device = device
        self._resident = None if labels.is_sparse else as_tensor(labels.rows(slice(None))).to(device)

    def rows(self, index: slice | Tensor) -> Tensor:
        """Labels of a slice or of indices, int8 of shape (b, L)."""
        if self._resident is not None:
            return self._resident[index]
        chosen = index if isinstance(index, slice) else index.cpu().numpy()
        return torch.from_numpy(self.matrix.rows(chosen)).to(self.device)

    def all(self) -> Tensor:
        """All labels, int8 of shape (n, L)."""
        return self.rows(slice(None))


class EntryWeights:
    """Weights of rows or entries: what the user gave, times the weight of the entry's class.

    Parameters
    ----------
    sample_weight : ndarray of shape (n,) or (n, L), or None
        Non-negative.
    class_weight : ndarray of shape (L, 3), or None
        Weight of an absent, an unknown and a present entry of each label.
    device, dtype
        Where and in which type blocks are made.
    """

    def __init__(
        self,
        sample_weight: NDArray[Any] | None,
        class_weight: NDArray[Any] | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.sample = None if sample_weight is None else as_tensor(sample_weight).to(dtype=dtype, device=device)
        self.by_class = None if class_weight is None else torch.as_tensor(class_weight, dtype=dtype, device=device)

    @property
    def of_rows(self) -> Tensor | None:
        """What each row counts for, shape (n,), or None where all count alike."""
        return self.sample if self.sample is None or self.sample.ndim == 1 else self.sample.mean(1)

    def rows(self, index: slice | Tensor, labels: Tensor) -> Tensor | None:
        """Weights of a block: shape (b,) or (b, L), or None where every entry weighs 1."""
        sample = None if self.sample is None else self.sample[index]
        if self.by_class is None:
            return sample
        column = torch.arange(labels.shape[1], device=labels.device)
        weights = self.by_class[column, labels.to(torch.int64) + 1]
        if sample is None:
            return weights
        return weights * (sample[:, None] if sample.ndim == 1 else sample)


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
    labels : LabelMatrix
        Their labels.
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
    previous_state : dict of str to Tensor, or None
        State of the loss to go on from.
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
    incremental : bool
        Whether these rows are one part of a stream, so that a label without both signs in them may still be fitted.
    """

    features: Features
    labels: LabelMatrix
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
    previous_state: State | None = None
    optimizer_state: dict[str, Any] | None = None
    first_epoch: int = 1
    network: Callable[[nn.Module], nn.Module] | None = None
    pretrained: bool = False
    checkpoint: Checkpoint | None = None
    incremental: bool = False

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
    state : dict of str to Tensor, or None
        The loss's, of the chosen epoch.
    labels : LabelMatrix
        As last relabelled.
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
    logits : callable or None
        From row indices of the training set to their logits under these parameters.
    """

    parameters: dict[str, NDArray[Any]]
    state: State | None
    labels: LabelMatrix
    history: list[dict[str, Any]]
    n_iter: int
    stopped: bool = False
    best_epoch: int | None = None
    unfitted: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    optimizer_state: dict[str, Any] | None = None
    logits: Callable[[Tensor], Tensor] | None = None


def _as_torch(labels: LabelMatrix) -> Tensor:
    """All labels as one tensor: dense int8, or sparse CSR where they are sparse."""
    if not labels.is_sparse:
        return as_tensor(labels.rows(slice(None)))
    matrix = labels.values
    start, columns = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        # Older versions of PyTorch find the stride of an empty array, which is 0, invalid.
        return torch.sparse_csr_tensor(
            start, columns, torch.from_numpy(matrix.data), size=matrix.shape, check_invariants=matrix.nnz > 0
        )


def start_state(problem: Problem) -> State | None:
    """The state of the loss for this training set, going on from an earlier one if there is one."""
    loss = problem.loss
    if not loss.state_spec():
        return None
    generator = torch.Generator().manual_seed(problem.seed)
    previous = problem.previous_state
    if previous is not None and not set(loss.state_spec()) <= set(previous):
        previous = None  # of another loss
    state = loss.init_state(_as_torch(problem.labels), generator, previous)
    return None if state is None else {name: tensor.to(problem.device) for name, tensor in state.items()}


def predict_logits(module: nn.Module, features: Features, rows: Tensor | None = None) -> Tensor:
    """Logits of all rows, or of some, in evaluation mode and by batches."""
    index = torch.arange(features.n_rows) if rows is None else rows
    step = max(1, (16 << 20) // max(1, features.row_bytes))
    was_training = module.training
    module.eval()
    with torch.no_grad():
        parts = [module(batch) for batch in features.batches(index.split(step))]
    module.train(was_training)
    return torch.cat(parts)
