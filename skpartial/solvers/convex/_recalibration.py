r"""From scores to log odds by Platt scaling: a positive slope and an intercept per label.

Slope a and intercept c of a label minimise the weighted cross-entropy of out-of-sample scores x, with one added row of
each sign:

.. math::

    \sum_i s_i \left[ \operatorname{softplus}(a x_i + c) - t'_i (a x_i + c) \right], \quad
    t' = t (1 - \epsilon_+ - \epsilon_-) + \epsilon_-, \quad \epsilon_\pm = \frac{1}{n_\pm + 2}

where the positives and negatives of the label are worth :math:`n_+` and :math:`n_-` rows.

The intercept matters for rare labels. Squared error draws their scores to the target of the negatives, with small
differences between rows: a slope alone would keep these differences small next to those between labels.

Source: J. Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods",
Advances in Large Margin Classifiers, 1999; H.-T. Lin, C.-J. Lin, R. Weng, "A note on Platt's probabilistic outputs for
support vector machines", Machine Learning 2007.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

__all__ = ["log_odds_map"]

# Least slope for scores with a variance of 1: below it, scores carry no information about the labels, or are reversed.
_MIN_SLOPE = 1e-3
_MAX_STEPS, _MAX_HALVINGS = 50, 30
# The objective is within half of this of its minimum; a standard error of the parameters changes it by one half.
_DECREMENT = 1e-4


def log_odds_map(scores: Tensor, s: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes and intercepts that turn scores into log odds.

    Newton's method with step halving, for all labels at once.

    Parameters
    ----------
    scores : Tensor of shape (k, n)
        Real scores.
    s, a : Tensor of shape (k, n)
        Weights of entries, and weights times targets.

    Returns
    -------
    slope, intercept : Tensor of float64, shape (k,)
        The slopes are positive.
    """
    total = s.sum(1, dtype=torch.float64)
    mean, deviation = _mean_and_deviation(scores, s, total)
    x = scores.sub(mean.to(scores.dtype)[:, None]).div_(deviation.to(scores.dtype)[:, None])
    targets = _smoothed(s, a, total)
    share = targets.sum(1, dtype=torch.float64) / total.clamp(min=1e-300)
    prior = share.clamp(1e-9, 1 - 1e-9).logit()
    theta = _start(x, targets, share, total, prior)
    value = _cross_entropy(theta, x, s, targets)
    # The intercept alone, for scores that are far from normal.
    null = torch.stack([torch.zeros_like(prior), prior])
    null_value = -total * (share * logsigmoid(prior) + (1 - share) * logsigmoid(-prior))
    theta, value = torch.where(value <= null_value, theta, null), torch.minimum(value, null_value)
    active = total > 0
    for _ in range(_MAX_STEPS):
        step, decrement = _newton_step(theta, x, s, targets)
        # Where all probabilities are close to 0 or 1, the curvature rounds to nothing.
        shortened = ((4 + theta.abs().amax(0)) / step.abs().amax(0).clamp(min=1e-300)).clamp(max=1)
        step, decrement = step * shortened, decrement * shortened
        # A converged label stays fixed, so that results do not depend on the other labels.
        active &= decrement > _DECREMENT
        if not bool(active.any()):
            break
        theta, value = _line_search(theta, torch.where(active, step, 0.0), value, decrement, x, s, targets)
    slope, intercept = theta
    useless = slope < _MIN_SLOPE
    slope = torch.where(useless, _MIN_SLOPE, slope)
    intercept = torch.where(useless, prior, intercept)
    slope = slope / deviation
    return slope, intercept - slope * mean


def _smoothed(s: Tensor, a: Tensor, total: Tensor) -> Tensor:
    """Weights of entries (k, n), times targets to which a row of each sign is added."""
    share = torch.where(total > 0, a.sum(1, dtype=torch.float64) / total, 0.5).clamp(0, 1)
    n_rows = (s > 0).sum(1).double()
    epsilon_positive, epsilon_negative = 1 / (n_rows * share + 2), 1 / (n_rows * (1 - share) + 2)
    targets = a * (1 - epsilon_positive - epsilon_negative).to(a.dtype)[:, None]
    return targets.addcmul_(s, epsilon_negative.to(s.dtype)[:, None])


def _start(x: Tensor, targets: Tensor, share: Tensor, total: Tensor, prior: Tensor) -> Tensor:
    """The map (2, k) for standard scores (k, n) that are normal within each sign, with the same variance."""
    of_positive = torch.linalg.vecdot(targets, x).double() / (share * total).clamp(min=1e-300)
    of_negative = -of_positive * share / (1 - share).clamp(min=1e-300)
    within = (1 - share * of_positive.square() - (1 - share) * of_negative.square()).clamp(min=0.05)
    slope = (of_positive - of_negative) / within
    return torch.stack([slope, prior - slope * (of_positive + of_negative) / 2])


def _mean_and_deviation(scores: Tensor, s: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted means and standard deviations of scores, the latter 1 where the scores are all equal."""
    mean = torch.linalg.vecdot(s, scores).double() / total.clamp(min=1e-300)
    centered = scores - mean.to(scores.dtype)[:, None]
    variance = torch.linalg.vecdot(s, centered.square_()).double() / total.clamp(min=1e-300)
    deviation = variance.sqrt()
    equal = deviation <= 10 * torch.finfo(scores.dtype).eps * mean.abs()
    return mean, torch.where(equal | (deviation == 0), 1.0, deviation)


def _logits(theta: Tensor, x: Tensor) -> Tensor:
    slope, intercept = theta.to(x.dtype)[:, :, None]
    return torch.addcmul(intercept, slope, x)


def _cross_entropy(theta: Tensor, x: Tensor, s: Tensor, targets: Tensor) -> Tensor:
    """The objective of each label."""
    logits = _logits(theta, x)
    return torch.linalg.vecdot(s, softplus(logits)).double() - torch.linalg.vecdot(targets, logits).double()


def _newton_step(theta: Tensor, x: Tensor, s: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Newton steps (2, k), and how much each would decrease a quadratic objective, times 2."""
    p = _logits(theta, x).sigmoid_()
    curvature = torch.addcmul(p, p, p, value=-1).mul_(s)
    residual = p.mul_(s).sub_(targets)
    gradient = torch.stack([torch.linalg.vecdot(residual, x), residual.sum(1)]).double()
    weighted = curvature * x
    h_slope, h_mixed = torch.linalg.vecdot(weighted, x).double(), weighted.sum(1).double()
    h_intercept = curvature.sum(1).double()
    # A small multiple of the identity keeps the 2 x 2 systems solvable.
    ridge = 1e-10 * (h_slope + h_intercept) + 1e-30
    h_slope, h_intercept = h_slope + ridge, h_intercept + ridge
    determinant = (h_slope * h_intercept - h_mixed.square()).clamp(min=1e-300)
    step = torch.stack(
        [
            (h_mixed * gradient[1] - h_intercept * gradient[0]) / determinant,
            (h_mixed * gradient[0] - h_slope * gradient[1]) / determinant,
        ]
    )
    return step, -(step * gradient).sum(0)


def _line_search(
    theta: Tensor, step: Tensor, value: Tensor, decrement: Tensor, x: Tensor, s: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Halve the steps of labels whose objectives they do not decrease; returns parameters and objectives."""
    length = torch.ones_like(value)
    for _ in range(_MAX_HALVINGS):
        new = theta + length * step
        reached = _cross_entropy(new, x, s, targets)
        # Rounding may hide a small decrease.
        slack = 1e-6 * value.abs()
        worse = ~(reached <= value - 1e-4 * length * decrement + slack)
        if not bool(worse.any()):
            break
        length = torch.where(worse, 0.5 * length, length)
    return new, reached
