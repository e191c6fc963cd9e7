"""Means and variances of features, by which the solvers choose units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skpartial.features._base import Features, overflow_error
from skpartial.features._maps import MapFeatures

__all__ = ["Moments", "mean_squared_distance", "moments", "unit_scale", "units"]

# Squared lengths of rows between which float32 holds the squares of their entries.
_SAFE_SQUARES = 1e-20, 1e20
# Rows among which the middle, and the usual distance from it, are looked for.
_SAMPLE_ROWS = 64
# A mean squared distance of rows from their mean, relative to the mean's own length squared, that is rounding.
_ALIKE = 1e-28


class Moments(NamedTuple):
    """Weighted means over rows, rows of extreme length counted for less.

    Parameters
    ----------
    row_weight : Tensor of float64, shape (n,)
        What every row counted for; sums to 1.
    mean, variance : Tensor of float64, shape (d,)
        Of every column.
    """

    row_weight: Tensor
    mean: Tensor
    variance: Tensor


def moments(features: Features, row_weight: Tensor | None) -> Moments:
    """Means and variances of the columns, by which the solvers choose units.

    A row whose squared distance from the middle is above 16 times the median counts for as much less: in a logistic
    model long rows saturate, so that they curve the objective less than their length suggests, and would otherwise set
    the units alone.

    Parameters
    ----------
    features : Features
        Of n rows.
    row_weight : Tensor of shape (n,) or None
        What each row counts for.

    Returns
    -------
    Moments
        On the device of the features.

    Raises
    ------
    ValueError
        If squares of the features overflow float64.
    """
    n, device = features.n_rows, features.device
    weight = torch.ones(n, dtype=torch.float64) if row_weight is None else row_weight.double()
    weight = weight.to(device)
    sample = features.batch(torch.nonzero(weight.cpu() > 0).squeeze(1)[:: max(1, n // _SAMPLE_ROWS)])
    dense = not sample.is_sparse
    sample = (sample if dense else sample.to_dense()).double()
    # What is summed up about the middle of a column loses no digits to it. Sparse rows would not stay sparse.
    reference = sample.median(0).values if dense else torch.zeros_like(sample[0])
    limit = 16 * float((sample - reference).square().sum(1).median())
    if limit <= 1e-12 * float(reference.square().sum()):
        # Most rows are alike: it takes their length to tell which are long.
        reference = torch.zeros_like(reference)
        limit = 16 * float(sample.square().sum(1).median())
    # Squares of ordinary numbers need no float64, which takes twice as long.
    low, high = _SAFE_SQUARES
    found = None
    if dense and low < limit < high:
        found = _moments_about(reference, features.own_blocks(), weight.clone(), limit)
    if found is None or not bool(torch.isfinite(found.variance).all()):
        found = _moments_about(reference, features.blocks(), weight.clone(), limit)
    if not bool(torch.isfinite(found.variance).all()) or not np.isfinite(limit):
        raise overflow_error(features.dtype)
    return found


def _moments_about(reference: Tensor, blocks: Iterator[tuple[slice, Tensor]], weight: Tensor, limit: float) -> Moments:
    """Moments from blocks of rows, summed up about a reference; the weights are changed in place."""
    mean, mean_square = torch.zeros(2, len(reference), dtype=torch.float64, device=weight.device)
    for part, X in blocks:
        deviation = X if X.is_sparse else X - reference.to(X.dtype)
        squares = deviation * deviation
        length = squares.sum(1)
        length = (length.to_dense() if length.is_sparse else length).double()
        if limit > 0:
            weight[part] *= limit / length.clamp(min=limit)
        shares = weight[part].to(X.dtype)[:, None]
        mean += (deviation.T @ shares)[:, 0]
        mean_square += (squares.T @ shares)[:, 0]
    total = weight.sum()
    mean, mean_square = mean / total, mean_square / total
    variance = torch.maximum(mean_square - mean.square(), 1e-14 * (mean_square + reference.square()))
    return Moments(weight / total, reference + mean, variance)


def mean_squared_distance(features: Features, row_weight: Tensor | None = None) -> float:
    r"""Weighted mean of the squared distances of rows from their mean: the sum of the columns' variances.

    .. math::

        \frac{1}{\sum_i w_i} \sum_i w_i \lVert x_i - \bar{x} \rVert^2, \quad
        \bar{x} = \frac{1}{\sum_i w_i} \sum_i w_i x_i

    Feature maps have a row for every position. Two passes over the rows, in float64.

    Parameters
    ----------
    features : Features
        Of n rows.
    row_weight : Tensor of shape (n,) or None, default=None
        What each row counts for; rows of weight 0 do not exist.

    Returns
    -------
    float
        1 where all rows are alike, or there are none.

    Raises
    ------
    ValueError
        If squares of the features overflow float64.
    """
    weight = torch.ones(features.n_rows, dtype=torch.float64) if row_weight is None else row_weight.double()
    weight = weight.to(features.device)
    mean, total = torch.zeros(features.n_features, dtype=torch.float64, device=weight.device), 0.0
    for X, w in _weighted_blocks(features, weight):
        mean += (X.T @ w[:, None])[:, 0]
        total += float(w.sum())
    if total == 0:
        return 1.0
    mean /= total
    squares, stored = torch.zeros_like(mean), torch.zeros_like(mean)
    for X, w in _weighted_blocks(features, weight):
        if X.is_sparse:
            (row, column), value = X.indices(), X.values()
            squares.index_add_(0, column, w[row] * (value - mean[column]).square())
            stored.index_add_(0, column, w[row])
        else:
            squares += ((X - mean).square_().T @ w[:, None])[:, 0]
            stored += w.sum()
    # Entries that are not stored are zeros, each the mean away from it.
    distance = float((squares + mean.square() * (total - stored).clamp(min=0)).sum()) / total
    if not np.isfinite(distance):
        raise overflow_error(features.dtype)
    # Rows that are alike but for rounding are so in any units.
    return distance if distance > _ALIKE * float(mean.square().sum()) else 1.0


def _weighted_blocks(features: Features, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows in float64 by blocks, sparse ones as coalesced COO, and their weights; only those that count."""
    for part, block in features.position_blocks():
        w = weight[part].repeat_interleave(len(block) // (part.stop - part.start))
        if bool((w > 0).all()):
            X = block
        else:
            counts = torch.nonzero(w > 0).squeeze(1)
            X, w = block.index_select(0, counts), w[counts]
        yield (X.coalesce() if X.is_sparse else X), w


def units(mean_square: Tensor, dtype: torch.dtype) -> Tensor:
    """What brings numbers of these mean squares to a size of 1, where that can be done in this type."""
    # Its square multiplies the penalty, so it must stay in range as well.
    size, limit = mean_square.sqrt(), torch.finfo(dtype).max ** 0.4
    return torch.where(size > 1 / limit, 1 / size, limit if float(size.max()) > 0 else 1.0)


def unit_scale(features: Features, row_weight: Tensor | None) -> float:
    """Factor that brings the features to a root mean square of 1, so that no solver sees their units.

    Parameters
    ----------
    features : Features
        Of n rows.
    row_weight : Tensor of shape (n,) or None
        What each row counts for.

    Returns
    -------
    float
        1 where all features are zero.
    """
    features = features.averages if isinstance(features, MapFeatures) else features
    _, mean, variance = moments(features, row_weight)
    return float(units((mean.square() + variance).mean(), features.dtype))
