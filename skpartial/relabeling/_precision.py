"""Calibration of predicted probabilities, measured on held-out entries."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from skpartial.labels._matrix import present_share

__all__ = ["N_BINS", "binned_precision", "precision_at"]

N_BINS = 20


def binned_precision(probability: Tensor, present: Tensor) -> Tensor:
    """Share of positives among entries with similar predicted probabilities.

    Parameters
    ----------
    probability : Tensor of shape (m,)
        Predictions for held-out entries.
    present : Tensor of bool, shape (m,)
        Whether these entries are positive.

    Returns
    -------
    Tensor of float64, shape (20, 2)
        For each of 20 bins of equal width, the mean probability of its entries and their share of positives, after
        adding half an entry of each sign; NaN for an empty bin.
    """
    bins = (probability * N_BINS).long().clamp(max=N_BINS - 1)
    count, total, found = (torch.zeros(N_BINS, dtype=torch.float64, device=bins.device) for _ in range(3))
    count.index_add_(0, bins, torch.ones_like(probability, dtype=torch.float64))
    total.index_add_(0, bins, probability.double())
    found.index_add_(0, bins, present.double())
    precision = torch.where(count > 0, present_share(found, count), torch.nan)
    return torch.stack([total / count, precision], dim=1)


def precision_at(bins: Tensor, probability: Tensor) -> Tensor:
    """Expected share of positives at other probabilities, interpolated between bins.

    Parameters
    ----------
    bins : Tensor of shape (20, 2)
        The result of `binned_precision`. If all bins are empty, predicted probabilities are returned.
    probability : Tensor of any shape
        Predictions.

    Returns
    -------
    Tensor of the same shape
        Values in (0, 1), constant beyond the outermost bins.
    """
    known = bins[~bins.isnan().any(1)].cpu().numpy()
    if not len(known):
        return probability
    found = np.interp(probability.cpu().numpy(), known[:, 0], known[:, 1])
    return torch.as_tensor(found, dtype=probability.dtype, device=probability.device)
