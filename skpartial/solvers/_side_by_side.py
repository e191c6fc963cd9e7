"""Candidates that are trained side by side: one pass over the training set moves the linear heads of all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from skpartial._fingerprint import identity
from skpartial.labels import LabelMatrix
from skpartial.solvers._features import Features, unit_scale
from skpartial.solvers._gradient_steps import Plan
from skpartial.solvers._linear_steps import LinearPass, LinearSteps, has_fixed_targets, is_linear
from skpartial.solvers._loop import Learner, Report, train
from skpartial.solvers._problem import Problem, Solution, predict_logits

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
        problem.previous_state,
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
        (plan.max_epochs, plan.batch_size, plan.shuffle),
        (problem.seed, problem.first_epoch, problem.incremental),
    )


class _SideBySide(Learner):
    """Linear heads on the same batches as one learner, whose loss is the mean of theirs.

    Parameters
    ----------
    learners : sequence of LinearSteps
        One for every candidate.
    """

    def __init__(self, learners: Sequence[LinearSteps]) -> None:
        super().__init__(learners[0].problem, None)
        self.learners = learners
        self.unfitted = torch.cat([learner.unfitted for learner in learners])
        self.histories: list[list[dict[str, Any]]] = [[] for _ in learners]
        self.stopped = [False] * len(learners)
        self._pass = LinearPass(learners)
        self._losses: list[float] = []

    def take(self, labels: LabelMatrix) -> None:
        """Train on other labels from here on."""
        for learner in self.learners:
            learner.take(labels)

    def run(self, epoch: int, report: Report) -> dict[str, Any]:
        """Make a pass; a candidate that was stopped no longer moves."""
        moving = [not stopped for stopped in self.stopped]
        totals = self._pass.run(self.learners[0].order(), epoch, moving).tolist()
        self._losses = [
            learner.mean_loss(total, epoch) if moves else float("nan")
            for learner, total, moves in zip(self.learners, totals, moving)
        ]
        going = [loss for loss, moves in zip(self._losses, moving) if moves]
        return {"loss": sum(going) / len(going)}

    def tell(self, record: dict[str, Any], parameters: Callable[[], dict[str, Any]]) -> bool:
        """Tell the monitor of every candidate about an epoch; True when all have asked to stop."""
        for k, learner in enumerate(self.learners):
            if not self.stopped[k]:
                self.histories[k].append({**record, "loss": self._losses[k]})
                self.stopped[k] = bool(learner.problem.monitor(self.histories[k][-1], learner.parameters))
        return all(self.stopped)

    def logits(self, features: Features, rows: Tensor | None = None) -> Tensor:
        """Logits of all candidates side by side, shape (b, K L)."""
        return torch.cat([learner.logits(features, rows) for learner in self.learners], dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters of all candidates, by their number and name."""
        return {f"{k}.{name}": tensor for k, own in enumerate(self.learners) for name, tensor in own.tensors().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to parameters that `tensors` gave."""
        for k, learner in enumerate(self.learners):
            learner.load({name: tensors[f"{k}.{name}"] for name in learner.tensors()})

    def parameters(self) -> dict[str, NDArray[Any]]:
        """The parameters of all candidates as arrays, by their number and name."""
        return {f"{k}.{name}": array for k, own in enumerate(self.learners) for name, array in own.parameters().items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a pass depends on."""
        return {"candidates": [learner.state_dict() for learner in self.learners], "stopped": list(self.stopped)}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.stopped = list(saved["stopped"])
        for learner, own in zip(self.learners, saved["candidates"]):
            learner.load_state_dict(own)

    def finish(self) -> None:
        """Settle the parameters when training has ended."""
        for learner in self.learners:
            learner.finish()


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
    together = _SideBySide(learners)
    train(replace(learners[0].problem, monitor=together.tell), together, learners[0].plan.max_epochs)
    solutions = []
    for learner, history, stopped in zip(learners, together.histories, together.stopped):
        for parameter in learner.head.parameters():
            parameter.grad = None
        solution = Solution(
            parameters=learner.parameters(),
            state=None,
            labels=learner.problem.labels,
            history=history,
            n_iter=len(history),
            stopped=stopped,
            unfitted=learner.unfitted.cpu().numpy(),
            logits=partial(predict_logits, learner.head, learner.problem.features),
        )
        solutions.append(solution)
    return solutions
