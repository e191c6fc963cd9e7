"""Base class of solvers: algorithms that train parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence

from sklearn.base import BaseEstimator

from skpartial._documentation import Documented
from skpartial.training._problem import Problem, Solution

__all__ = ["Solver", "solve_tasks"]


class Solver(Documented, BaseEstimator, ABC):
    """Base class of solvers: value objects that turn a problem into a solution."""

    @abstractmethod
    def check(self, problem: Problem) -> None:
        """Raise an error, before any work, for a problem that this solver cannot solve.

        Parameters
        ----------
        problem : Problem
            The training task.

        Raises
        ------
        ValueError
            The message names the parameter that is out of range, or what the solver does not support and which solver
            to use.
        """

    @abstractmethod
    def solve(self, problem: Problem) -> Solution:
        """Train.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        Solution
            Parameters, state and history.

        Raises
        ------
        ValueError
            As in `check`, or if the loss is no longer finite.

        Warns
        -----
        ConvergenceWarning
            If training ends before convergence.
        """

    @abstractmethod
    def max_steps(self, problem: Problem) -> int:
        """Maximal number of calls of the monitor, for progress bars.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        int
            Number of epochs or iterations.
        """

    def length_parameters(self) -> tuple[str, ...]:
        """Parameters that determine only the length of training, and do not change earlier passes.

        Returns
        -------
        tuple of str
            Names of parameters. Fits that differ only in these share a checkpoint. By default there are none.
        """
        return ()

    def group(self, problem: Problem) -> Hashable | None:
        """Key of problems that solvers of this class can solve together, sharing matrix products.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        Hashable or None
            Problems with equal keys, the same features and solvers of one class are passed to `solve_together`; None if
            the problem is solved alone.
        """
        return None

    @classmethod
    def solve_together(cls, tasks: Sequence[tuple[Solver, Problem]]) -> list[Solution]:
        """Train several tasks of a group, which share their features.

        Parameters
        ----------
        tasks : sequence of tuple of Solver and Problem
            Solvers of this class, each with its problem.

        Returns
        -------
        list of Solution
            Solutions in the same order; each equals the result of `solve` up to rounding.
        """
        return [solver.solve(problem) for solver, problem in tasks]


def solve_tasks(tasks: Sequence[tuple[Solver, Problem]]) -> list[Solution]:
    """Solve tasks; those that can share matrix products are solved together.

    Parameters
    ----------
    tasks : sequence of tuple of Solver and Problem
        Solvers, each with its problem.

    Returns
    -------
    list of Solution
        Solutions in the same order.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, (solver, problem) in enumerate(tasks):
        key = solver.group(problem)
        groups.setdefault(i if key is None else (type(solver), id(problem.features), key), []).append(i)
    found: dict[int, Solution] = {}
    for members in groups.values():
        solver = tasks[members[0]][0]
        found.update(zip(members, type(solver).solve_together([tasks[i] for i in members])))
    return [found[i] for i in range(len(tasks))]
