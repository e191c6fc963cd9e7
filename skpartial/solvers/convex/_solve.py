"""One convex round, which solves all labels to their optimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from skpartial.features._base import Features
from skpartial.features._matrix import ResidentFeatures
from skpartial.solvers.convex._cholesky import CholeskySolver, DualCholeskySolver, Matrix
from skpartial.solvers.convex._conjugate_gradients import ConjugateGradientSolver
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._newton import Design, NewtonSolver, Products
from skpartial.solvers.convex._prepared import PreparedFeatures, scaled_by_penalty
from skpartial.solvers.convex._rows import GatheredColumns, GatheredRows, RowBasis, cheapest_rows, gathered_rows

__all__ = ["Outcome", "Report", "solve_round"]

# Cholesky factors are used up to this many features, and up to this many multiplications for all labels, which take
# milliseconds.
_CHOLESKY_FEATURES, _CHOLESKY_MULTIPLICATIONS = 64, 1 << 27
# Maximal number of directions of the sketch, and number of rows that a label needs for each: with few rows, few
# directions matter.
_MAX_RANK, _ROWS_PER_DIRECTION = 256, 5

# Takes the objectives and relative gaps of all labels and a function that returns their parameters; True asks to stop.
Report = Callable[[Tensor, Tensor, Callable[[], Tensor]], bool]
# From parameters (k, d + 1), in the units of the features as passed, to logits.
Scores = Callable[[Tensor], Tensor]


@dataclass
class Outcome:
    """Result of a round.

    Parameters
    ----------
    theta : Tensor of shape (L, d + 1)
        Weights, and intercepts in the last column.
    gap : Tensor of float64, shape (L,)
        Estimated relative gaps.
    unconverged : Tensor of bool, shape (L,)
        Labels with a gap above the tolerance, or with an objective changed by rounding.
    imprecise : Tensor of bool, shape (L,)
        Unconverged labels that more steps would not improve.
    """

    theta: Tensor
    gap: Tensor
    unconverged: Tensor
    imprecise: Tensor

    def of(self, labels: slice) -> Outcome:
        """The result for some of the labels."""
        return Outcome(self.theta[labels], self.gap[labels], self.unconverged[labels], self.imprecise[labels])


class _Round:
    """All labels of a round, and the progress of each.

    Parameters
    ----------
    theta : Tensor of shape (L, d + 1)
        Start, in the units of the features as passed; overwritten.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Maximal number of Newton steps.
    report : callable
        Called after every step.
    """

    def __init__(self, theta: Tensor, *, tol: float, max_iter: int, report: Report) -> None:
        self.theta, self.max_iter, self.report = theta, max_iter, report
        #: The tolerance, or the least gap that the type can resolve.
        self.tol = max(tol, 20 * torch.finfo(theta.dtype).eps)
        self.gap = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        self.objective = torch.zeros_like(self.gap)
        self.imprecise = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        self.stopped = False

    def solve(self, solver: NewtonSolver, labels: Tensor) -> None:
        """Solve for some of the labels."""

        def current() -> Tensor:
            theta = self.theta.clone()
            theta[labels[solver.active]] = solver.design.to_features(solver.theta)
            return theta

        def report(solver: NewtonSolver) -> bool:
            active = labels[solver.active]
            self.objective[active], self.gap[active] = solver.value, solver.gap
            self.imprecise[active] = solver.stuck & (solver.gap > self.tol)
            if solver.drops_finished:
                self.theta = current()
            self.stopped = self.report(self.objective, self.gap, current)
            return self.stopped

        solver.solve(self.max_iter, report)
        self.theta = current()

    def begin(self, problem: LogisticProblem, features: Features, labels: Tensor) -> None:
        """Set objectives at the start for reports on labels that have not been solved yet."""
        new = labels[~torch.isinf(self.gap[labels])]
        self.objective[new], self.gap[new] = self._objectives(problem.take(new), features.scores, new), float("inf")

    def _objectives(self, problem: LogisticProblem, logits: Scores, labels: Tensor) -> Tensor:
        """Objectives of some labels at their current parameters, in float64."""
        theta = self.theta[labels]
        values, x = 0.5 * problem.alpha * theta[:, :-1].double().square().sum(1), logits(theta)
        for part in problem.blocks():
            values[part] += problem.data_term(part, x[part])
        return values

    def check(self, problem: LogisticProblem, logits: Scores, labels: Tensor) -> Tensor:
        """Compare the objectives of the solver with those of the returned parameters.

        Returned parameters are rounded to the type of the features, and features far from zero magnify the error.
        Returns a mask of labels with different objectives.
        """
        reached = self._objectives(problem, logits, labels)
        error = (reached - self.objective[labels]).abs() / self.objective[labels].abs().clamp(min=1e-300)
        wrong = error > 4 * self.tol
        self.gap[labels] = torch.where(wrong, torch.maximum(error, self.gap[labels]), self.gap[labels])
        self.imprecise[labels] |= wrong
        return wrong

    def outcome(self) -> Outcome:
        """The result for all labels."""
        return Outcome(self.theta, self.gap, (self.gap > self.tol) | self.imprecise, self.imprecise)


def solve_round(
    prepared: PreparedFeatures, problem: LogisticProblem, theta: Tensor, *, tol: float, max_iter: int, report: Report
) -> Outcome:
    """Solve one round.

    Parameters
    ----------
    prepared : PreparedFeatures
        Prepared features X, shape (n, d).
    problem : LogisticProblem
        The data terms.
    theta : Tensor of shape (L, d + 1)
        Start: weights, and intercepts in the last column. Labels that cannot be fitted keep these values.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Maximal number of Newton steps, for each group of labels that are solved together.
    report : callable
        Called after every step.

    Returns
    -------
    Outcome
        Parameters, and which labels converged.
    """
    state = _Round(theta.clone(), tol=tol, max_iter=max_iter, report=report)
    features, labels = prepared.features, torch.nonzero(~problem.unfitted).squeeze(1)
    if not len(labels):
        return state.outcome()
    n_rows, d = features.n_rows, features.n_features
    rows = torch.empty(0)
    if 2 * int(problem.count[labels].max()) < n_rows:
        rows = torch.nonzero((problem.s[labels] > 0).any(0)).squeeze(1)
        n_rows = len(rows)
    exact = d <= _CHOLESKY_FEATURES and n_rows * (d + 1) ** 2 * len(labels) <= _CHOLESKY_MULTIPLICATIONS
    if isinstance(features, ResidentFeatures) and not exact and bool((problem.alpha[labels] > 0).all()):
        basis, _ = cheapest_rows(problem.count[labels], n_rows, d)
        if bool(basis.any()):
            state.begin(problem, features, labels)
            remaining = _solve_in_basis(state, features, problem, labels[basis])
            labels = torch.cat([labels[~basis], remaining]).sort().values
    if not len(labels) or state.stopped:
        return state.outcome()
    # If half of the rows have weight zero for all labels, they are left out.
    if 2 * n_rows <= features.n_rows and (taken := prepared.take(rows)) is not prepared:
        prepared, problem = taken, problem.take_rows(rows)
    if exact:
        _solve_by_factors(state, prepared.features, problem, labels)
    else:
        _solve_by_products(state, prepared, problem, labels)
    return state.outcome()


def _solve_in_basis(state: _Round, features: ResidentFeatures, problem: LogisticProblem, labels: Tensor) -> Tensor:
    """Solve for labels in a basis of each label's rows; returns labels for which that is not precise enough."""
    remaining = []
    for group in gathered_rows(problem, features, labels):
        basis = RowBasis(group.X, problem.s[group.first].gather(1, group.rows) > 0)
        remaining.append(_follow_path(state, problem, group, basis) if basis.usable else group.labels)
        if state.stopped:
            break
    state.begin(problem, features, torch.cat(remaining))
    return torch.cat(remaining)


def _follow_path(state: _Round, problem: LogisticProblem, group: GatheredRows, basis: RowBasis) -> Tensor:
    """Solve for labels that share bases, with decreasing penalties, each from the previous optimum.

    Returns labels for which that is not precise enough.
    """
    remaining = [group.labels[:0]]
    for which, labels, previous in group.path():
        own, part = basis.take(which), problem.take_own_rows(labels, group.rows[which])
        before, start = state.theta[labels], own.from_features(state.theta[previous])
        state.solve(DualCholeskySolver(part, own, start, state.tol), labels)
        wrong = state.check(part, own.scores, labels)
        if state.stopped:
            break
        remaining.append(labels[wrong])
        # A column much larger than the others dominates inner products of rows, but not products with scaled columns.
        state.theta[labels[wrong]] = before[wrong]
    return torch.cat(remaining)


def _solve_by_factors(state: _Round, features: Features, problem: LogisticProblem, labels: Tensor) -> None:
    """Solve by factors of the Hessians, to the precision of float64."""
    columns = scaled_by_penalty(features, problem)
    start, part = columns.from_features(state.theta[labels]), problem.take(labels, torch.float64)
    state.solve(CholeskySolver(part, Matrix(columns), start, columns.penalty, 0.0), labels)
    state.check(problem.take(labels), features.scores, labels)


def _solve_by_products(state: _Round, prepared: PreparedFeatures, problem: LogisticProblem, labels: Tensor) -> None:
    """Solve by conjugate gradients: labels with few weighted rows on these rows, the others together on all rows."""
    prepared.scale(problem)
    features, columns = prepared.features, prepared.columns
    rows_per_label = float(problem.count[labels].double().mean())
    sketch = prepared.sketch(max(1, min(int(rows_per_label / _ROWS_PER_DIRECTION), _MAX_RANK)))
    # The estimate of the gap is occasionally a little too low.
    goal = max(state.tol / 2, 20 * torch.finfo(features.dtype).eps)

    def solve(labels: Tensor, part: LogisticProblem, design: Design, fast: Products | None, scores: Scores) -> None:
        start = columns.from_features(state.theta[labels]).to(features.dtype)
        state.solve(ConjugateGradientSolver(part, design, start, columns.penalty, goal, sketch, fast), labels)
        state.check(part, scores, labels)

    if isinstance(features, ResidentFeatures):
        entries = problem.entries[labels]
        _, own = cheapest_rows(problem.count[labels], features.n_rows, features.n_features, entries)
        if bool(own.any()):
            state.begin(problem, features, labels)
        for group in gathered_rows(problem, features, labels[own]):
            design = GatheredColumns(columns, group.X.unbind(), group.sharing)
            solve(group.labels, group.problem(problem), design, None, design.scores)
            if state.stopped:
                return
        labels = labels[~own]
    if len(labels):
        part, scores = problem.take(labels).share(prepared.processes), columns.features.scores
        solve(labels, part, prepared.design, prepared.fast_design, scores)
