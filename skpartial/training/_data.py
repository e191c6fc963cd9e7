"""Training data on a device, block by block."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skpartial.features._base import as_tensor
from skpartial.labels import LabelMatrix
from skpartial.labels._data import TrainingData

__all__ = ["DataSource", "EntryWeights", "LabelSource", "LabeledRows", "bootstrap_weights"]

# Number of entries whose weights are summed at a time.
_BLOCK_ENTRIES = 1 << 20
# Shape of the gamma distribution of the members' row weights, for a standard deviation of one half. With 1, as in the
# Bayesian bootstrap, the mean of five linear members was worse than a single one.
_GAMMA_SHAPE = 4.0


def bootstrap_weights(n_rows: int, n_members: int, seed: int) -> Tensor | None:
    """Row weights with mean 1 for each member of an ensemble; None for a single member.

    Parameters
    ----------
    n_rows, n_members : int
        Number of rows and of members.
    seed : int
        Seed of the fit.

    Returns
    -------
    Tensor of float64, shape (M, n), or None
        Draws from a gamma distribution, so that no weight is zero.
    """
    if n_members == 1:
        return None
    drawn = np.random.RandomState(seed).gamma(_GAMMA_SHAPE, size=(n_members, n_rows))
    return torch.from_numpy(drawn / drawn.mean(axis=1, keepdims=True))


class LabelSource:
    """Blocks of labels on a device: a dense matrix stays there, a sparse one is made dense block by block."""

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


class EntryWeights:
    """Weights of rows or entries: sample weights times class weights.

    Parameters
    ----------
    sample_weight : ndarray of shape (n,) or (n, L), or None
        Non-negative.
    class_weight : ndarray of shape (L, 3), or None
        Weight of a negative, an unknown and a positive entry of each label.
    device, dtype
        Device and type of the blocks.
    """

    def __init__(
        self,
        sample_weight: NDArray[Any] | None,
        class_weight: NDArray[Any] | None,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.sample = None if sample_weight is None else as_tensor(sample_weight).to(dtype=dtype, device=device)
        self.by_class = None if class_weight is None else torch.as_tensor(class_weight, dtype=dtype, device=device)

    def times(self, of_rows: Tensor | None) -> EntryWeights:
        """These weights, multiplied by weights of rows, shape (n,)."""
        if of_rows is None:
            return self
        multiplied = copy.copy(self)
        multiplied.sample = _product(self.sample, of_rows.to(dtype=self.dtype, device=self.device))
        return multiplied

    @property
    def of_rows(self) -> Tensor | None:
        """Weight of each row, shape (n,), or None if all are equal."""
        return self.sample if self.sample is None or self.sample.ndim == 1 else self.sample.mean(1)

    def rows(self, index: slice | Tensor, labels: Tensor) -> Tensor | None:
        """Weights of a block, shape (b,) or (b, L); None if all are 1."""
        sample = None if self.sample is None else self.sample[index]
        if self.by_class is None:
            return sample
        column = torch.arange(labels.shape[1], device=labels.device)
        return _product(self.by_class[column, labels.to(torch.int64) + 1], sample)


def _product(weights: Tensor | None, others: Tensor | None) -> Tensor | None:
    """Product of two weights of rows or entries."""
    if weights is None or others is None:
        return others if weights is None else weights
    if weights.ndim == others.ndim:
        return weights * others
    return (weights[:, None] if weights.ndim == 1 else weights) * (others[:, None] if others.ndim == 1 else others)


class LabeledRows(NamedTuple):
    """Some rows: indices on the device, labels, soft targets (NaN where there are none), and weights."""

    rows: Tensor
    labels: Tensor
    targets: Tensor | None
    weights: Tensor | None

    def part(self, part: slice) -> LabeledRows:
        """A slice of the rows."""
        return LabeledRows(*(None if tensor is None else tensor[part] for tensor in self))  # type: ignore[arg-type]

    def weighted(self, of_rows: Tensor | None) -> LabeledRows:
        """The rows, with weights multiplied by weights of rows, shape (b,)."""
        return self if of_rows is None else self._replace(weights=_product(self.weights, of_rows))


class DataSource:
    """Blocks of the training data on a device.

    Parameters
    ----------
    data : TrainingData
        Labels, soft targets and weights.
    weights : EntryWeights
        Weights of rows or entries passed by the user.
    device, dtype
        Device and type of the blocks.
    """

    def __init__(self, data: TrainingData, weights: EntryWeights, device: torch.device, dtype: torch.dtype) -> None:
        self.data, self.weights, self.device, self._dtype = data, weights, device, dtype
        self.labels = LabelSource(data.labels, device)
        self._targets, self._own_weights = (
            None if part is None else as_tensor(part).to(device=device, dtype=dtype)
            for part in (data.targets, data.weights)
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of labels."""
        return self.data.labels.shape

    def rows(self, index: slice | Tensor) -> LabeledRows:
        """Labels, soft targets and weights for a slice of rows, or for rows by their indices on the device."""
        labels = self.labels.rows(index)
        targets = None if self._targets is None else self._targets[index]
        # A soft target has the class weight of its likelier sign.
        signs = labels if targets is None else torch.where(targets.isnan(), labels, (targets - 0.5).sign())
        weights = self.weights.rows(index, signs)
        if self._own_weights is not None:
            weights = _product(weights, self._own_weights[index])
        if isinstance(index, slice):
            index = torch.arange(index.start, index.start + len(labels), device=self.device)
        return LabeledRows(index, labels, targets, weights)

    @property
    def has_weights(self) -> bool:
        """Whether entries may have different weights."""
        weights = self.weights
        return weights.sample is not None or weights.by_class is not None or self._own_weights is not None

    def total_weight(self) -> float:
        """Sum of the weights over all entries, by which the loss is divided; must be positive."""
        n_rows, n_labels = self.shape
        if not self.has_weights:
            return float(n_rows * n_labels)
        total, step = 0.0, max(1, _BLOCK_ENTRIES // n_labels)
        for start in range(0, n_rows, step):
            block = self.rows(slice(start, start + step)).weights
            assert block is not None
            total += float(block.sum(dtype=torch.float64)) * (n_labels if block.ndim == 1 else 1)
        if not 0 < total < float("inf"):
            raise ValueError(
                "The product of sample_weight, class_weight and the weights of a relabelling must have a positive and "
                f"finite sum over all entries in {str(self._dtype).removeprefix('torch.')}, got {total:g}."
            )
        return total
