r"""Newton's method in the space of rows, for labels that few rows speak of.

The weights of a label are a combination of the rows in which it weighs, :math:`w = X_k^\top \beta`. With m such rows
each Newton step is one Cholesky factor of an m x m matrix,

.. math:: B = I + E K E / \alpha, \quad K = X_k X_k^\top, \quad E = \operatorname{diag}(c s p (1 - p))^{1/2},

whatever the number of features, and labels are solved together in batches of about the same m. The intercept borders
the system. Gradients are in float64, and so are the factors where the penalty is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skpartial.solvers._features import Features
from skpartial.solvers._newton import LogisticProblem

__all__ = ["RowSpaceResult", "labels_of_few_rows", "solve_by_rows"]

# More rows than this cost more to factor than conjugate gradients cost.
_MAX_ROWS = 512
# Entries of the matrices of one batch of labels: they then stay in the processor's cache.
_BATCH_ENTRIES = 1 << 18
_MAX_TRACE = 1e5
_MAX_ITER = 50
_MAX_LINE_SEARCH = 20


@dataclass
class RowSpaceResult:
    """Solutions of some labels.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        The labels that were solved.
    theta : Tensor of shape (d + 1, k)
        Weights, and intercepts in the last row.
    objective, gap : Tensor of float64, shape (k,)
        Objective, and its relative gap as estimated before the last step.
    """

    labels: Tensor
    theta: Tensor
    objective: Tensor
    gap: Tensor


def labels_of_few_rows(problem: LogisticProblem, features: Features, alpha: float, fitted: Tensor) -> Tensor:
    """Labels that are better solved by rows: fewer rows than features, and few enough to factor."""
    if alpha <= 0:
        return torch.zeros(0, dtype=torch.int64, device=fitted.device)
    count = problem.row_count.double()
    # Some ten factors of m^3 / 3 against some hundred pairs of products.
    cheaper = 10 * count**3 / 3 < 400 * features.n_stored
    few = (count <= min(_MAX_ROWS, features.n_features)) & cheaper
    return torch.nonzero(few.to(fitted.device) & fitted).squeeze(1)


def solve_by_rows(
    features: Features, problem: LogisticProblem, labels: Tensor, *, scale: float, alpha: float, tol: float
) -> RowSpaceResult:
    """Solve labels to a relative gap; those whose arithmetic fails are left out of the result.

    Parameters
    ----------
    features : Features
        X, shape (n, d), in the units of alpha.
    problem : LogisticProblem
        The data term.
    labels : Tensor of int64
        Which labels.
    scale : float
        The factor c of the data term.
    alpha : float
        L2 penalty, above 0.
    tol : float
        Estimated relative gap at which a label has converged.

    Returns
    -------
    RowSpaceResult
        Of the labels that converged.
    """
    order = labels[torch.argsort(problem.row_count[labels.to(problem.row_count.device)])]
    s, a = problem.columns_of(order)
    counts = problem.row_count[order].tolist()
    # One Gram matrix of all rows, where it is smaller than the labels' own together.
    n = features.n_rows
    whole = n * n <= sum(count * count for count in counts)
    gram = _gram(_dense(features.batch(torch.arange(n)))) if whole else None
    pieces = []
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * counts[stop] ** 2 <= _BATCH_ENTRIES:
            stop += 1
        part = slice(start, stop)
        pieces.append(
            _solve_batch(features, gram, order[part], s[:, part].T, a[:, part].T, counts[stop - 1], scale, alpha, tol)
        )
        start = stop
    return RowSpaceResult(
        torch.cat([piece.labels for piece in pieces]),
        torch.cat([piece.theta for piece in pieces], dim=1),
        torch.cat([piece.objective for piece in pieces]),
        torch.cat([piece.gap for piece in pieces]),
    )


def _gram(X: Tensor) -> Tensor:
    """Inner products of the rows of one matrix, or of several."""
    X = X.double()
    return X @ X.transpose(-2, -1)


def _solve_batch(
    features: Features,
    gram: Tensor | None,
    labels: Tensor,
    s: Tensor,
    a: Tensor,
    m: int,
    scale: float,
    alpha: float,
    tol: float,
) -> RowSpaceResult:
    """Solve labels of at most m rows each; s and a of shape (k, n)."""
    rows = torch.argsort((s <= 0).to(torch.int8), dim=1, stable=True)[:, :m]
    s, a = s.gather(1, rows).double() * scale, a.gather(1, rows).double() * scale
    valid = (s > 0).double()
    if gram is None:
        K = _gram(_dense(features.batch(rows.reshape(-1))).reshape(*rows.shape, -1)).double()
    else:
        K = gram[rows[:, :, None], rows[:, None, :]].double()
    present = a.sum(1)
    bias = (present / (s.sum(1) - present)).log()
    beta, Kb = torch.zeros_like(s), torch.zeros_like(s)
    logits = bias[:, None].expand_as(s)
    gap = torch.full_like(bias, float("inf"))

    def objective(logits: Tensor) -> Tensor:
        return (s * F.softplus(logits) - a * logits).sum(1) + 0.5 * alpha * (beta * Kb).sum(1)

    value = objective(logits)
    failed = torch.zeros_like(gap, dtype=torch.bool)
    diagonal = K.diagonal(dim1=1, dim2=2)
    narrow_K = K.float()
    wide, narrow = torch.empty_like(K), torch.empty_like(narrow_K)
    for _ in range(_MAX_ITER):
        p = torch.sigmoid(logits)
        residual, curvature = s * p - a, s * p * (1 - p)
        E = curvature.sqrt()
        # The trace of B bounds its condition. Where that is moderate a factor in float32 does, at half the time: the
        # gradient is in float64 all the same, so that only the direction is a little off.
        trace = (curvature * diagonal).sum(1).max() / alpha
        kernel, B = (K, wide) if float(trace) > _MAX_TRACE else (narrow_K, narrow)
        torch.mul(kernel, (E / alpha).to(B.dtype)[:, :, None], out=B).mul_(E.to(B.dtype)[:, None, :])
        B.diagonal(dim1=1, dim2=2).add_(1)
        factor, info = torch.linalg.cholesky_ex(B)
        failed |= info > 0
        # H^-1 X' v = X' (v - E B^-1 E K v / alpha) / alpha, for the gradient and for the column of the intercept.
        right = torch.stack([residual + alpha * beta, curvature], dim=2)
        inner = torch.cholesky_solve((E[:, :, None] * torch.bmm(K, right) / alpha).to(B.dtype), factor).double()
        u = (right - E[:, :, None] * inner) / alpha * valid[:, :, None]
        shift = (beta.sum(1) - u[:, :, 0].sum(1)) / u[:, :, 1].sum(1).clamp(min=1e-300)
        direction = -u[:, :, 0] - shift[:, None] * u[:, :, 1]
        Kd = torch.bmm(K, direction[:, :, None])[:, :, 0]
        along = Kd + shift[:, None]
        slope = (residual * along).sum(1) + alpha * (beta * Kd).sum(1)
        failed |= ~torch.isfinite(slope)
        gap = torch.where(failed, float("inf"), 0.5 * slope.abs() / value.clamp(min=1e-300))
        penalty = alpha * (beta * Kd).sum(1), alpha * (direction * Kd).sum(1)
        step = _line_search(logits, along, s, a, slope, *penalty)
        beta = beta + step[:, None] * direction
        Kb = Kb + step[:, None] * Kd
        bias = bias + step * shift
        logits = Kb + bias[:, None]
        value = objective(logits)
        if bool(((gap <= tol) | failed).all()):
            break
    good = torch.nonzero((gap <= tol) & torch.isfinite(value)).squeeze(1)
    spread = torch.zeros(len(good), features.n_rows, dtype=torch.float64, device=rows.device)
    spread.scatter_(1, rows[good], beta[good])
    theta = torch.cat([features.rmatmul(spread.T.to(features.dtype)), bias[good][None].to(features.dtype)])
    return RowSpaceResult(labels[good], theta, value[good], gap[good])


def _dense(batch: Tensor) -> Tensor:
    return batch.to_dense() if batch.is_sparse else batch


def _line_search(
    logits: Tensor, along: Tensor, s: Tensor, a: Tensor, slope: Tensor, penalty_slope: Tensor, penalty_curvature: Tensor
) -> Tensor:
    """Step length of each label, by Newton's method in a bracket, as for the solver by conjugate gradients."""
    step = torch.ones_like(slope)
    low, high = torch.zeros_like(slope), torch.full_like(slope, float("inf"))
    done = ~(slope < 0)
    for _ in range(_MAX_LINE_SEARCH):
        p = torch.sigmoid(logits + step[:, None] * along)
        first = ((s * p - a) * along).sum(1) + penalty_slope + step * penalty_curvature
        second = (s * p * (1 - p) * along.square()).sum(1) + penalty_curvature
        done |= first.abs() <= 0.1 * slope.abs()
        if bool(done.all()):
            break
        low = torch.where(first < 0, step, low)
        high = torch.where(first >= 0, step, high)
        proposal = step - first / second.clamp(min=1e-300)
        middle = torch.where(torch.isinf(high), 2 * step, 0.5 * (low + high))
        inside = (proposal > low) & (proposal < high) & (proposal < 4 * step)
        step = torch.where(done, step, torch.where(inside, proposal, middle))
    return torch.where(slope < 0, step, 0.0)
