"""Training data: labels, and optionally soft targets, weights and prior probabilities of their entries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from skpartial.labels._forms import check_same_names, column_names, plain
from skpartial.labels._matrix import LabelMatrix

__all__ = ["TrainingData"]


@dataclass(frozen=True)
class TrainingData:
    r"""Labels to train on, with optional targets, weights and priors of their entries; immutable.

    A soft target :math:`t_{ij}` stands for a label that is positive with probability t and negative with probability
    1 - t, and counts as known. Under a loss that is a mean over entries, the entry costs
    :math:`t\,\ell(x, +1) + (1 - t)\,\ell(x, -1)`. A loss of pairs, or with a batch term, takes the likelier sign with
    weight :math:`|2t - 1|`.

    Parameters
    ----------
    labels : LabelMatrix
        Labels, shape (n, L): 1 present, -1 absent, 0 unknown.
    targets : ndarray of shape (n, L), or None, default=None
        Soft targets in [0, 1]; NaN where the label is used instead.
    weights : ndarray of shape (n,) or (n, L), or None, default=None
        Non-negative weights of rows or entries, which multiply the weights passed to `fit`.
    prior : ndarray of shape (n, L), or None, default=None
        Prior probabilities that labels are positive, in [0, 1]; NaN where there is none. They have no effect by
        themselves: some losses and relabellings use them.

    See Also
    --------
    skpartial.relabeling.Relabeling : May return such an object.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial.training import TrainingData
    >>> data = TrainingData.encode([[1, 0], [0, -1]], targets=[[np.nan, 0.8], [0.3, np.nan]], weights=[1.0, 0.5])
    >>> data.nearest_labels().toarray()
    array([[ 1,  1],
           [-1, -1]], dtype=int8)
    """

    labels: LabelMatrix
    targets: NDArray[Any] | None = None
    weights: NDArray[Any] | None = None
    prior: NDArray[Any] | None = None

    @classmethod
    def encode(
        cls, labels: Any, *, targets: Any = None, weights: Any = None, prior: Any = None, name: str = "labels"
    ) -> TrainingData:
        """Validate labels with their targets, weights and priors.

        Parameters
        ----------
        labels : array-like, DataFrame, sparse matrix, Tensor or LabelMatrix, shape (n, L)
            Values in {-1, 0, 1}.
        targets, weights, prior : array-like or Tensor, or None, default=None
            As in the class.
        name : str, default="labels"
            Name of the labels in error messages.

        Returns
        -------
        TrainingData
            Holds copies, or the arrays that were passed, which are not written to.

        Raises
        ------
        ValueError
            If shapes do not match, or values are out of range.
        """
        matrix = labels if isinstance(labels, LabelMatrix) else LabelMatrix.encode(labels, name=name)
        for what, part in (("targets", targets), ("weights", weights), ("prior", prior)):
            check_same_names(
                matrix.names, column_names(part), f"the {what} of {name}", name, "put their columns in that order"
            )
        found = cls(
            matrix,
            probabilities(targets, matrix.shape, f"the targets of {name}"),
            _check_weights(weights, matrix.shape, f"the weights of {name}"),
            probabilities(prior, matrix.shape, f"the prior of {name}"),
        )
        return found if found.targets is None or not np.isnan(found.targets).all() else replace(found, targets=None)

    @property
    def n_rows(self) -> int:
        """Number of rows n."""
        return self.labels.n_rows

    @property
    def n_labels(self) -> int:
        """Number of labels L."""
        return self.labels.n_labels

    def take(self, rows: NDArray[np.int64]) -> TrainingData:
        """Take some of the rows.

        Parameters
        ----------
        rows : ndarray of int64
            Indices of the rows.

        Returns
        -------
        TrainingData
            The data of these rows.
        """
        parts = (None if part is None else part[rows] for part in (self.targets, self.weights, self.prior))
        return TrainingData(self.labels.take(rows), *parts)

    def nearest_labels(self) -> LabelMatrix:
        """Labels, with the likelier sign where there is a soft target; unknown at one half.

        Returns
        -------
        LabelMatrix
            Shape (n, L); the labels themselves if there is no soft target.
        """
        if self.targets is None:
            return self.labels
        soft = ~np.isnan(self.targets)
        signs = np.sign(np.where(soft, self.targets, 0.5) - 0.5)
        return LabelMatrix(np.where(soft, signs, self.labels.toarray()).astype(np.int8), self.labels.names)


def _as_floats(values: Any, name: str) -> NDArray[Any]:
    array = plain(values, name)
    if sp.issparse(array):
        raise ValueError(f"{name} must be a dense array, got a sparse one.")
    try:
        return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers ({error}).") from None


def probabilities(values: Any, shape: tuple[int, int], name: str) -> NDArray[Any] | None:
    """Validate probabilities of entries, with NaN where there is none."""
    if values is None:
        return None
    array = _as_floats(values, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, one probability per entry of y, got {array.shape}.")
    # NaN compares false with everything.
    if (array < 0).any() or (array > 1).any():
        odd = array[(array < 0) | (array > 1)][0]
        raise ValueError(f"{name} must hold probabilities in [0, 1], or NaN for none, got {odd:g}.")
    return array


def _check_weights(values: Any, shape: tuple[int, int], name: str) -> NDArray[Any] | None:
    if values is None:
        return None
    array = _as_floats(values, name)
    if array.shape not in (shape, shape[:1]):
        raise ValueError(f"{name} must have shape ({shape[0]},) or {shape}, got {array.shape}.")
    if not np.isfinite(array).all() or (array < 0).any() or not array.any():
        raise ValueError(f"{name} must be finite numbers of at least 0, and not only zeros.")
    return array
