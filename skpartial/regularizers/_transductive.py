"""The transductive hinge: scores of rows without labels should not be near zero."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from skpartial._checks import check_number
from skpartial.regularizers._base import BatchContext, Regularizer

__all__ = ["TransductiveHinge"]


class TransductiveHinge(Regularizer):
    r"""Push the decision boundaries away from rows without labels.

    .. math:: \frac{\eta}{n L} \sum_{i \text{ unlabelled}} \sum_j \max(0, 1 - |x_{ij}|)

    over the n rows of a batch, like losses, which are means over all rows and labels; unlabelled rows are those without
    any known label. Combine it with a loss that ignores such rows, for example ``RampWARP(unknown="ignore")``: a loss
    that treats unknown as negative already has a target for them. The term is not convex, and does not use label
    frequencies. In the source it hardly helped. It is included as the baseline of the source for
    :class:`~skpartial.relabeling.Propagation`.

    Parameters
    ----------
    weight : float, default=1.0
        The weight :math:`\eta`, at least 0.

    References
    ----------
    .. [1] H. Cevikalp, B. Benligiray, O. N. Gerek, "Semi-Supervised Robust Deep Neural Networks for Multi-Label Image
       Classification", Pattern Recognition 2020, equation 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.losses import RampWARP
    >>> from skpartial.regularizers import TransductiveHinge
    >>> X, Y = np.array([[1.0], [-1.0], [0.2], [-0.3]]), np.array([[1, -1], [-1, 1], [0, 0], [0, 0]])
    >>> clf = PartialLabelClassifier(
    ...     RampWARP(unknown="ignore"), regularizer=TransductiveHinge(0.5), alpha=1e-3, random_state=0
    ... ).fit(X, Y)
    >>> clf.predict(X)
    array([[1, 0],
           [0, 1],
           [1, 0],
           [0, 1]])
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @override
    def __call__(self, batch: BatchContext) -> Tensor:
        weight = check_number(self, "weight", self.weight, "[0, inf)")
        unknown = batch.labels == 0
        if batch.targets is not None:
            unknown &= batch.targets.isnan()
        short = torch.relu(1 - batch.logits.abs()) * unknown.all(1, keepdim=True)
        return weight * short.mean()
