"""What a solver is: how parameters move."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from sklearn.base import BaseEstimator

from skpartial.solvers._problem import Problem, Solution

__all__ = ["Solver"]


class Solver(BaseEstimator, ABC):
    """Base class of solvers: value objects that turn a problem into a solution."""

    def _check_numbers(self, **lowest: float) -> None:
        """Refuse parameters below what is given here: whole numbers where that is an int, None where it is allowed."""
        for name, low in lowest.items():
            value = getattr(self, name, None)
            if value is None and type(self)().get_params().get(name) is None:
                continue
            whole = isinstance(low, int)
            kinds = (int, np.integer) if whole else (int, float, np.number)
            if not isinstance(value, kinds) or isinstance(value, bool) or not low <= value < float("inf"):
                kind = "a whole number" if whole else "a number"
                raise ValueError(f"{type(self).__name__}: {name} must be {kind} of at least {low:g}, got {value!r}.")

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
