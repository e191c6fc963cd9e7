"""Training of candidates side by side: one pass over the training set trains the linear heads of all candidates."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from skpartial._fingerprint import identity
from skpartial.features._moments import centered_units
from skpartial.solvers.gradient._linear_pass import LinearPass, has_fixed_targets
from skpartial.solvers.gradient._linear_steps import LinearSteps, is_linear
from skpartial.solvers.gradient._plan import Plan
from skpartial.training._loop import Training, train_together
from skpartial.training._predict import HeadPredictor
from skpartial.training._problem import Problem, Solution

__all__ = ["batches_in_common", "train_side_by_side"]

# Maximal number of bytes kept for candidates that are trained at once.
_BYTES = 32 << 20


def batches_in_common(problem: Problem, plan: Plan) -> Hashable | None:
    """Key of problems on the same features that can share their batches; None if a problem is trained alone.

    Loss, penalty, optimiser and learning rates may differ.
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
    """Train candidates on the same batches.

    Parameters
    ----------
    problems : sequence of Problem
        Problems with equal `batches_in_common` and the same features.
    plans : sequence of Plan
        Settings of each problem.

    Returns
    -------
    list of Solution
        The same solutions as when trained alone, up to rounding, but without the optimiser's moments.
    """
    first = problems[0]
    units = centered_units(first.features, first.weights.of_rows)
    parameters = first.labels.n_labels * (first.features.n_features + 1)
    step = max(1, _BYTES // (4 * parameters * first.dtype.itemsize))
    solutions: list[Solution] = []
    for start in range(0, len(problems), step):
        part = slice(start, start + step)
        learners = [LinearSteps(problem, plan, units) for problem, plan in zip(problems[part], plans[part])]
        solutions += _train_block(learners)
    return solutions


def _train_block(learners: Sequence[LinearSteps]) -> list[Solution]:
    together = LinearPass(learners)
    trainings = [Training(learner.problem, learner, learner.plan.max_epochs) for learner in learners]

    def run(going: Sequence[Training], epoch: int) -> list[dict[str, Any]]:
        # Stopped candidates are no longer trained.
        chosen = [training in going for training in trainings]
        totals = together.run(learners[0].order(), epoch, chosen).tolist()
        told = zip(learners, totals, chosen)
        return [{"loss": learner.mean_loss(total, epoch)} for learner, total, moves in told if moves]

    solutions = train_together(trainings, run)
    for learner, solution in zip(learners, solutions):
        # Gradients of all candidates are in one tensor, which any candidate would keep alive.
        for parameter in learner.head.parameters():
            parameter.grad = None
        solution.predictor = HeadPredictor(learner.head, learner.problem.features)
    return solutions
