"""One convex round: every label by the method that suits the number of its rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from skpartial.solvers._coordinates import Coordinates, choose_coordinates
from skpartial.solvers._newton import LogisticProblem, minimize
from skpartial.solvers._problem import Problem
from skpartial.solvers._row_space import labels_of_few_rows, solve_by_rows

__all__ = ["ConvexSolver"]

# Told of the objectives and relative gaps of all labels, and of how to get their weights; True asks to stop.
Report = Callable[[Tensor, Tensor, Callable[[], Tensor]], bool]


class ConvexSolver:
    """Solves the convex problems of a fit, one a round.

    Parameters
    ----------
    problem : Problem
        The training task.
    tol : float
        Estimated relative gap at which a label has converged.
    max_iter : int
        Newton steps in a round, at most.
    """

    def __init__(self, problem: Problem, *, tol: float, max_iter: int) -> None:
        self.problem, self.tol, self.max_iter = problem, tol, max_iter
        # Made when a label first needs them: a basis of the rows has its cost.
        self._coordinates: Coordinates | None = None

    def __call__(
        self, convex: LogisticProblem, theta: Tensor, fitted: Tensor, *, scale: float, report: Report
    ) -> tuple[int, float]:
        """Solve one round.

        Parameters
        ----------
        convex : LogisticProblem
            The data term.
        theta : Tensor of shape (d + 1, L)
            Where to start: weights, and intercepts in the last row. Overwritten with the solution.
        fitted : Tensor of bool, shape (L,)
            Labels to solve; the others keep their start.
        scale : float
            The factor of the data term.
        report : callable
            Called after every step.

        Returns
        -------
        unconverged : int
            How many labels did not reach the tolerance.
        gap : float
            The largest relative gap.
        """
        problem = self.problem
        fitted = fitted.clone()
        objectives = torch.zeros(len(fitted), dtype=torch.float64, device=theta.device)
        gaps = torch.zeros_like(objectives)
        few = labels_of_few_rows(convex, problem.features, problem.alpha, fitted)
        if len(few):
            solved = solve_by_rows(problem.features, convex, few, scale=scale, alpha=problem.alpha, tol=self.tol)
            theta[:, solved.labels] = solved.theta
            objectives[solved.labels], gaps[solved.labels] = solved.objective, solved.gap
            fitted[solved.labels] = False
            if not bool(fitted.any()):
                report(objectives, gaps, lambda: theta)
        if not bool(fitted.any()):
            return 0, float(gaps.max())

        if self._coordinates is None:
            self._coordinates = choose_coordinates(problem)
        coordinates = self._coordinates
        inner = torch.cat([coordinates.of_weights(theta[:-1]), theta[-1:]])

        def current() -> Tensor:
            result = theta.clone()
            result[:, fitted] = torch.cat([coordinates.weights(inner[:-1][:, fitted]), inner[-1:, fitted]])
            return result

        result = minimize(
            coordinates.features,
            convex,
            theta=inner,
            scale=scale,
            penalty=coordinates.penalty,
            tol=self.tol,
            max_iter=self.max_iter,
            on_iteration=lambda _, objectives, gaps: report(objectives, gaps, current),
            active=torch.nonzero(fitted).squeeze(1),
            objectives=objectives,
            gaps=gaps,
        )
        theta.copy_(current())
        return int((~result.converged).sum()), float(result.gap.max())
