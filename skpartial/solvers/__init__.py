"""Solvers: algorithms that train parameters."""

from skpartial.solvers._base import Solver
from skpartial.solvers._full_batch import FullBatch
from skpartial.solvers._minibatch import Minibatch

__all__ = ["FullBatch", "Minibatch", "Solver", "get"]


def get(solver: str | Solver) -> Solver:
    """The solver with a given short name and default parameters.

    Parameters
    ----------
    solver : str or Solver
        "full_batch" or "minibatch". A solver is returned unchanged. (Estimators also accept "auto", which is not a
        solver but leaves the choice to the estimator.)

    Returns
    -------
    Solver
        A new object for each call with a name.

    Raises
    ------
    ValueError
        If there is no solver of this name.

    Examples
    --------
    >>> from skpartial import solvers
    >>> solvers.get("minibatch")
    Minibatch()
    """
    if isinstance(solver, Solver):
        return solver
    if isinstance(solver, str) and solver in ("full_batch", "minibatch"):
        return FullBatch() if solver == "full_batch" else Minibatch()
    raise ValueError(f"solver must be 'auto', 'full_batch', 'minibatch', a FullBatch or a Minibatch, got {solver!r}.")
