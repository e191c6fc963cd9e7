"""What a solver is: how parameters move."""

from __future__ import annotations

from abc import ABC, abstractmethod

from sklearn.base import BaseEstimator

from skpartial.solvers._problem import Problem, Solution

__all__ = ["Solver"]


class Solver(BaseEstimator, ABC):
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
            Naming what the solver lacks and which one to use.
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
