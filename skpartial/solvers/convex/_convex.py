"""One convex round: all labels to their optimum together, each with its own step and its own convergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from skpartial.features._matrix import ResidentFeatures
from skpartial.features._scaled import NarrowFeatures
from skpartial.solvers.convex._course import Products
from skpartial.solvers.convex._descent import Descent
from skpartial.solvers.convex._directions import Direction, ExactNewton
from skpartial.solvers.convex._few_rows import KnownRows, OwnRows, groups_of_few_rows, groups_of_known_rows
from skpartial.solvers.convex._groundwork import Groundwork
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._quasi_newton import QuasiNewton

__all__ = ["Outcome", "Report", "solve_round"]

# Exact Hessians up to this many features, and up to this many products for all labels: they take milliseconds then.
_EXACT_FEATURES = 64
_EXACT_PRODUCTS = 1 << 27
# Quadratic convergence makes this exactness cost a step or two.
_EXACT_TOLERANCE = 1e-17
# Rows that no label weighs are left out where at most this share remains.
_ROWS_WORTH_TAKING = 0.7
# Directions of the sketch, and rows that a label needs for each.
_RANKS = 64, 256
_ROWS_A_DIRECTION = 20
# So many steps that lower an objective by less than this share of its rounding have come to the end of its digits.
_STUCK_STEPS, _STUCK_DESCENT = 10, 0.2
# A label whose gap is told to be so many times what it may be is taken to its optimum by a Newton step.
_RIPE = 10
# Least share of the labels for which that is done, and which are taken out of the products, is one in so many.
_GROUPS = 8

# Told of the objectives and relative gaps of all labels, and of how to get their parameters; True asks to stop.
Report = Callable[[Tensor, Tensor, Callable[[], Tensor]], bool]


class Scored(Protocol):
    """What the objective needs of features."""

    def scores(self, theta: Tensor) -> Tensor:
        """Scores (k, n) under parameters (k, d + 1) for the features as passed, intercepts last."""


@dataclass
class Outcome:
    """What a round came to.

    Parameters
    ----------
    theta : Tensor of shape (L, d + 1)
        Weights, and intercepts in the last column.
    gap : Tensor of float64, shape (L,)
        Estimated relative gaps.
    unconverged : Tensor of bool, shape (L,)
        Labels whose gap is above the tolerance, or whose objective rounding has changed.
    imprecise : Tensor of bool, shape (L,)
        Those among them that more steps would not help.
    """

    theta: Tensor
    gap: Tensor
    unconverged: Tensor
    imprecise: Tensor

    def of(self, labels: slice) -> Outcome:
        """The outcome of some of the labels."""
        return Outcome(self.theta[labels], self.gap[labels], self.unconverged[labels], self.imprecise[labels])


class _Round:
    """All labels of a round, and how far each has come.

    Parameters
    ----------
    theta : Tensor of shape (L, d + 1)
        Where to start; overwritten.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Steps of a descent at most.
    report : callable
        Called after every step.
    """

    def __init__(self, theta: Tensor, *, tol: float, max_iter: int, report: Report) -> None:
        self.theta, self.max_iter, self.report = theta, max_iter, report
        #: In float32 smaller gaps cannot be told.
        self.enough = max(tol, 20 * torch.finfo(theta.dtype).eps)
        self.gaps = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        self.objectives = torch.zeros_like(self.gaps)
        self.unconverged = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        self.imprecise = torch.zeros_like(self.unconverged)
        self.stopped = False

    def descend(
        self,
        active: Tensor,
        problem: LogisticProblem,
        products: Products,
        rule: Direction,
        start: Tensor,
        penalty: Tensor,
        outer: Callable[[Tensor], Tensor],
        *,
        goal: float,
        drop: bool = True,
        narrow: NarrowFeatures | None = None,
    ) -> None:
        """Descend with some labels until all of them have converged.

        Parameters
        ----------
        active : Tensor of int64, shape (k,)
            Which labels of the round these are.
        problem : LogisticProblem
            Their data term.
        products : Products
            Features in the coordinates of the descent.
        rule : Direction
            Gives directions.
        start : Tensor of shape (k, d' + 1)
            Where to start, in these coordinates.
        penalty : Tensor of shape (d' + 1,)
            What alpha is multiplied by for each parameter, 0 for the intercept.
        outer : callable
            From parameters in these coordinates to those for the features as passed.
        goal : float
            Gap to go on to.
        drop : bool, default=True
            Whether labels that have converged are taken out of the products.
        narrow : NarrowFeatures or None, default=None
            The same features in a type of fewer digits and faster products.
        """
        least = _STUCK_DESCENT * torch.finfo(start.dtype).eps
        descent = Descent(problem, products, rule, start, penalty, narrow)
        course, point = descent.course, descent.point
        n_stuck = torch.zeros(len(active), dtype=torch.int64, device=start.device)
        ripe = torch.zeros_like(n_stuck, dtype=torch.bool)
        # Labels are taken out in groups: until then their steps do no harm.
        share = _GROUPS if drop else 1

        def current() -> Tensor:
            now = self.theta.clone()
            now[active] = outer(point.theta)
            return now

        for _ in range(self.max_iter):
            in_full, before = course.in_full, point.value.clone()
            # A quasi-Newton model finds the way, but can be wrong about what is left: the last step is Newton's.
            newton = in_full and bool(ripe.any()) and share * int(ripe.sum()) >= len(active)
            above = descent.newton_step(goal * point.value.abs(), ripe) if newton else descent.step()
            gap = above / point.value.abs().clamp(min=torch.finfo(torch.float64).tiny)
            certain = newton or rule.exact
            finished = (gap <= goal) & certain
            ripe = (gap <= _RIPE * goal) & ~finished & (not rule.exact)
            self.objectives[active] = point.value
            self.gaps[active] = gap if certain else gap.clamp(min=2 * self.enough)
            stuck = ((descent.slope >= 0) | (before - point.value <= least * before.abs())) & ~finished
            done = in_full and bool(finished.all())
            if course.narrow is not None and not done and course.is_due(descent.slope, finished | ripe, stuck):
                descent.renew(finished, stuck)
            else:
                n_stuck += stuck
                finished |= n_stuck > _STUCK_STEPS
            self.unconverged[active] = self.gaps[active] > self.enough
            self.imprecise[active] = self.unconverged[active] & (n_stuck > _STUCK_STEPS)
            self.stopped = self.report(self.objectives, self.gaps, current)
            if self.stopped or (in_full and bool(finished.all())):
                break
            if drop and in_full and _GROUPS * int(finished.sum()) >= len(active):
                self.theta[active] = outer(point.theta)
                kept = torch.nonzero(~finished).squeeze(1)
                active, n_stuck, ripe = active[kept], n_stuck[kept], ripe[kept]
                descent.keep(kept)
        self.theta[active] = outer(point.theta)

    def wait(self, convex: LogisticProblem, products: Scored, labels: Tensor) -> None:
        """Let labels whose turn is yet to come be reported from where they start."""
        new = labels[~torch.isinf(self.gaps[labels])]
        if len(new):
            self.objectives[new] = self._evaluate(convex.take(new), products, new)
            self.gaps[new] = float("inf")

    def _evaluate(self, problem: LogisticProblem, products: Scored, labels: Tensor) -> Tensor:
        """Objectives of some labels at their present parameters, in float64."""
        theta = self.theta[labels]
        values = 0.5 * problem.alpha * theta[:, :-1].double().square().sum(1)
        logits = products.scores(theta)
        for part in problem.blocks():
            values[part] += problem.data_term(part, logits[part])
        return values

    def check(self, problem: LogisticProblem, products: Scored, labels: Tensor) -> Tensor:
        """Compare what a descent believes with the objective of the parameters that are returned.

        They are rounded to the type of the features, and features far from zero magnify that. Returns which labels have
        another one.
        """
        reached, believed = self._evaluate(problem, products, labels), self.objectives[labels]
        error = (reached - believed).abs() / believed.abs().clamp(min=1e-300)
        wrong = error > 4 * self.enough
        self.gaps[labels] = torch.where(wrong, torch.maximum(error, self.gaps[labels]), self.gaps[labels])
        self.imprecise[labels] |= wrong
        return wrong

    def outcome(self) -> Outcome:
        """What all labels came to."""
        return Outcome(self.theta, self.gaps, self.unconverged | self.imprecise, self.imprecise)


def solve_round(
    ground: Groundwork,
    convex: LogisticProblem,
    theta: Tensor,
    *,
    tol: float,
    max_iter: int,
    report: Report,
) -> Outcome:
    """Solve one round.

    Parameters
    ----------
    ground : Groundwork
        Of the features X, shape (n, d).
    convex : LogisticProblem
        The data term.
    theta : Tensor of shape (L, d + 1)
        Where to start: weights, and intercepts in the last column. Labels that cannot be fitted keep it.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Steps of each method at most.
    report : callable
        Called after every step.

    Returns
    -------
    Outcome
        Parameters, and which labels converged.
    """
    state = _Round(theta.clone(), tol=tol, max_iter=max_iter, report=report)
    features, rest = ground.features, torch.nonzero(~convex.unfitted).squeeze(1)
    if not len(rest):
        return state.outcome()
    n_rows, d = features.n_rows, features.n_features
    rows: Tensor | None = None
    if int(convex.count[rest].max()) < _ROWS_WORTH_TAKING * n_rows:
        rows = torch.nonzero((convex.s[rest] > 0).any(0)).squeeze(1)
        n_rows = len(rows)
    exact = d <= _EXACT_FEATURES and n_rows * (d + 1) ** 2 * len(rest) <= _EXACT_PRODUCTS
    if isinstance(features, ResidentFeatures) and not exact and bool((convex.alpha[rest] > 0).all()):
        rest = _descend_by_rows(state, features, convex, rest)
    if not len(rest) or state.stopped:
        return state.outcome()
    if rows is not None and n_rows < _ROWS_WORTH_TAKING * features.n_rows:
        taken = ground.take(rows)
        if taken is not ground:
            ground, convex = taken, convex.take_rows(rows)
    if exact:
        _descend_exactly(state, ground, convex, rest, tol)
    else:
        _descend_by_sketch(state, ground, convex, rest, tol)
    return state.outcome()


def _descend_by_rows(state: _Round, features: ResidentFeatures, convex: LogisticProblem, labels: Tensor) -> Tensor:
    """Newton's method for labels that weigh in few rows, in a basis of these; returns the other labels."""
    groups, rest = groups_of_few_rows(convex, features, labels)
    if groups:
        state.wait(convex, features, labels)
    others = [rest]
    for group, rows in groups:
        own = OwnRows(features.X, convex.s[group], rows)
        if not own.usable:
            others.append(group)
            continue
        penalty = state.theta.new_ones(rows.shape[1] + 1)
        penalty[-1] = 0
        before = state.theta[group]
        part, start, rule = convex.take_own_rows(group, rows), own.inner(before), own.newton()
        state.descend(group, part, own, rule, start, penalty, own.outer, goal=state.enough, drop=False)
        wrong = state.check(part, own, group)
        if state.stopped:
            break
        # A column much larger than the others takes their digits from products of rows, but not from those with columns
        # that have been standardised.
        again = group[wrong]
        state.theta[again] = before[wrong]
        state.wait(convex, features, again)
        others.append(again)
    return torch.cat(others).sort().values


def _descend_exactly(state: _Round, ground: Groundwork, convex: LogisticProblem, labels: Tensor, tol: float) -> None:
    """Newton's method with all features, in float64."""
    standard = ground.with_units(convex)
    X = torch.cat([block for _, block in standard.blocks()])
    rule = ExactNewton(torch.cat([X, X.new_ones(len(X), 1)], dim=1))
    part, start = convex.take(labels, torch.float64), standard.inner(state.theta[labels])
    goal = min(tol, _EXACT_TOLERANCE)
    state.descend(labels, part, ResidentFeatures(X), rule, start, standard.penalty, standard.outer, goal=goal)
    state.check(convex.take(labels), ground.features, labels)


def _descend_by_sketch(state: _Round, ground: Groundwork, convex: LogisticProblem, labels: Tensor, tol: float) -> None:
    """Quasi-Newton descents: of labels that weigh in a small part of the rows by these, of the others together."""
    features = ground.features
    standard, narrow = ground.standardized(convex)
    # Labels that weigh in few rows see few of the directions.
    rows_of_a_label = float(convex.count[labels].double().mean())
    low, high = _RANKS
    sketch = ground.sketch(int(min(max(low, rows_of_a_label / _ROWS_A_DIRECTION), high)))
    view = ground.view(convex, labels)
    penalty = standard.penalty.to(features.dtype)
    # The quasi-Newton model promises a little too little now and then.
    goal = max(tol / 2, 20 * torch.finfo(features.dtype).eps)
    rest = labels
    if isinstance(features, ResidentFeatures):
        groups, rest = groups_of_known_rows(convex, features, labels, narrow=narrow is not None)
        if groups:
            state.wait(convex, features, labels)
        room = features.X.new_empty(max((rows.numel() for _, rows in groups), default=0), features.n_features)
        for group, rows in groups:
            known = KnownRows(standard, rows, room)
            part, start = convex.take_own_rows(group, rows), standard.inner(state.theta[group]).to(features.dtype)
            rule = QuasiNewton(sketch, None if view is None else view.of(group))
            state.descend(group, part, known, rule, start, penalty, standard.outer, goal=goal, drop=False)
            state.check(part, known, group)
            if state.stopped:
                return
    if len(rest):
        part, start = convex.take(rest), standard.inner(state.theta[rest]).to(features.dtype)
        rule = QuasiNewton(sketch, None if view is None else view.of(rest))
        state.descend(rest, part, standard, rule, start, penalty, standard.outer, goal=goal, narrow=narrow)
        state.check(part, features, rest)
