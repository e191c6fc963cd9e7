"""Candidates that are trained side by side: one pass over the training set moves the linear heads of all of them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from skpartial._fingerprint import identity
from skpartial.features._moments import unit_scale
from skpartial.solvers.gradient._linear_pass import LinearPass, has_fixed_targets
from skpartial.solvers.gradient._linear_steps import LinearSteps, is_linear
from skpartial.solvers.gradient._plan import Plan
from skpartial.training._loop import Training, train_together
from skpartial.training._predict import HeadPredictor
from skpartial.training._problem import Problem, Solution

__all__ = ["batches_in_common", "train_side_by_side"]

# Bytes of what is kept of candidates that are trained at once.
_BYTES = 32 << 20


def batches_in_common(problem: Problem, plan: Plan) -> Hashable | None:
    """What problems of the same features must agree in to see the same batches; None where one is trained alone.

    Loss, penalty, optimiser and its rates may differ.
    """
    alone = (
        problem.relabeling,
        problem.validation,
        problem.checkpoint,
        problem.start,
        problem.previous_states or None,
        problem.data.targets,
        problem.data.weights,
        problem.optimizer_state,
        plan.patience,
    )
    if not is_linear(problem, plan) or any(part is not None for part in alone) or problem.loss.state_spec():
        return None
    weights = problem.weights
    return (
        identity(problem.labels.values),
        *(None if part is None else identity(part) for part in (weights.sample, weights.by_class)),
        has_fixed_targets(problem.loss),
        (plan.max_epochs, plan.batch_size, plan.shuffle, plan.rescale),
        (problem.seed, problem.first_epoch, problem.incremental),
    )


def train_side_by_side(problems: Sequence[Problem], plans: Sequence[Plan]) -> list[Solution]:
    """Train candidates that have their batches in common.

    Parameters
    ----------
    problems : sequence of Problem
        Of equal `batches_in_common` and the same features.
    plans : sequence of Plan
        Numbers to run each by.

    Returns
    -------
    list of Solution
        Each as it would be if trained alone, up to rounding, but without the optimiser's moments.
    """
    first = problems[0]
    scale = unit_scale(first.features, first.weights.of_rows)
    parameters = first.labels.n_labels * (first.features.n_features + 1)
    step = max(1, _BYTES // (4 * parameters * first.dtype.itemsize))
    solutions: list[Solution] = []
    for start in range(0, len(problems), step):
        part = slice(start, start + step)
        learners = [LinearSteps(problem, plan, scale) for problem, plan in zip(problems[part], plans[part])]
        solutions += _train_block(learners)
    return solutions


def _train_block(learners: Sequence[LinearSteps]) -> list[Solution]:
    together = LinearPass(learners)
    trainings = [Training(learner.problem, learner, learner.plan.max_epochs) for learner in learners]

    def run(going: Sequence[Training], epoch: int) -> list[dict[str, Any]]:
        # A candidate that was stopped no longer moves.
        chosen = [training in going for training in trainings]
        totals = together.run(learners[0].order(), epoch, chosen).tolist()
        told = zip(learners, totals, chosen)
        return [{"loss": learner.mean_loss(total, epoch)} for learner, total, moves in told if moves]

    solutions = train_together(trainings, run)
    for learner, solution in zip(learners, solutions):
        # Gradients of all candidates lie side by side, and would be kept by any of them.
        for parameter in learner.head.parameters():
            parameter.grad = None
        solution.predictor = HeadPredictor(learner.head, learner.problem.features)
    return solutions
