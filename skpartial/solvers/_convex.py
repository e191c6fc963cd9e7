"""One convex round: all labels to their optimum together, each with its own step and its own convergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from skpartial.solvers._course import Course, Products
from skpartial.solvers._directions import Direction, ExactNewton
from skpartial.solvers._features import (
    Features,
    NarrowFeatures,
    ResidentFeatures,
    Standardized,
    moments,
    overflow_error,
)
from skpartial.solvers._few_rows import KnownRows, OwnRows, groups_of_few_rows, groups_of_known_rows
from skpartial.solvers._logistic import LogisticProblem, Point
from skpartial.solvers._quasi_newton import QuasiNewton
from skpartial.solvers._sketch import Sketch

__all__ = ["Outcome", "Report", "solve_round"]

# Exact Hessians up to this many features, and up to this many products for all labels: they take milliseconds then.
_EXACT_FEATURES = 64
_EXACT_PRODUCTS = 1 << 27
# Quadratic convergence makes this exactness cost a step or two.
_EXACT_TOLERANCE = 1e-13
# Rows that no label weighs are left out where at most this share remains.
_ROWS_WORTH_TAKING = 0.7
# What an entry of X costs in a product for many labels, in units of what it costs in a product for one.
_PRODUCT_COST, _NARROW_PRODUCT_COST = 0.07, 0.02
# Directions of the sketch, and rows that a label needs for each.
_RANKS = 64, 256
_ROWS_A_DIRECTION = 20
# Steps over which the pace of the descent is measured.
_PACE = 5

# Told of the objectives and relative gaps of all labels, and of how to get their parameters; True asks to stop.
Report = Callable[[Tensor, Tensor, Callable[[], Tensor]], bool]


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
        Labels whose gap is above the tolerance, or whose objective the rounding of the parameters has raised.
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


def _standardize(features: Features, convex: LogisticProblem, *, exact: bool) -> tuple[Standardized, Tensor]:
    """Columns centred and in units that suit the method, and the row weights behind them.

    Rounding then treats columns of different units and offsets alike. Newton's method is best off with every column in
    a unit of its own. A quasi-Newton method wants the penalty to stay the same along most directions, so that only
    columns that are much larger than the others are made smaller.
    """
    weights, mean, variance = moments(features, convex.row_weight)
    varying = variance[variance > 0]
    # A column so small that the penalty dominates it is sized by the penalty: the curvature of cross-entropy is a tenth
    # at probabilities near 0.11 or 0.89.
    least = 10 * float(convex.alpha.max()) if exact or not len(varying) else 10 * float(varying.median())
    size = (variance + least).sqrt()
    limit = torch.finfo(features.dtype).max ** 0.4
    unit = torch.where(size > 1 / limit, 1 / size, limit if float(size.max()) > 0 else 1.0)
    return Standardized(features, mean, unit), weights


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
        eps = torch.finfo(start.dtype).eps
        plain = not bool((start[:, :-1] != 0).any())
        course = Course(products, narrow, problem.alpha.to(penalty.dtype)[:, None] * penalty)
        logits = start[:, -1:].expand(-1, problem.s.shape[1]).clone() if plain else course.logits(start)
        point = Point(problem, start, logits, penalty)
        gradient = course.begin(point)
        values = [point.value.clone()]
        renewed = torch.zeros(len(active), dtype=torch.int64, device=start.device)

        def current() -> Tensor:
            now = self.theta.clone()
            now[active] = outer(point.theta)
            return now

        for _ in range(self.max_iter):
            direction = rule(point, gradient)
            slope = (gradient.double() * direction.double()).sum(1)
            if not bool((torch.isfinite(slope) & torch.isfinite(point.value)).all()):
                raise overflow_error(self.theta.dtype)
            exact = course.exact
            length = course.advance(point, direction, slope)
            previous, gradient = gradient, course.gradient(point)
            rule.learn(direction.mul_(length), gradient - previous)
            values.append(point.value.clone())
            del values[: -2 * _PACE - 1]

            # Half the slope is what a quadratic model promises. A model that is wrong promises too little, and the
            # descent goes on: the steps to come are a geometric series, whose ratio the last ones tell.
            promised = 0.5 * slope.abs()
            exhausted = torch.zeros_like(slope, dtype=torch.bool)
            if len(values) > 2 * _PACE:
                recent = (values[-1 - _PACE] - values[-1]).clamp(min=0)
                earlier = (values[0] - values[-1 - _PACE]).clamp(min=1e-300)
                ratio = (recent / earlier).clamp(max=0.95)
                promised = torch.maximum(promised, recent * ratio / (1 - ratio))
                exhausted = recent <= eps * point.value.abs()
            gap = promised / point.value.abs().clamp(min=torch.finfo(torch.float64).tiny)
            self.gaps[active], self.objectives[active] = gap, point.value
            finished = gap <= goal
            stuck = ((slope >= 0) | exhausted) & ~finished
            done = exact and bool(finished.all())
            if course.narrow is not None and not done and course.is_due(slope, finished, stuck):
                before = point.value.clone()
                gradient = course.renew(point, gradient, rule, finished, stuck)
                values = [value + (point.value - before) for value in values]
            # Where nothing moves any more, what was learned may be at fault, once; after that it is the arithmetic.
            elif bool(stuck.any()):
                rule.forget(stuck & (renewed == 0))
                renewed = torch.where(stuck | (renewed > 0), renewed + 1, 0)
                finished |= stuck & (renewed > 2 * _PACE)
            self.unconverged[active] = gap > self.enough
            self.imprecise[active] = (gap > self.enough) & (renewed > 2 * _PACE)
            self.stopped = self.report(self.objectives, self.gaps, current)
            if self.stopped or done or (exact and bool(finished.all())):
                break
            # Labels that have arrived are taken out in groups: until then their steps do no harm.
            if drop and exact and 8 * int(finished.sum()) >= len(active):
                self.theta[active] = outer(point.theta)
                kept = torch.nonzero(~finished).squeeze(1)
                active, renewed, gradient = active[kept], renewed[kept], gradient[kept]
                values = [value[kept] for value in values]
                for part in (point, rule, course):
                    part.keep(kept)
        self.theta[active] = outer(point.theta)

    def evaluate(self, features: Features, convex: LogisticProblem, labels: Tensor) -> Tensor:
        """Objectives of some labels at their present parameters, in float64."""
        chosen, weights = convex.take(labels), self.theta[labels]
        logits = features.forward(weights[:, :-1]).add_(weights[:, -1:])
        values = 0.5 * chosen.alpha * weights[:, :-1].double().square().sum(1)
        for part in chosen.blocks():
            values[part] += chosen.data_term(part, logits[part])
        return values

    def wait(self, features: Features, convex: LogisticProblem, labels: Tensor) -> None:
        """Let labels whose turn is yet to come be reported from where they start."""
        new = labels[~torch.isinf(self.gaps[labels])]
        if len(new):
            self.objectives[new] = self.evaluate(features, convex, new)
            self.gaps[new] = float("inf")

    def check(self, features: Features, convex: LogisticProblem, labels: Tensor) -> Outcome:
        """Compare what the descent believes with the objective of the parameters that it returns.

        They are rounded to the type of the features, and features far from zero magnify that.
        """
        reached, believed = self.evaluate(features, convex, labels), self.objectives[labels]
        excess = (reached - believed) / believed.abs().clamp(min=1e-300)
        raised = excess > 4 * self.enough
        self.gaps[labels] = torch.where(raised, excess, self.gaps[labels])
        self.imprecise[labels] |= raised
        return Outcome(self.theta, self.gaps, self.unconverged | self.imprecise, self.imprecise)


def solve_round(
    features: Features,
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
    features : Features
        X, shape (n, d).
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
    fitted = torch.nonzero(~convex.unfitted).squeeze(1)
    if not len(fitted):
        return Outcome(state.theta, state.gaps, state.unconverged, state.imprecise)
    weighs = (convex.s[fitted] > 0).any(0)
    if float(weighs.double().mean()) < _ROWS_WORTH_TAKING:
        rows = torch.nonzero(weighs).squeeze(1)
        taken = features.take(rows)
        if taken is not features:
            features, convex = taken, convex.take_rows(rows)

    d = features.n_features
    exact = d <= _EXACT_FEATURES and features.n_rows * (d + 1) ** 2 * len(fitted) <= _EXACT_PRODUCTS
    standard, row_weight = _standardize(features, convex, exact=exact)
    rest = fitted
    if isinstance(features, ResidentFeatures) and not exact and bool((convex.alpha[fitted] > 0).all()):
        groups, rest = groups_of_few_rows(convex, features, fitted)
        if groups:
            state.wait(features, convex, fitted)
        for group, rows in groups:
            own = OwnRows(features.X, standard.center, convex.s[group], rows)
            if not own.usable:
                rest = torch.cat([rest, group]).sort().values
                continue
            penalty = theta.new_ones(rows.shape[1] + 1)
            penalty[-1] = 0
            part, start = convex.take_own_rows(group, rows), own.inner(state.theta[group])
            rule: Direction = ExactNewton(own.bordered)
            state.descend(group, part, own, rule, start, penalty, own.outer, goal=state.enough, drop=False)
            if state.stopped:
                break
    if len(rest) and not state.stopped:
        dtype = torch.float64 if exact else features.dtype
        penalty = torch.cat([standard.unit.square(), standard.unit.new_zeros(1)]).to(dtype)
        if exact:
            X = torch.cat([block for _, block in standard.blocks()])
            products, rule = ResidentFeatures(X), ExactNewton(torch.cat([X, X.new_ones(len(X), 1)], dim=1))
            part, start = convex.take(rest, dtype), standard.inner(state.theta[rest]).to(dtype)
            goal = min(tol, _EXACT_TOLERANCE)
            state.descend(rest, part, products, rule, start, penalty, standard.outer, goal=goal)
        else:
            _descend_by_sketch(state, standard, convex, rest, row_weight, penalty, tol)
    return state.check(features, convex, fitted)


def _descend_by_sketch(
    state: _Round,
    standard: Standardized,
    convex: LogisticProblem,
    labels: Tensor,
    row_weight: Tensor,
    penalty: Tensor,
    tol: float,
) -> None:
    """Quasi-Newton descents: of labels that weigh in a small part of the rows by these, of the others together."""
    narrow = standard.narrow()
    # Labels that weigh in few rows see few of the directions.
    rows_of_a_label = float(convex.s.count_nonzero()) / len(convex.s)
    low, high = _RANKS
    rank = int(min(max(low, rows_of_a_label / _ROWS_A_DIRECTION), high))
    sketch = Sketch(narrow or standard, row_weight, penalty, rank)
    # The quasi-Newton model promises a little too little now and then.
    goal = max(tol / 2, 20 * torch.finfo(standard.dtype).eps)
    features, rest = standard.features, labels
    if isinstance(features, ResidentFeatures):
        cost = _PRODUCT_COST if narrow is None else _NARROW_PRODUCT_COST
        groups, rest = groups_of_known_rows(convex, features, labels, cost)
        if groups:
            state.wait(features, convex, labels)
        for group, rows in groups:
            known = KnownRows(features.X, standard.center, standard.unit, rows)
            part, start = convex.take_own_rows(group, rows), standard.inner(state.theta[group]).to(standard.dtype)
            state.descend(
                group, part, known, QuasiNewton(sketch), start, penalty, standard.outer, goal=goal, drop=False
            )
            if state.stopped:
                return
    if len(rest):
        part, start = convex.take(rest), standard.inner(state.theta[rest]).to(standard.dtype)
        state.descend(
            rest, part, standard, QuasiNewton(sketch), start, penalty, standard.outer, goal=goal, narrow=narrow
        )
