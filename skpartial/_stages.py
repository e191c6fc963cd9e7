"""Stages of a fit: features need one; a network may first train its head alone, and then everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from skpartial._task import Rows, make_problem, resolve_solver
from skpartial.solvers import Solver
from skpartial.training._checkpoints import CheckpointFolder
from skpartial.training._problem import Monitor, Problem, Solution

if TYPE_CHECKING:
    from skpartial.images._task import ImageTask

__all__ = ["Stage", "make_stages", "solve_stages", "state_arrays"]


@dataclass
class Stage:
    """A problem and what solves it.

    Parameters
    ----------
    name : str
        "head" or "all".
    problem : Problem
        The training task.
    solver : Solver
        What solves it.
    """

    name: str
    problem: Problem
    solver: Solver


def make_stages(
    estimator: Any,
    rows: Rows,
    *,
    seed: int,
    held_out: tuple[Any, Callable[[NDArray[Any]], float]] | None = None,
    images: ImageTask | None = None,
) -> list[Stage]:
    """The stages of a fit.

    Parameters
    ----------
    estimator : BasePartialLabelClassifier
        Gives the hyperparameters.
    rows : Rows
        To train on; their X may be features as they are held already.
    seed : int
        Of all random numbers.
    held_out : tuple of X and callable, or None, default=None
        Rows for validation, and how their logits are scored.
    images : ImageTask or None, default=None
        The network, where X holds images.

    Returns
    -------
    list of Stage
        One, or for ``finetune="linear_init"`` two.
    """

    def stage(name: str, X: Any, held: Any, solver: Any, images: ImageTask | None = None) -> Stage:
        held_out_of_stage = None if held_out is None else (held, held_out[1])
        problem = make_problem(
            estimator, X, rows.target, rows.weights, seed=seed, held_out=held_out_of_stage, images=images
        )
        return Stage(name, problem, resolve_solver(solver, problem))

    held = None if held_out is None else held_out[0]
    if images is None:
        return [stage("head", rows.X, held, estimator.solver)]
    finetune = images.backbone.finetune
    batches = images.batches(rows.X, keep=True)
    held_batches = None if held is None else images.batches(held, keep=True)
    found = []
    if finetune != "all":
        features = images.features(batches)
        held_features = None if held_batches is None else images.features(held_batches)
        found.append(stage("head", features, held_features, estimator.solver if finetune == "head" else "auto"))
    if finetune != "head":
        found.append(stage("all", batches, held_batches, estimator.solver, images))
    return found


def solve_stages(stages: list[Stage], monitor: Monitor, folder: CheckpointFolder | None = None) -> Solution:
    """Solve stages one after the other, each from the best head and the best label estimates of the one before.

    Parameters
    ----------
    stages : list of Stage
        At least one.
    monitor : Monitor
        Told of every epoch or step.
    folder : CheckpointFolder or None, default=None
        Where the state is saved after every epoch.

    Returns
    -------
    Solution
        Of the last stage, with the history of all.
    """
    history: list[dict[str, Any]] = []
    solution: Solution | None = None
    for stage in stages:
        stage.problem.monitor = monitor
        stage.problem.checkpoint = None if folder is None else folder.stage(stage.name)
        if solution is not None:
            stage.problem.start = {f"head.{name}": value for name, value in solution.parameters.items()}
            stage.problem.previous_state = solution.state
        solution = stage.solver.solve(stage.problem)
        history += [{"stage": stage.name, **record} if len(stages) > 1 else record for record in solution.history]
    assert solution is not None
    solution.history, solution.n_iter = history, len(history)
    return solution


def state_arrays(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Parameters and buffers of a module as arrays."""
    return {name: np.asarray(tensor.detach().cpu().numpy()) for name, tensor in module.state_dict().items()}
