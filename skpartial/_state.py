"""The state of a loss, regulariser or relabelling during training: one protocol for all three.

The objects themselves hold hyperparameters only. Everything that changes is in a state, a dictionary of named tensors.
The training loop optimises the learned tensors, saves the state in checkpoints, passes it from one stage of training to
the next, and restores the state of the best epoch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData

__all__ = ["Predictor", "State", "StateTensor", "Stateful", "TrainingContext", "labels_tensor"]

State = dict[str, Tensor]


@dataclass(frozen=True)
class StateTensor:
    """How the training loop treats one tensor of a state.

    Parameters
    ----------
    learned : bool, default=False
        Whether the optimiser updates it, by the gradient of the loss or regulariser; a relabelling has no gradient.
    learning_rate_multiplier : float, default=1.0
        Learning rate, as a multiple of the classifier's.
    per_row : bool, default=False
        Whether the first axis is the rows of the training set. If the tensor is learned, a step updates only the rows
        of the batch, at a cost proportional to their number.
    logits : bool, default=False
        Whether it holds log odds. Their learning rate is multiplied by d / 100 for d features, because a step of a
        head's weights changes its logits more, the more features there are.
    project : callable or None, default=None
        Applied after every step, in place: takes the tensor and returns its projection onto the feasible set.
    """

    learned: bool = False
    learning_rate_multiplier: float = 1.0
    per_row: bool = False
    logits: bool = False
    project: Callable[[Tensor], Tensor] | None = None


class Predictor(Protocol):
    """Predictions of the head in training; rows are indices into the training set, None means all."""

    def logits(self, rows: Tensor | None) -> Tensor:
        """Logits (b, L) in evaluation mode."""

    def features(self, rows: Tensor | None) -> Tensor:
        """Inputs of the head: features (b, d), or maps (b, C, h, w)."""

    def sampled_logits(self, rows: Tensor | None, n_samples: int, seed: int) -> Tensor:
        """Logits (n_samples, b, L) with the head's dropout active."""

    def member_logits(self, rows: Tensor | None) -> Tensor:
        """Logits (M, b, L) of the members of an ensemble; M is 1 for any other head."""

    def logit_variance(self, rows: Tensor | None, dropout: float, n_samples: int, seed: int) -> Tensor:
        """Variance (b, L) of the logits under the head's own dropout, or dropout of its inputs if it has none."""


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """The training set and predictions for it, between two passes over it.

    Rows are given by their indices in the training set; None means all rows. Features are the inputs of the head: rows
    of X, or with a backbone the features or maps that the network computes from images, never pixels.

    Parameters
    ----------
    given : TrainingData
        The data that the user passed.
    current : TrainingData
        The data currently trained on, as last relabelled.
    epoch : int, default=0
        The epoch or round that begins or ends, counted from 1; 0 before the first one.
    n_epochs : int or None, default=None
        Number of epochs or rounds planned; training may stop earlier. None before training begins.
    n_features : int or None, default=None
        Width d of the features, or channels of the maps.
    learned_features : bool, default=False
        Whether the features change during training, as with a network that is trained.
    device : torch.device, default=CPU
        Device of the tensors returned.
    generator : torch.Generator, default=seeded with 0
        Source of random numbers, seeded from the fit's seed.
    predictor : Predictor or None, default=None
        The head in training; None before it exists.
    """

    given: TrainingData
    current: TrainingData
    epoch: int = 0
    n_epochs: int | None = None
    n_features: int | None = None
    learned_features: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    predictor: Predictor | None = None

    @property
    def n_rows(self) -> int:
        """Rows of the training set."""
        return self.given.n_rows

    @property
    def n_labels(self) -> int:
        """Number of labels L."""
        return self.given.n_labels

    @property
    def label_names(self) -> list[str] | None:
        """Names of the labels, where y has them."""
        names = self.given.labels.names
        return None if names is None else [str(name) for name in names]

    @property
    def _head(self) -> Predictor:
        if self.predictor is None:
            raise ValueError("There is no head to predict with yet: losses start before the head is built.")
        return self.predictor

    def labels(self, rows: Tensor | None = None) -> Tensor:
        """Labels in use.

        Parameters
        ----------
        rows : Tensor of int64, shape (b,), or None, default=None
            Which rows.

        Returns
        -------
        Tensor of int8, shape (b, L)
            Values in {-1, 0, 1}.
        """
        index = slice(None) if rows is None else rows.cpu().numpy()
        return torch.as_tensor(self.current.labels.rows(index)).to(self.device)

    def logits(self, rows: Tensor | None = None) -> Tensor:
        """Logits of the head, in evaluation mode.

        Parameters
        ----------
        rows : Tensor of int64, shape (b,), or None, default=None
            Which rows.

        Returns
        -------
        Tensor of shape (b, L)
            Logits.
        """
        return self._head.logits(rows)

    def features(self, rows: Tensor | None = None) -> Tensor:
        """Inputs of the head.

        Parameters
        ----------
        rows : Tensor of int64, shape (b,), or None, default=None
            Which rows.

        Returns
        -------
        Tensor of shape (b, d), or (b, C, h, w)
            Features, sparse COO where X is sparse, or maps for a head that pools them.
        """
        return self._head.features(rows)

    def sampled_logits(self, rows: Tensor | None = None, n_samples: int = 20) -> Tensor:
        """Logits with the head's dropout active, and everything else in evaluation mode (MC dropout).

        The features are computed once, whatever the number of samples.

        Parameters
        ----------
        rows : Tensor of int64, shape (b,), or None, default=None
            Which rows.
        n_samples : int, default=20
            Number of samples.

        Returns
        -------
        Tensor of shape (n_samples, b, L)
            Logits, drawn from `generator`.

        Raises
        ------
        ValueError
            If the head has no dropout.
        """
        seed = int(torch.randint(1 << 62, (), generator=self.generator))
        return self._head.sampled_logits(rows, n_samples, seed)

    def logit_variance(self, rows: Tensor | None = None, *, dropout: float = 0.5, n_samples: int = 20) -> Tensor:
        r"""Uncertainty of the logits: their variance under dropout.

        For a linear head the variance has a closed form, :math:`\frac{r}{1 - r} \sum_k (w_{jk} f_{ik})^2` at a rate r,
        and nothing is drawn. For any other head it is the variance of `sampled_logits`. Dropout is that of the head's
        own dropout layers, or if it has none, dropout of its inputs.

        Parameters
        ----------
        rows : Tensor of int64, shape (b,), or None, default=None
            Which rows.
        dropout : float, default=0.5
            Fraction of the inputs that is dropped, for a head without dropout layers.
        n_samples : int, default=20
            Number of samples, if samples are drawn.

        Returns
        -------
        Tensor of shape (b, L)
            Variances, in squared logits.
        """
        seed = int(torch.randint(1 << 62, (), generator=self.generator))
        return self._head.logit_variance(rows, dropout, n_samples, seed)

    def member_logits(self, rows: Tensor | None = None) -> Tensor:
        """Logits of each member of an ensemble.

        Parameters
        ----------
        rows : Tensor of int64, shape (b,), or None, default=None
            Which rows.

        Returns
        -------
        Tensor of shape (M, b, L)
            Logits; M is 1 if the head is not an ensemble.
        """
        return self._head.member_logits(rows)

    def blocks(self, n_rows: int = 1024) -> list[Tensor]:
        """All rows in blocks, for predictions that would not fit in memory at once.

        Parameters
        ----------
        n_rows : int, default=1024
            Number of rows per block.

        Returns
        -------
        list of Tensor of int64
            Indices of the rows of each block.
        """
        return list(torch.arange(self.n_rows).split(n_rows))


class Stateful:
    """Base class of losses, regularisers and relabellings, whose state the training loop carries."""

    def state_spec(self) -> Mapping[str, StateTensor]:
        """How the training loop treats each tensor of the state.

        Returns
        -------
        dict of str to StateTensor
            Empty if there is no state.
        """
        return {}

    def start(self, context: TrainingContext, previous: State | None = None) -> State | None:
        """Create the state for a training set.

        Parameters
        ----------
        context : TrainingContext
            The training set before the first pass.
        previous : dict of str to Tensor, or None, default=None
            The state at the end of an earlier stage of training, to continue from.

        Returns
        -------
        dict of str to Tensor, or None
            Tensors by the names of `state_spec`; None if there is no state.
        """
        return None

    def begin_epoch(self, state: State | None, epoch: int, context: TrainingContext | None = None) -> None:
        """Update the state in place at the beginning of an epoch or round, after any relabelling.

        Parameters
        ----------
        state : dict of str to Tensor, or None
            The state.
        epoch : int
            The epoch that begins, counted from 1.
        context : TrainingContext or None, default=None
            The training set, and predictions for it before the epoch.
        """

    def end_epoch(self, state: State | None, epoch: int, context: TrainingContext | None = None) -> None:
        """Update the state in place at the end of an epoch or round.

        Parameters
        ----------
        state : dict of str to Tensor, or None
            The state.
        epoch : int
            The epoch that ends, counted from 1.
        context : TrainingContext or None, default=None
            The training set, and predictions for it after the epoch.
        """

    def fitted_attributes(self, state: State | None, context: TrainingContext | None = None) -> dict[str, Any]:
        """Fitted attributes that show the state.

        Parameters
        ----------
        state : dict of str to Tensor, or None
            The state of the chosen epoch.
        context : TrainingContext or None, default=None
            The training set, with the fitted head.

        Returns
        -------
        dict of str to ndarray
            Attribute names, which end in an underscore, and their values.
        """
        return {}


def labels_tensor(labels: LabelMatrix) -> Tensor:
    """All labels as one tensor: dense int8, or sparse CSR if they are sparse."""
    if not labels.is_sparse:
        return torch.as_tensor(np.ascontiguousarray(labels.values))
    matrix = labels.values
    start, columns = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        # Older versions of PyTorch reject the stride of an empty array, which is 0.
        return torch.sparse_csr_tensor(
            start, columns, torch.from_numpy(matrix.data), size=matrix.shape, check_invariants=matrix.nnz > 0
        )
