"""Means and variances of features, by which solvers scale them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skpartial.features._base import Features, overflow_error
from skpartial.features._maps import MapFeatures

__all__ = [
    "InputUnits",
    "Moments",
    "Spread",
    "centered_units",
    "moments",
    "spread",
    "uneven_columns",
    "unit_scale",
    "units",
]

# Range of squared row lengths in which float32 can represent the squares of entries.
_SAFE_SQUARES = 1e-20, 1e20
# Number of rows in the sample that estimates the centre and the typical distance from it.
_SAMPLE_ROWS = 64
# Number of rows that tell whether columns have different units, and the ratio of standard deviations that says so.
# Those of pixels and outputs of networks differ less (by 10 at most on five data sets), those of tables often more.
_UNEVEN_ROWS, _UNEVEN_BYTES, _UNEVEN = 1000, 32 << 20, 30
# Mean squared distances of rows from their mean below this share of the squared mean are rounding errors.
_ALIKE = 1e-28
# Variances of columns are at least this share of their mean squares; columns at this bound count as constant.
_LEAST_VARIANCE = 1e-14


class Moments(NamedTuple):
    """Weighted means over rows, with less weight on rows of extreme length.

    Parameters
    ----------
    row_weight : Tensor of float64, shape (n,)
        Weights of rows, which sum to 1.
    mean, variance : Tensor of float64, shape (d,)
        Mean and variance of every column.
    """

    row_weight: Tensor
    mean: Tensor
    variance: Tensor


class Spread(NamedTuple):
    """Mean of some rows, and their mean squared distance from it.

    Parameters
    ----------
    n_rows : float
        How many rows.
    mean : ndarray of float64, shape (d,)
        Their mean.
    distance : float
        Mean squared distance; 0 if all rows are equal.
    """

    n_rows: float
    mean: NDArray[np.float64]
    distance: float

    @property
    def mean_squared_distance(self) -> float:
        """The distance as a unit of length: 1 if all rows are equal, or there are none."""
        return self.distance or 1.0

    def merge(self, other: Spread) -> Spread:
        """The spread of both sets of rows together."""
        n = self.n_rows + other.n_rows
        if n == 0:
            return self
        share = other.n_rows / n
        step = other.mean - self.mean
        within = (1 - share) * self.distance + share * other.distance
        between = share * (1 - share) * float(step @ step)
        return Spread(n, self.mean + share * step, within + between)

    def units(self, dtype: torch.dtype, *, centered: bool) -> InputUnits:
        """Units in which these rows have a root mean square of 1, about their mean or about zero."""
        mean, variance = torch.as_tensor(self.mean), torch.tensor(self.distance / len(self.mean), dtype=torch.float64)
        return _input_units(mean, variance, dtype, centered=centered)


def moments(features: Features, row_weight: Tensor | None) -> Moments:
    """Means and variances of the columns, by which solvers scale features.

    The weight of rows whose squared distance from the centre is more than 16 times the median is reduced in proportion.
    In a logistic model long rows saturate, so they contribute less curvature to the objective than their length
    suggests, and would otherwise dominate the scale.

    Parameters
    ----------
    features : Features
        Features with n rows.
    row_weight : Tensor of shape (n,) or None
        Weight of each row.

    Returns
    -------
    Moments
        Moments, on the device of the features.

    Raises
    ------
    ValueError
        If squares of the features overflow float64.
    """
    n, device = features.n_rows, features.device
    weight = torch.ones(n, dtype=torch.float64) if row_weight is None else row_weight.double()
    weight = weight.to(device)
    sample = features.batch(_some_rows(n, weight, _SAMPLE_ROWS))
    dense = not sample.is_sparse
    sample = (sample if dense else sample.to_dense()).double()
    # Sums about the centre of a column avoid cancellation. Sparse rows are not centred, to stay sparse.
    reference = sample.median(0).values if dense else torch.zeros_like(sample[0])
    distance = (sample - reference).square().sum(1)
    # Where most rows are equal, such as those of rare features, the others are not long.
    distance = distance[distance > 1e-13 * reference.square().sum()]
    limit = 16 * float(distance.median()) if len(distance) else 0.0
    # Squares of ordinary numbers do not need float64, which takes twice as long.
    low, high = _SAFE_SQUARES
    found = None
    if dense and low < limit < high:
        found = _moments_about(reference, features.own_blocks(), weight.clone(), limit)
    if found is None or not bool(torch.isfinite(found.variance).all()):
        found = _moments_about(reference, features.blocks(), weight.clone(), limit)
    if not bool(torch.isfinite(found.variance).all()) or not np.isfinite(limit):
        raise overflow_error(features.dtype)
    return found


def _some_rows(n_rows: int, row_weight: Tensor | None, most: int) -> Tensor:
    """Rows of positive weight: all of them, or a seeded sample of about as many as wanted."""
    counted = torch.arange(n_rows) if row_weight is None else torch.nonzero(row_weight.cpu() > 0).squeeze(1)
    if len(counted) <= most:
        return counted
    # Drawn, because every so-and-so-many-th row may be of another kind.
    drawn = torch.randint(len(counted), (most,), generator=torch.Generator().manual_seed(0))
    return counted[drawn.sort().values]


def _moments_about(reference: Tensor, blocks: Iterator[tuple[slice, Tensor]], weight: Tensor, limit: float) -> Moments:
    """Moments from blocks of rows, summed about a reference; changes the weights in place."""
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
    variance = torch.maximum(mean_square - mean.square(), _LEAST_VARIANCE * (mean_square + reference.square()))
    return Moments(weight / total, reference + mean, variance)


def spread(features: Features, row_weight: Tensor | None = None, n_rows: float | None = None) -> Spread:
    r"""Weighted mean of the rows, and the weighted mean of their squared distances from it.

    .. math::

        \frac{1}{\sum_i w_i} \sum_i w_i \lVert x_i - \bar{x} \rVert^2, \quad
        \bar{x} = \frac{1}{\sum_i w_i} \sum_i w_i x_i

    For feature maps, every position is a row. Takes two passes over the rows, in float64.

    Parameters
    ----------
    features : Features
        Features with n rows.
    row_weight : Tensor of shape (n,) or None, default=None
        Weight of each row; rows of weight 0 are ignored.
    n_rows : float or None, default=None
        For how many rows these count when they are merged with others; None means n.

    Returns
    -------
    Spread
        The distance is the sum of the column variances; 0 if all rows are equal, or there are none.

    Raises
    ------
    ValueError
        If squares of the features overflow float64.
    """
    weight = torch.ones(features.n_rows, dtype=torch.float64) if row_weight is None else row_weight.double()
    weight, n_rows = weight.to(features.device), float(features.n_rows) if n_rows is None else n_rows
    mean, total = torch.zeros(features.n_features, dtype=torch.float64, device=weight.device), 0.0
    for X, w in _weighted_blocks(features, weight):
        mean += (X.T @ w[:, None])[:, 0]
        total += float(w.sum())
    if total == 0:
        return Spread(0.0, mean.cpu().numpy(), 0.0)
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
    # Entries that are not stored are zeros, at a distance of the mean.
    distance = float((squares + mean.square() * (total - stored).clamp(min=0)).sum()) / total
    if not np.isfinite(distance):
        raise overflow_error(features.dtype)
    # Rows that are equal up to rounding are equal in any units.
    alike = distance <= _ALIKE * float(mean.square().sum())
    return Spread(n_rows, mean.cpu().numpy(), 0.0 if alike else distance)


def uneven_columns(features: Features, row_weight: Tensor | None = None) -> tuple[float, float] | None:
    """Whether the columns differ so much in spread that they seem to have different units.

    Parameters
    ----------
    features : Features
        Features with n rows; sparse ones and maps are not examined.
    row_weight : Tensor of shape (n,) or None, default=None
        Weight of each row; rows of weight 0 are ignored.

    Returns
    -------
    tuple of two floats, or None
        The largest standard deviation, and the lower quartile of those of columns that vary, if the first is at least
        30 times the second.
    """
    if isinstance(features, MapFeatures) or features.n_features == 1:
        return None
    most = min(_UNEVEN_ROWS, max(2, _UNEVEN_BYTES // max(1, features.row_bytes)))
    sample = features.batch(_some_rows(features.n_rows, row_weight, most))
    if sample.is_sparse or len(sample) < 2:
        return None
    deviations = sample.double().std(0).cpu()
    deviations = deviations[deviations > 0]
    if not len(deviations):
        return None
    largest, quartile = float(deviations.max()), float(deviations.quantile(0.25))
    return (largest, quartile) if np.isfinite(largest) and largest >= _UNEVEN * quartile else None


def _weighted_blocks(features: Features, weight: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of rows in float64, sparse ones as coalesced COO, and their weights; only rows of nonzero weight."""
    for part, block in features.position_blocks():
        w = weight[part].repeat_interleave(len(block) // (part.stop - part.start))
        if bool((w > 0).all()):
            X = block
        else:
            counts = torch.nonzero(w > 0).squeeze(1)
            X, w = block.index_select(0, counts), w[counts]
        yield (X.coalesce() if X.is_sparse else X), w


def units(mean_square: Tensor, dtype: torch.dtype) -> Tensor:
    """Factors that scale numbers with these mean squares to a size of 1, within the range of this type."""
    # The square multiplies the penalty, so it must stay in range, too.
    size, limit = mean_square.sqrt(), torch.finfo(dtype).max ** 0.4
    return torch.where(size > 1 / limit, 1 / size, limit if float(size.max()) > 0 else 1.0)


class InputUnits(NamedTuple):
    """The map :math:`s (f - c)` that features go through before they enter a head.

    Parameters
    ----------
    scale : float, default=1.0
        The factor s.
    center : Tensor of shape (d,) or None, default=None
        The center c; None is zero.
    """

    scale: float = 1.0
    center: Tensor | None = None


def centered_units(features: Features, row_weight: Tensor | None) -> InputUnits:
    """The means of the columns, and the factor that scales centred features to a root mean square of 1.

    Gradient steps are slow along the mean of features that are not centred. For a head with intercepts, centring
    changes no solution.

    Parameters
    ----------
    features : Features
        Features with n rows; of maps, the averages over positions count.
    row_weight : Tensor of shape (n,) or None
        Weight of each row.

    Returns
    -------
    InputUnits
        In the type and on the device of the features; without a center if all rows are equal.
    """
    features = features.averages if isinstance(features, MapFeatures) else features
    _, mean, variance = moments(features, row_weight)
    return _input_units(mean, variance, features.dtype, centered=True)


def _input_units(mean: Tensor, variance: Tensor, dtype: torch.dtype, *, centered: bool) -> InputUnits:
    """Units from the means and variances of columns; about zero if all columns are constant."""
    varies = variance > 2 * _LEAST_VARIANCE * mean.square()
    if centered and bool(varies.any()):
        return InputUnits(float(units((variance * varies).mean(), dtype)), mean.to(dtype))
    return InputUnits(float(units((mean.square() + variance).mean(), dtype)))


def unit_scale(features: Features, row_weight: Tensor | None) -> float:
    """Factor that scales the features to a root mean square of 1, so that solvers do not depend on their units.

    Parameters
    ----------
    features : Features
        Features with n rows.
    row_weight : Tensor of shape (n,) or None
        Weight of each row.

    Returns
    -------
    float
        The factor; 1 if all features are zero.
    """
    features = features.averages if isinstance(features, MapFeatures) else features
    _, mean, variance = moments(features, row_weight)
    return _input_units(mean, variance, features.dtype, centered=False).scale
