"""What a solver is: how parameters move."""

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
        """Refuse a problem that this solver cannot serve, before any work.

        Parameters
        ----------
        problem : Problem
            The training task.

        Raises
        ------
        ValueError
            Naming the parameter that is out of range, or what the solver lacks and which one to use.
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
            As `check` does, or if the loss stops being finite.

        Warns
        -----
        ConvergenceWarning
            If training ends before it has converged.
        """

    @abstractmethod
    def max_steps(self, problem: Problem) -> int:
        """How often the monitor is called at most, for progress bars.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        int
            Epochs or iterations.
        """

    def length_parameters(self) -> tuple[str, ...]:
        """Parameters that say only how long training goes on, and change nothing of the passes before.

        Returns
        -------
        tuple of str
            Names of parameters: a checkpoint serves fits that differ in these. By default there are none.
        """
        return ()

    def group(self, problem: Problem) -> Hashable | None:
        """What a problem has in common with others that this kind of solver can solve in shared products.

        Parameters
        ----------
        problem : Problem
            The training task.

        Returns
        -------
        Hashable or None
            Problems with equal groups, the same features and solvers of one class go to `solve_together`; None is for
            those that are solved alone.
        """
        return None

    @classmethod
    def solve_together(cls, tasks: Sequence[tuple[Solver, Problem]]) -> list[Solution]:
        """Train several tasks of a group, which share their features.

        Parameters
        ----------
        tasks : sequence of tuple of Solver and Problem
            Solvers of this class, and what each is to solve.

        Returns
        -------
        list of Solution
            In the same order; each as `solve` would find it, up to rounding.
        """
        return [solver.solve(problem) for solver, problem in tasks]


def solve_tasks(tasks: Sequence[tuple[Solver, Problem]]) -> list[Solution]:
    """Solve tasks, those that can share products together.

    Parameters
    ----------
    tasks : sequence of tuple of Solver and Problem
        What is to be solved, and by what.

    Returns
    -------
    list of Solution
        In the same order.
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
