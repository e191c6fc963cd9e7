r"""Squared error in closed form: one ridge regression per label, and its leave-one-out scores.

With weights :math:`v = s / 4` and targets :math:`z = 2 (2 t - 1)` for the logits, the objective of label j is

.. math::

    F_j(w, b) = \tfrac12 \sum_i v_{ij} (f_i \cdot w + b - z_{ij})^2 + \tfrac{\alpha}{2} \lVert w \rVert^2

Labels with the same row weights share a factorisation, whatever their targets and penalties: of the Gram matrix of the
centred columns, or of the rows if they are fewer. It also gives the leverages h of the rows, and with them the logit of
each row under the fit without this row, with the same penalty,

.. math::

    x^{(-i)}_{ij} = \frac{x_{ij} - h_{ij} z_{ij}}{1 - h_{ij}}, \quad
    h_{ij} = v_{ij} \Big( \frac{1}{\sum_i v_{ij}}
    + \tilde{f}_i^\top \big( \tilde{F}^\top V_j \tilde{F} + \alpha I \big)^{-1} \tilde{f}_i \Big)

where a tilde marks features centred by their weighted mean for the label.

Source: R. Rifkin, R. Lippert, "Notes on regularized least squares", MIT CSAIL technical report 2007-025, sections 3 and
4, for a model without row weights and intercept.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from skpartial.features._base import Features, row_sums
from skpartial.features._matrix import SparseFeatures, StreamedFeatures
from skpartial.losses import PointwiseLoss
from skpartial.solvers.convex._gram import MANY_ALPHAS, Gram
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._prepared import PreparedFeatures
from skpartial.solvers.convex._recalibration import log_odds_map
from skpartial.solvers.convex._rows import BATCHED, PRODUCTS
from skpartial.solvers.convex._solve import Outcome, Report, solve_round
from skpartial.training._data import DataSource
from skpartial.training._problem import Problem
from skpartial.training._targets import FoldedTargets

__all__ = ["LeftOut", "SquaredProblem", "leave_one_out", "solve_squared_round"]

# Number of multiplications, about two seconds, that factorisations may always take.
_CHEAP_MULTIPLICATIONS = 5e10
# Maximal number of entries of a matrix to factorise, or of its rows: a gigabyte of float64.
_MAX_ENTRIES = 1 << 27
# Number of labels per product with the features, and per block of operations on scores, within the processor's cache.
_LABELS_PER_PRODUCT, _LABELS_PER_BLOCK = 256, 8
# Number of labels whose rounding error is measured, and the share of the objective without features that is negligible.
_CHECKED_LABELS, _NEGLIGIBLE = 8, 1e-8
# Maximal leverages, exact and approximate: nearer to 1, the leave-one-out score would divide by rounding errors.
_MAX_LEVERAGE, _MAX_APPROXIMATE_LEVERAGE = 1 - 1e-7, 0.9


class SquaredProblem(LogisticProblem):
    """The problem of `LogisticProblem` with squared error in place of cross-entropy."""

    def local_data_term(self, part: slice, logits: Tensor) -> Tensor:
        """Data terms (k,) of a slice of labels, summed over the rows of this process only."""
        s = self.s[part]
        z = torch.where(s > 0, (-4 * self.minus_a[part]).div_(s).sub_(2), 0.0)
        return z.sub_(logits).square_().mul_(s).sum(1).double().div_(8)

    def residual(self, part: slice, logits: Tensor, q: Tensor) -> Tensor:
        """First derivatives of the data terms of a slice of labels, given their logits."""
        return torch.addcmul(self.minus_a[part], self.s[part], (0.25 * logits).add_(0.5))

    def curvature(self, part: slice, q: Tensor) -> Tensor:
        """Second derivatives of the data terms of a slice of labels."""
        return 0.25 * self.s[part]


class _Group(NamedTuple):
    """Labels with the same row weights, and the rows of non-zero weight; None means all rows."""

    labels: Tensor
    rows: Tensor | None


def _groups(problem: SquaredProblem, labels: Tensor) -> list[_Group]:
    """Group labels by their row weights."""
    s = problem.s
    first = s[labels[0]]
    same_as_first = torch.cat([(s[part] == first).all(1) for part in labels.split(256)])
    members = [labels[same_as_first]]
    by_hash: dict[bytes, list[int]] = {}
    for label in labels[~same_as_first].tolist():
        by_hash.setdefault(hashlib.blake2b(s[label].cpu().numpy().tobytes()).digest(), []).append(label)
    members += [torch.tensor(equal, device=s.device) for equal in by_hash.values()]
    groups = []
    for equal in members:
        rows = torch.nonzero(s[equal[0]] > 0).squeeze(1)
        groups.append(_Group(equal, None if 2 * len(rows) > s.shape[1] else rows))
    return groups


def _cost(problem: SquaredProblem, features: Features, group: _Group, n_alphas: int) -> float:
    """Number of multiplications for the factorisations of a group; infinite if they need too much memory."""
    m, d = problem.s.shape[1] if group.rows is None else len(group.rows), features.n_features
    p, q = min(m, d), max(m, d)
    if (group.rows is not None and isinstance(features, StreamedFeatures)) or p * (q if m < d else p) > _MAX_ENTRIES:
        return float("inf")
    # Leverages from the Gram matrix of the columns cost as much as the matrix itself.
    leverages = 0 if m < d else p**2 * q
    if n_alphas < MANY_ALPHAS:
        return p**2 * q + n_alphas * (p**3 + leverages)
    return p**2 * q + 10 * p**3 + leverages + n_alphas * p * q


def _groups_to_factorize(problem: SquaredProblem, features: Features, groups: Sequence[_Group]) -> list[_Group]:
    """Choose groups whose factorisations cost less than conjugate gradients, or little in total."""
    n_rows, d = problem.s.shape[1], features.n_features
    stored = features.X.nnz / n_rows if isinstance(features, SparseFeatures) else d
    chosen, rest = [], []
    for group in groups:
        cost = _cost(problem, features, group, len(problem.alpha[group.labels].unique()))
        rows = n_rows / BATCHED if group.rows is None else min(len(group.rows), n_rows / BATCHED)
        if cost / BATCHED <= PRODUCTS * len(group.labels) * rows * stored:
            chosen.append(group)
        else:
            rest.append((cost, group))
    budget = _CHEAP_MULTIPLICATIONS
    for cost, group in sorted(rest, key=lambda each: each[0]):
        budget -= cost
        if budget < 0:
            break
        chosen.append(group)
    return chosen


class _GroupFit(NamedTuple):
    """Fits of labels with the same row weights and the same penalty.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        The labels.
    alpha : Tensor of float64, shape (k,)
        The penalty, repeated.
    theta : Tensor of shape (k, d + 1)
        Weights, and intercepts in the last column.
    objective, null_objective : Tensor of float64, shape (k,)
        Minimal objectives of the model, and of a model with an intercept only.
    leverage_ratio, leverage_ratio_over_v : Tensor of shape (n,)
        h / (1 - h) for each row, and h / (1 - h) / v; 0 for rows of weight zero.
    """

    labels: Tensor
    alpha: Tensor
    theta: Tensor
    objective: Tensor
    null_objective: Tensor
    leverage_ratio: Tensor
    leverage_ratio_over_v: Tensor


# Its fields with one entry per label.
_LABEL_FIELDS = _GroupFit._fields[:5]


class LeftOut(NamedTuple):
    """Fits of some labels, and their leave-one-out scores.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        The labels.
    alpha : Tensor of float64, shape (k,)
        Their penalties.
    theta : Tensor of shape (k, d + 1)
        Weights, and intercepts in the last column, of the fits with all rows.
    scores : Tensor of shape (k, n)
        Score of each row under the fit without this row. Rows of weight zero have the score of the fit.
    objective : Tensor of float64, shape (k,)
        Minimal objectives.
    gap : Tensor of float64, shape (k,)
        Relative gap due to rounding: the largest among a few of the labels.
    """

    labels: Tensor
    alpha: Tensor
    theta: Tensor
    scores: Tensor
    objective: Tensor
    gap: Tensor


def _select_rows(matrix: Tensor, labels: Tensor) -> Tensor:
    """Rows of a matrix by ascending indices, without a copy if these are all rows."""
    return matrix if len(labels) == len(matrix) else matrix[labels]


def _solve_group(
    problem: SquaredProblem, group: _Group, gram: Gram, alphas: Sequence[tuple[float, Tensor]]
) -> Iterator[_GroupFit]:
    """The closed form for a group: for each penalty, the fits of the labels that have it."""
    rows, v, dtype = group.rows, gram.v, problem.s.dtype
    inverse_v = torch.where(v > 0, 1 / v, 0.0)
    penalties, last = [alpha for alpha, _ in alphas], None
    gram.factorize(penalties)
    for (alpha, labels), hat in zip(alphas, gram.hat(penalties)):
        if labels is not last:
            last, minus_a = labels, _select_rows(problem.minus_a, labels)
            minus_a = minus_a if rows is None else minus_a[:, rows]
            moments, total = gram.moments(minus_a), -row_sums(minus_a)
            squares = torch.cat([part.square().double() @ inverse_v for part in minus_a.split(_LABELS_PER_BLOCK)])
            null_objective = 0.5 * (squares - total.square() / gram.total)
        # These weights fit the negated targets; the gain is the same.
        weights, gain = gram.weights(alpha, moments)
        intercept = total / gram.total - 2 + weights @ gram.center
        theta = torch.cat([-weights, intercept[:, None]], dim=1).to(dtype)
        ratios = torch.zeros(2, problem.s.shape[1], dtype=dtype, device=v.device)
        leverage = (hat + v / gram.total).clamp(0, _MAX_LEVERAGE)
        ratio = leverage / (1 - leverage)
        ratios[:, slice(None) if rows is None else rows] = torch.stack([ratio, ratio * inverse_v]).to(dtype)
        objective = null_objective - 0.5 * gain
        yield _GroupFit(labels, torch.full_like(total, alpha), theta, objective, null_objective, *ratios)


def _regroup(fits: Iterator[_GroupFit]) -> Iterator[list[_GroupFit]]:
    """Split and collect fits into lists with enough labels for one product with the features."""
    part: list[_GroupFit] = []
    for fit in fits:
        for start in range(0, len(fit.labels), _LABELS_PER_PRODUCT):
            labels = slice(start, start + _LABELS_PER_PRODUCT)
            part.append(fit._replace(**{name: getattr(fit, name)[labels] for name in _LABEL_FIELDS}))
            if sum(len(each.labels) for each in part) >= _LABELS_PER_PRODUCT:
                yield part
                part = []
    if part:
        yield part


def _leave_rows_out(features: Features, problem: SquaredProblem, fits: Iterator[_GroupFit]) -> Iterator[LeftOut]:
    """Compute leave-one-out scores, and measure the rounding error of the fits."""
    for part in _regroup(fits):
        labels, alpha, theta, objective, null_objective = (
            torch.cat([getattr(each, name) for each in part]) for name in _LABEL_FIELDS
        )
        scores, start = features.scores(theta), 0
        checked = labels.argsort()[:_CHECKED_LABELS]
        reached = problem.take(labels[checked]).data_term(slice(None), scores[checked])
        reached += 0.5 * alpha[checked] * theta[checked, :-1].double().square().sum(1)
        # If the fit is exact, its objective is only rounding, and does not matter.
        scale = torch.maximum(reached, _NEGLIGIBLE * null_objective[checked])
        error = ((reached - objective[checked]).abs() / scale).max()
        for fit in part:
            plus_one, twice = fit.leverage_ratio + 1, 2 * fit.leverage_ratio
            for block in fit.labels.split(_LABELS_PER_BLOCK):
                # x + (x - z) h / (1 - h), with z = a / v - 2
                x = scores[start : start + len(block)]
                x.mul_(plus_one).add_(twice).addcmul_(problem.minus_a[block], fit.leverage_ratio_over_v)
                start += len(block)
        yield LeftOut(labels, alpha, theta, scores, objective, error.expand_as(objective))


def _calibrated(problem: SquaredProblem, labels: Tensor, theta: Tensor, scores: Tensor) -> Tensor:
    """Parameters (k, d + 1) of log odds, given those of scores and out-of-sample scores (k, n) of labels."""
    blocks = zip(labels.split(_LABELS_PER_BLOCK), scores.split(_LABELS_PER_BLOCK))
    maps = [log_odds_map(x, problem.s[block], -problem.minus_a[block]) for block, x in blocks]
    slope, intercept = (torch.cat(parts) for parts in zip(*maps))
    found = theta.double() * slope[:, None]
    found[:, -1] += intercept
    return found.to(theta.dtype)


def _closed_form(
    prepared: PreparedFeatures, problem: SquaredProblem, groups: Sequence[_Group], alphas: Sequence[float] | None = None
) -> Iterator[LeftOut]:
    """Fits of groups of labels, with the penalties of the problem or with each of `alphas`."""

    def fits() -> Iterator[_GroupFit]:
        for group in groups:
            s, labels = problem.s[group.labels[0]], group.labels
            v = 0.25 * (s if group.rows is None else s[group.rows]).double()
            gram = prepared.gram(v) if group.rows is None else Gram(prepared.features, group.rows, v)
            own = problem.alpha[labels]
            by_alpha = [(float(alpha), labels[own == alpha]) for alpha in own.unique()]
            penalties = by_alpha if alphas is None else [(alpha, labels) for alpha in alphas]
            yield from _solve_group(problem, group, gram, penalties)

    return _leave_rows_out(prepared.features, problem, fits())


def leave_one_out(
    problem: Problem, alphas: Sequence[float], prepared: PreparedFeatures | None = None
) -> Iterator[LeftOut]:
    """Fit all labels by squared error for several penalties, and compute leave-one-out scores.

    Parameters
    ----------
    problem : Problem
        The training task. Targets and weights of its loss must not depend on the logits. Its penalty, head and
        regularizer are ignored.
    alphas : sequence of float
        Penalties, in the units of `problem.alpha`. As in scikit-learn's RidgeCV, the penalty of a fit without a row is
        relative to the sum over the other rows, not to their mean.
    prepared : PreparedFeatures or None, default=None
        Prepared features of the problem, which other problems may share.

    Yields
    ------
    LeftOut
        Fits for a few hundred pairs of label and penalty at a time, without the labels that cannot be fitted.

    Raises
    ------
    ValueError
        If targets or weights depend on the logits, or a factor would take too much memory.
    """
    loss = problem.loss
    if not isinstance(loss, PointwiseLoss) or loss.traits().iterative:
        raise ValueError(f"Rows cannot be left out of fits of {loss!r}: use a pointwise loss whose targets are fixed.")
    source = DataSource(problem.data, problem.weights, problem.device, problem.dtype)
    convex = SquaredProblem(FoldedTargets(problem, loss, source), problem.alpha, problem.dtype, problem.device)
    labels = torch.nonzero(~convex.unfitted).squeeze(1)
    groups = _groups(convex, labels) if len(labels) else []
    if any(_cost(convex, problem.features, group, len(alphas)) == float("inf") for group in groups):
        n, d = problem.features.n_rows, problem.features.n_features
        raise ValueError(f"Leaving single rows out of X of shape ({n}, {d}) takes too much memory: use folds of rows.")
    return _closed_form(prepared or PreparedFeatures(problem.features), convex, groups, alphas)


def solve_squared_round(
    prepared: PreparedFeatures, problem: SquaredProblem, theta: Tensor, *, tol: float, max_iter: int, report: Report
) -> Outcome:
    """Solve one round, and turn scores into log odds.

    Labels are solved by factorisation, or by conjugate gradients if these are faster.

    Parameters
    ----------
    prepared, problem, theta, tol, max_iter, report
        As in `solve_round`; the solution does not depend on the start, except for labels that cannot be fitted.

    Returns
    -------
    Outcome
        The parameters of log odds: weights are the optimal ones times a positive factor per label.
    """
    outcome, objective, remaining = _solve_by_factors(prepared, problem, theta, tol)
    if not len(remaining) and not bool(problem.unfitted.all()):
        report(objective, outcome.gap, lambda: outcome.theta)
        return outcome
    part = copy.copy(problem)
    part.unfitted = torch.ones_like(problem.unfitted)
    part.unfitted[remaining] = False

    def report_all(values: Tensor, gap: Tensor, current: Callable[[], Tensor]) -> bool:
        return report(torch.where(part.unfitted, objective, values), torch.maximum(gap, outcome.gap), current)

    start = _start_at_means(problem, outcome.theta, remaining)
    rest = solve_round(prepared, part, start, tol=tol, max_iter=max_iter, report=report_all)
    _recalibrate(prepared, problem, rest.theta, remaining)
    return Outcome(
        rest.theta,
        torch.maximum(rest.gap, outcome.gap),
        rest.unconverged | outcome.unconverged,
        rest.imprecise | outcome.imprecise,
    )


def _solve_by_factors(
    prepared: PreparedFeatures, problem: SquaredProblem, theta: Tensor, tol: float
) -> tuple[Outcome, Tensor, Tensor]:
    """Solve the groups chosen for factorisation; returns the outcome, the objectives, and the remaining labels."""
    labels, theta = torch.nonzero(~problem.unfitted).squeeze(1), theta.clone()
    objective, gap = torch.zeros(2, len(theta), dtype=torch.float64, device=theta.device)
    groups = _groups(problem, labels) if len(labels) else []
    chosen = _groups_to_factorize(problem, prepared.features, groups)
    remaining = ~problem.unfitted
    for fit in _closed_form(prepared, problem, chosen):
        objective[fit.labels], gap[fit.labels], remaining[fit.labels] = fit.objective, fit.gap, False
        theta[fit.labels] = _calibrated(problem, fit.labels, fit.theta, fit.scores)
    imprecise = gap > 4 * max(tol, 20 * torch.finfo(theta.dtype).eps)
    return Outcome(theta, gap, imprecise, imprecise), objective, torch.nonzero(remaining).squeeze(1)


def _start_at_means(problem: SquaredProblem, theta: Tensor, labels: Tensor) -> Tensor:
    """Set the weights of some labels to zero, and their intercepts to the mean target; returns a copy."""
    theta = theta.clone()
    theta[labels, :-1] = 0
    theta[labels, -1] = -4 * problem.minus_a[labels].sum(1) / problem.s[labels].sum(1) - 2
    return theta


def _recalibrate(prepared: PreparedFeatures, problem: SquaredProblem, theta: Tensor, labels: Tensor) -> None:
    """Turn scores of labels without a factorisation into log odds; changes theta in place."""
    gram = _average_gram(prepared, problem.take(labels)) if len(labels) else None
    for part in labels.split(_LABELS_PER_PRODUCT) if len(labels) else ():
        scores = prepared.features.scores(theta[part])
        if gram is not None:
            _leave_rows_out_approximately(gram, problem.take(part), scores)
        theta[part] = _calibrated(problem, part, theta[part], scores)


def _average_gram(prepared: PreparedFeatures, problem: SquaredProblem) -> Gram | None:
    """Gram matrix with row weights averaged over the labels; None if it would take too long."""
    v = 0.25 * problem.row_weight.double()
    all_labels = _Group(torch.arange(len(problem.s), device=v.device), None)
    cost = _cost(problem, prepared.features, all_labels, MANY_ALPHAS)
    by_products = PRODUCTS * len(problem.s) * len(v) * prepared.features.n_features
    return prepared.gram(v) if cost <= _CHEAP_MULTIPLICATIONS + by_products else None


def _leave_rows_out_approximately(gram: Gram, problem: SquaredProblem, scores: Tensor) -> None:
    """Turn scores (k, n) into approximate leave-one-out scores, in place.

    The Gram matrix of each label is taken to be the average one, times the ratio of their total row weights.
    """
    v = 0.25 * problem.s
    total = v.sum(1, dtype=torch.float64)
    ratio = total / gram.total
    hat = gram.hat((problem.alpha / ratio).tolist()).to(v.dtype)
    relative = (v / gram.v.to(v.dtype).clamp(min=torch.finfo(v.dtype).tiny)).div_(ratio[:, None].to(v.dtype))
    leverage = hat.mul_(relative).add_(v / total[:, None].to(v.dtype)).clamp_(0, _MAX_APPROXIMATE_LEVERAGE)
    # Entries of weight zero have leverage zero.
    z = torch.where(v > 0, -problem.minus_a / v - 2, 0.0)
    scores.add_((scores - z).mul_(leverage / (1 - leverage)))
