r"""From scores to log odds: one positive factor per label, so that no score changes its sign.

The factor a of a label minimises the weighted cross-entropy of out-of-sample scores x, with one added row of each sign,
as in Platt scaling:

.. math::

    \sum_i s_i \left[ \operatorname{softplus}(a x_i) - t'_i a x_i \right], \quad
    t' = t (1 - \epsilon_+ - \epsilon_-) + \epsilon_-, \quad \epsilon_\pm = \frac{1}{n_\pm + 2}

where the positives and negatives of the label are worth :math:`n_+` and :math:`n_-` rows.

Source: J. Platt, "Probabilistic outputs for support vector machines and comparisons to regularized likelihood methods",
Advances in Large Margin Classifiers, 1999; H.-T. Lin, C.-J. Lin, R. Weng, "A note on Platt's probabilistic outputs for
support vector machines", Machine Learning 2007. Their method also has an intercept, which moves the decision.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["positive_slopes"]

# Bounds of the slopes: below the first, scores carry no information about the labels, or are reversed.
_MIN_SLOPE, _MAX_SLOPE = 1e-2, 1e3
_MAX_STEPS = 30
# Relative change of a slope that ends the search: the error after it is about its square.
_STEP_TOL = 1e-2


def positive_slopes(scores: Tensor, s: Tensor, a: Tensor) -> Tensor:
    """Factors that turn scores into log odds.

    Newton's method within a bracket, for all labels at once.

    Parameters
    ----------
    scores : Tensor of shape (k, n)
        Real scores.
    s, a : Tensor of shape (k, n)
        Weights of entries, and weights times targets.

    Returns
    -------
    Tensor of float64, shape (k,)
        Positive factors.
    """
    total, positive = s.sum(1, dtype=torch.float64), a.sum(1, dtype=torch.float64)
    n_rows = (s > 0).sum(1).double()
    share = torch.where(total > 0, positive / total, 0.5).clamp(0, 1)
    epsilon_positive, epsilon_negative = 1 / (n_rows * share + 2), 1 / (n_rows * (1 - share) + 2)
    weighted = s * scores
    # Weighted sum of t' x.
    target_sum = torch.linalg.vecdot(a, scores).double() * (1 - epsilon_positive - epsilon_negative)
    target_sum += weighted.sum(1).double() * epsilon_negative
    squares = weighted * scores
    low, high = torch.full_like(total, _MIN_SLOPE), torch.full_like(total, _MAX_SLOPE)
    # Start from the slope that is right for a model with an intercept only, whose scores are the mean target.
    mean_target = 2 * (2 * share - 1)
    slope = torch.where(mean_target.abs() > 1e-3, (share / (1 - share)).log() / mean_target, 1.0).clamp(1, 10)
    converged = torch.zeros_like(slope, dtype=torch.bool)
    for _ in range(_MAX_STEPS):
        p = (scores * slope.to(scores.dtype)[:, None]).sigmoid_()
        derivative = torch.linalg.vecdot(weighted, p).double() - target_sum
        curvature = torch.linalg.vecdot(squares, torch.addcmul(p, p, p, value=-1)).double()
        low, high = torch.where(derivative < 0, slope, low), torch.where(derivative < 0, high, slope)
        # The derivative is concave, so Newton steps from below fall short of the minimum; in log a they do so by less.
        proposal = slope * torch.exp(-derivative / (curvature * slope).clamp(min=1e-300))
        inside = (proposal > low) & (proposal < high)
        # A converged label stays fixed, so that results do not depend on the other labels.
        new = torch.where(converged, slope, torch.where(inside, proposal, (low * high).sqrt()))
        converged |= (new / slope - 1).abs() <= _STEP_TOL
        slope = new
        if bool(converged.all()):
            break
    return slope
