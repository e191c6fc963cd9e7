r"""Squared error in closed form: ridge regressions of all labels, from as few factors as there are weights of rows.

With :math:`v = s / 4`, and logits :math:`z = 2 (2 t - 1)` to which entries are drawn, the objective of label j is

.. math::

    F_j(w, b) = \tfrac12 \sum_i v_{ij} (f_i \cdot w + b - z_{ij})^2 + \tfrac{\alpha}{2} \lVert w \rVert^2

Labels whose rows weigh the same share a factor, whatever their targets and penalties: of the Gram matrix of the centred
columns, or of the rows where these are fewer. It also tells the leverages h of the rows, and with them what each row
would be given by a fit without it, whose penalty is the same,

.. math::

    x^{(-i)}_{ij} = \frac{x_{ij} - h_{ij} z_{ij}}{1 - h_{ij}}, \quad
    h_{ij} = v_{ij} \Big( \frac{1}{\sum_i v_{ij}}
    + \tilde{f}_i^\top \big( \tilde{F}^\top V_j \tilde{F} + \alpha I \big)^{-1} \tilde{f}_i \Big)

where features with a tilde are centred by the weights of the label.

Source: R. Rifkin, R. Lippert, "Notes on regularized least squares", MIT CSAIL technical report 2007-025, sections 3 and
4, for a model without weights and intercept.
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
from skpartial.solvers.convex._recalibration import positive_slopes
from skpartial.solvers.convex._rows import BATCHED, PRODUCTS
from skpartial.solvers.convex._solve import Outcome, Report, solve_round
from skpartial.training._data import DataSource
from skpartial.training._problem import Problem
from skpartial.training._targets import FoldedTargets

__all__ = ["LeftOut", "SquaredProblem", "leave_one_out", "solve_squared_round"]

# Multiplications that are not worth being saved: about two seconds'.
_LITTLE = 5e10
# Numbers of a matrix that is factorised, or of the rows of one, at most: a gigabyte of float64.
_MOST_ENTRIES = 1 << 27
# Labels that are scored at once, and whose scores are then worked on within the processor's cache.
_SCORED_LABELS, _BLOCK_LABELS = 256, 8
# Labels among those by which rounding is judged; a share of the objective that is nothing.
_CHECKED_LABELS, _NOTHING = 8, 1e-8
# Closer to 1 leverages leave nothing of a row to judge it by.
_LARGEST_LEVERAGE, _LARGEST_GUESS = 1 - 1e-7, 0.9


class SquaredProblem(LogisticProblem):
    """The same weights and targets, with squared error in place of cross-entropy."""

    def local_data_term(self, part: slice, logits: Tensor) -> Tensor:
        """What the rows of this process add to the data terms of labels (k,), at their logits (k, n)."""
        s = self.s[part]
        aims = torch.where(s > 0, (-4 * self.minus_a[part]).div_(s).sub_(2), 0.0)
        return aims.sub_(logits).square_().mul_(s).sum(1).double().div_(8)

    def residual(self, part: slice, logits: Tensor, q: Tensor) -> Tensor:
        """First derivatives of the data terms of a slice of labels in their logits."""
        return torch.addcmul(self.minus_a[part], self.s[part], (0.25 * logits).add_(0.5))

    def curvature(self, part: slice, q: Tensor) -> Tensor:
        """Second derivatives of the data terms of a slice of labels."""
        return 0.25 * self.s[part]


class _Group(NamedTuple):
    """Labels whose rows weigh the same, and these rows, None where they are all."""

    labels: Tensor
    rows: Tensor | None


def _groups(problem: SquaredProblem, labels: Tensor) -> list[_Group]:
    """Labels by the weights of their rows."""
    s = problem.s
    first = s[labels[0]]
    alike = torch.cat([(s[part] == first).all(1) for part in labels.split(256)])
    groups = [labels[alike]]
    others: dict[bytes, list[int]] = {}
    for label in labels[~alike].tolist():
        others.setdefault(hashlib.blake2b(s[label].cpu().numpy().tobytes()).digest(), []).append(label)
    groups += [torch.tensor(members, device=s.device) for members in others.values()]
    found = []
    for members in groups:
        rows = torch.nonzero(s[members[0]] > 0).squeeze(1)
        found.append(_Group(members, None if 2 * len(rows) > s.shape[1] else rows))
    return found


def _cost(problem: SquaredProblem, features: Features, group: _Group, n_alphas: int) -> float:
    """Multiplications that a group takes beside products for all labels; infinite where they need too much memory."""
    m, d = problem.s.shape[1] if group.rows is None else len(group.rows), features.n_features
    p, q = min(m, d), max(m, d)
    if (group.rows is not None and isinstance(features, StreamedFeatures)) or p * (q if m < d else p) > _MOST_ENTRIES:
        return float("inf")
    # Leverages take as much as the matrix, where that is of columns.
    leverages = 0 if m < d else p**2 * q
    if n_alphas < MANY_ALPHAS:
        return p**2 * q + n_alphas * (p**3 + leverages)
    return p**2 * q + 10 * p**3 + leverages + n_alphas * p * q


def _worth_a_factor(problem: SquaredProblem, features: Features, groups: Sequence[_Group]) -> list[_Group]:
    """Groups whose factors cost no more than what conjugate gradients would, or next to nothing all together."""
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
    left = _LITTLE
    for cost, group in sorted(rest, key=lambda each: each[0]):
        left -= cost
        if left < 0:
            break
        chosen.append(group)
    return chosen


class _Solved(NamedTuple):
    """Labels with the same rows and penalty.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        Which.
    alpha : Tensor of float64, shape (k,)
        The penalty, repeated.
    theta : Tensor of shape (k, d + 1)
        Weights, and intercepts in the last column.
    minimum, plain : Tensor of float64, shape (k,)
        Of the objectives, and what they are under intercepts alone.
    odds, odds_by_weight : Tensor of shape (n,)
        h / (1 - h) of all rows, and this over v; 0 for those that weigh nothing.
    """

    labels: Tensor
    alpha: Tensor
    theta: Tensor
    minimum: Tensor
    plain: Tensor
    odds: Tensor
    odds_by_weight: Tensor


# Those of its fields that have an entry a label.
_OF_LABELS = _Solved._fields[:5]


class LeftOut(NamedTuple):
    """Fits of some labels, and the scores that rows have by fits without them.

    Parameters
    ----------
    labels : Tensor of int64, shape (k,)
        Which labels.
    alpha : Tensor of float64, shape (k,)
        Their penalties.
    theta : Tensor of shape (k, d + 1)
        Weights, and intercepts in the last column, of the fits with all rows.
    scores : Tensor of shape (k, n)
        Of every row by a fit without it; where a label weighs nothing in a row, by the fit.
    objective : Tensor of float64, shape (k,)
        Minima of the objectives.
    gap : Tensor of float64, shape (k,)
        How far from them, relative to them, rounding has taken the parameters, as a few of the labels tell.
    """

    labels: Tensor
    alpha: Tensor
    theta: Tensor
    scores: Tensor
    objective: Tensor
    gap: Tensor


def _rows_of(matrix: Tensor, labels: Tensor) -> Tensor:
    """Rows of a matrix by rising indices, without a copy where these are all."""
    return matrix if len(labels) == len(matrix) else matrix[labels]


def _solve_group(
    problem: SquaredProblem, group: _Group, gram: Gram, alphas: Sequence[tuple[float, Tensor]]
) -> Iterator[_Solved]:
    """The closed form for a group, whose labels are given by penalties."""
    rows, v, dtype = group.rows, gram.v, problem.s.dtype
    by_weight = torch.where(v > 0, 1 / v, 0.0)
    penalties, last = [alpha for alpha, _ in alphas], None
    gram.factorize(penalties)
    for (alpha, labels), hat in zip(alphas, gram.hat(penalties)):
        if labels is not last:
            last, minus_a = labels, _rows_of(problem.minus_a, labels)
            minus_a = minus_a if rows is None else minus_a[:, rows]
            moments, total = gram.moments(minus_a), -row_sums(minus_a)
            squares = torch.cat([part.square().double() @ by_weight for part in minus_a.split(_BLOCK_LABELS)])
            plain = 0.5 * (squares - total.square() / gram.total)
        # Of the negative targets, whose signs do not matter to squares.
        weights, gain = gram.weights(alpha, moments)
        intercept = total / gram.total - 2 + weights @ gram.center
        theta = torch.cat([-weights, intercept[:, None]], dim=1).to(dtype)
        odds = torch.zeros(2, problem.s.shape[1], dtype=dtype, device=v.device)
        leverage = (hat + v / gram.total).clamp(0, _LARGEST_LEVERAGE)
        ratio = leverage / (1 - leverage)
        odds[:, slice(None) if rows is None else rows] = torch.stack([ratio, ratio * by_weight]).to(dtype)
        yield _Solved(labels, torch.full_like(total, alpha), theta, plain - 0.5 * gain, plain, *odds)


def _in_parts(solved: Iterator[_Solved]) -> Iterator[list[_Solved]]:
    """What was solved, in lists of as many labels as are scored at once."""
    part: list[_Solved] = []
    for found in solved:
        for start in range(0, len(found.labels), _SCORED_LABELS):
            few = slice(start, start + _SCORED_LABELS)
            part.append(found._replace(**{name: getattr(found, name)[few] for name in _OF_LABELS}))
            if sum(len(each.labels) for each in part) >= _SCORED_LABELS:
                yield part
                part = []
    if part:
        yield part


def _leave_out(features: Features, problem: SquaredProblem, solved: Iterator[_Solved]) -> Iterator[LeftOut]:
    """Leave every row out of the fits of labels."""
    for part in _in_parts(solved):
        labels, alpha, theta, minimum, plain = (
            torch.cat([getattr(each, name) for each in part]) for name in _OF_LABELS
        )
        scores, start = features.scores(theta), 0
        few = labels.argsort()[:_CHECKED_LABELS]
        reached = problem.take(labels[few]).data_term(slice(None), scores[few])
        reached += 0.5 * alpha[few] * theta[few, :-1].double().square().sum(1)
        # Where rows are fitted to the last digit, nothing that is left of the objective matters.
        error = ((reached - minimum[few]).abs() / torch.maximum(reached, _NOTHING * plain[few])).max()
        for each in part:
            plus_one, twice = each.odds + 1, 2 * each.odds
            for few in each.labels.split(_BLOCK_LABELS):
                # x + (x - z) h / (1 - h), with z = a / v - 2
                x = scores[start : start + len(few)]
                x.mul_(plus_one).add_(twice).addcmul_(problem.minus_a[few], each.odds_by_weight)
                start += len(few)
        yield LeftOut(labels, alpha, theta, scores, minimum, error.expand_as(minimum))


def _slopes(problem: SquaredProblem, labels: Tensor, scores: Tensor) -> Tensor:
    """What turns scores of labels into log odds, shape (k,)."""
    few = zip(labels.split(_BLOCK_LABELS), scores.split(_BLOCK_LABELS))
    return torch.cat([positive_slopes(x, problem.s[part], -problem.minus_a[part]) for part, x in few])


def _closed_form(
    prepared: PreparedFeatures, problem: SquaredProblem, groups: Sequence[_Group], alphas: Sequence[float] | None = None
) -> Iterator[LeftOut]:
    """Fits of groups of labels, under their own penalties or under each of some."""

    def solved() -> Iterator[_Solved]:
        for group in groups:
            s, labels = problem.s[group.labels[0]], group.labels
            v = 0.25 * (s if group.rows is None else s[group.rows]).double()
            gram = prepared.gram(v) if group.rows is None else Gram(prepared.features, group.rows, v)
            own = problem.alpha[labels]
            penalties = [(float(alpha), labels[own == alpha]) for alpha in own.unique()]
            given = penalties if alphas is None else [(alpha, labels) for alpha in alphas]
            yield from _solve_group(problem, group, gram, given)

    return _leave_out(prepared.features, problem, solved())


def leave_one_out(
    problem: Problem, alphas: Sequence[float], prepared: PreparedFeatures | None = None
) -> Iterator[LeftOut]:
    """Fits of all labels by squared error under some penalties, with the scores that rows have by fits without them.

    Parameters
    ----------
    problem : Problem
        The training task. Its loss gives targets and weights, which do not depend on the logits; its penalty and
        whatever else is trained play no part.
    alphas : sequence of float
        Penalties, which mean what the problem's does. A fit without a row has the same penalty in relation to the sum
        over the other rows, as in scikit-learn's RidgeCV, not to their mean.
    prepared : PreparedFeatures or None, default=None
        Of the problem's features; may serve other problems as well.

    Yields
    ------
    LeftOut
        Of a few hundred labels and penalties at a time, each pair once. Labels that cannot be fitted are left out.

    Raises
    ------
    ValueError
        If targets or weights depend on the logits, or a factor would take too much memory.
    """
    loss = problem.loss
    if not isinstance(loss, PointwiseLoss) or loss.traits().iterative:
        raise ValueError(f"Rows cannot be left out of fits of {loss!r}, whose targets or weights are none of its own.")
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

    Labels for which a factor would take longer than conjugate gradients are solved by these.

    Parameters
    ----------
    prepared, problem, theta, tol, max_iter, report
        As of `solve_round`; labels that can be fitted do not look where they start.

    Returns
    -------
    Outcome
        Parameters of the recalibrated logits: those of the optimum, times a positive number for each label.
    """
    outcome, objective, left = _solve_by_factors(prepared, problem, theta, tol)
    if not len(left) and not bool(problem.unfitted.all()):
        report(objective, outcome.gap, lambda: outcome.theta)
        return outcome
    part = copy.copy(problem)
    part.unfitted = torch.ones_like(problem.unfitted)
    part.unfitted[left] = False

    def tell(values: Tensor, gap: Tensor, current: Callable[[], Tensor]) -> bool:
        return report(torch.where(part.unfitted, objective, values), torch.maximum(gap, outcome.gap), current)

    start = _intercepts_alone(problem, outcome.theta, left)
    found = solve_round(prepared, part, start, tol=tol, max_iter=max_iter, report=tell)
    _recalibrate(prepared, problem, found.theta, left)
    return Outcome(
        found.theta,
        torch.maximum(found.gap, outcome.gap),
        found.unconverged | outcome.unconverged,
        found.imprecise | outcome.imprecise,
    )


def _solve_by_factors(
    prepared: PreparedFeatures, problem: SquaredProblem, theta: Tensor, tol: float
) -> tuple[Outcome, Tensor, Tensor]:
    """Solve for labels that are worth a factor; their objectives, and which labels are left."""
    labels, theta = torch.nonzero(~problem.unfitted).squeeze(1), theta.clone()
    objective, gap = torch.zeros(2, len(theta), dtype=torch.float64, device=theta.device)
    groups = _groups(problem, labels) if len(labels) else []
    chosen = _worth_a_factor(problem, prepared.features, groups)
    left = ~problem.unfitted
    for found in _closed_form(prepared, problem, chosen):
        objective[found.labels], gap[found.labels], left[found.labels] = found.objective, found.gap, False
        slope = _slopes(problem, found.labels, found.scores)
        theta[found.labels] = (found.theta.double() * slope[:, None]).to(theta.dtype)
    imprecise = gap > 4 * max(tol, 20 * torch.finfo(theta.dtype).eps)
    return Outcome(theta, gap, imprecise, imprecise), objective, torch.nonzero(left).squeeze(1)


def _intercepts_alone(problem: SquaredProblem, theta: Tensor, labels: Tensor) -> Tensor:
    """Parameters with some labels at their means."""
    theta = theta.clone()
    theta[labels, :-1] = 0
    theta[labels, -1] = -4 * problem.minus_a[labels].sum(1) / problem.s[labels].sum(1) - 2
    return theta


def _recalibrate(prepared: PreparedFeatures, problem: SquaredProblem, theta: Tensor, labels: Tensor) -> None:
    """Turn scores of labels without factors of their own into log odds; changes their parameters."""
    gram = _typical_gram(prepared, problem.take(labels)) if len(labels) else None
    for few in labels.split(_SCORED_LABELS) if len(labels) else ():
        scores = prepared.features.scores(theta[few])
        if gram is not None:
            _leave_out_about(gram, problem.take(few), scores)
        theta[few] *= _slopes(problem, few, scores).to(theta.dtype)[:, None]


def _typical_gram(prepared: PreparedFeatures, problem: SquaredProblem) -> Gram | None:
    """Of all rows with what they count for in a typical label, where that does not take too long."""
    v = 0.25 * problem.row_weight.double()
    everything = _Group(torch.arange(len(problem.s), device=v.device), None)
    cost = _cost(problem, prepared.features, everything, MANY_ALPHAS)
    by_products = PRODUCTS * len(problem.s) * len(v) * prepared.features.n_features
    return prepared.gram(v) if cost <= _LITTLE + by_products else None


def _leave_out_about(gram: Gram, problem: SquaredProblem, scores: Tensor) -> None:
    """Leave every row out of the fits of some labels by about its leverage; changes the scores (k, n).

    The rows of each label are taken to be like all others, but for how much they weigh together.
    """
    v = 0.25 * problem.s
    total = v.sum(1, dtype=torch.float64)
    # Matrices of the labels are about this multiple of the typical one.
    ratio = total / gram.total
    hat = gram.hat((problem.alpha / ratio).tolist()).to(v.dtype)
    relative = (v / gram.v.to(v.dtype).clamp(min=torch.finfo(v.dtype).tiny)).div_(ratio[:, None].to(v.dtype))
    leverage = hat.mul_(relative).add_(v / total[:, None].to(v.dtype)).clamp_(0, _LARGEST_GUESS)
    # Where a label weighs nothing, its leverage is zero.
    aims = torch.where(v > 0, -problem.minus_a / v - 2, 0.0)
    scores.add_((scores - aims).mul_(leverage / (1 - leverage)))
