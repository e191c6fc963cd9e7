"""Gradient steps on minibatches: what the minibatch solver does in one pass, for any loss, head and regulariser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skpartial.heads._linear import LinearModule
from skpartial.labels import LabelMatrix
from skpartial.losses import AssumeNegative, IgnoreUnknown, PointwiseLoss, StateTensor
from skpartial.losses._base import State
from skpartial.regularizers import BatchContext
from skpartial.solvers._features import Features, unit_scale
from skpartial.solvers._loop import Learner, Report
from skpartial.solvers._problem import LabelSource, Problem, predict_logits, start_state
from skpartial.solvers._row_steps import RowAdam, RowSGD, RowSteps
from skpartial.solvers._targets import FoldedTargets, prior_intercepts, target_masses, total_weight

__all__ = ["GradientSteps", "Plan"]

# A learning rate of log odds is stated as for a classifier of this many features of unit size.
_REFERENCE_FEATURES = 100


@dataclass(frozen=True)
class Plan:
    """Numbers that training runs by.

    Parameters
    ----------
    optimizer : {"adam", "sgd"}
        Which optimiser.
    learning_rate, momentum : float
        Its step size, and the momentum of "sgd".
    max_epochs, batch_size : int
        How long and in what portions.
    shuffle : bool
        Whether each epoch draws a new order.
    patience : int or None
        Epochs without progress before stopping.
    tol : float
        Relative progress of the training loss that counts.
    """

    optimizer: str
    learning_rate: float
    momentum: float
    max_epochs: int
    batch_size: int
    shuffle: bool
    patience: int | None
    tol: float


class _Labels:
    """The labels of the running epoch, and which of them can be fitted."""

    def __init__(self, problem: Problem, labels: LabelMatrix, state: State | None) -> None:
        self.matrix = labels
        self.source = LabelSource(labels, problem.device)
        self.unfitted = torch.zeros(labels.n_labels, dtype=torch.bool, device=problem.device)
        self.prior: Tensor | None = None
        loss = problem.loss
        self.mean_weight = total_weight(problem.weights, self.source) / (labels.n_rows * labels.n_labels)
        rule: PointwiseLoss | None = None
        if isinstance(loss, PointwiseLoss) and not loss.traits().iterative:
            rule = loss
        elif isinstance(loss, PointwiseLoss):
            # A rule that looks at the logits starts from its reading of unknown entries.
            rule = {"ignored": IgnoreUnknown(), "absent": AssumeNegative()}.get(loss.traits().unknown)
        if rule is not None:
            targets = FoldedTargets(problem, rule, self.source, state=state, epoch=problem.first_epoch)
            self.unfitted, self.prior = prior_intercepts(*target_masses(targets))


def _linear(module: nn.Module) -> LinearModule | None:
    return module if isinstance(module, LinearModule) else None


def _build(problem: Problem, plan: Plan, prior: Tensor | None) -> nn.Module:
    """The head, newly initialised from the seed or from where the problem starts."""
    module = problem.head.build(problem.features.n_features, problem.labels.n_labels)
    module = module.to(device=problem.device, dtype=problem.dtype)
    linear = _linear(module)
    with torch.no_grad():
        if linear is not None:
            saved = (problem.optimizer_state or {}).get("input_scale")
            linear.input_scale = saved or unit_scale(problem.features, problem.weights.of_rows)
        if problem.start is not None:
            module.load_state_dict({name: torch.as_tensor(value) for name, value in problem.start.items()})
            if linear is not None:
                linear.weight.div_(linear.input_scale)
        elif linear is not None and prior is not None:
            linear.bias.copy_(prior)
    return module


def _optimizer(problem: Problem, plan: Plan, module: nn.Module, state: State | None) -> torch.optim.Optimizer:
    """One parameter group for penalised weights, one for the rest, and one for each tensor learned for all rows."""
    linear = _linear(module)
    scale = 1.0 if linear is None else linear.input_scale
    weights = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        # alpha / (2 L) ||W||^2 in the units of the features as passed.
        {"params": weights, "weight_decay": problem.alpha / problem.labels.n_labels * scale**2},
        {"params": others},
    ]
    for name, spec in problem.loss.state_spec().items():
        if spec.learned and not spec.per_row and state is not None:
            groups.append({"params": [state[name].requires_grad_()], "lr": _rate_of_state(problem, plan, module, spec)})
    if plan.optimizer == "adam":
        return torch.optim.Adam(groups, lr=plan.learning_rate, fused=problem.device.type in ("cpu", "cuda"))
    return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum)


def _rate_of_state(problem: Problem, plan: Plan, module: nn.Module, spec: StateTensor) -> float:
    """Learning rate of what a loss learns."""
    rate = plan.learning_rate * spec.learning_rate_multiplier
    if spec.logits and _linear(module) is not None:
        # A step moves a logit of d features of unit size by up to d times the rate, so that log odds keep pace.
        rate *= max(problem.features.n_features, 30) / _REFERENCE_FEATURES
    return rate


def _row_steps(problem: Problem, plan: Plan, module: nn.Module, state: State | None) -> dict[str, RowSteps]:
    """Optimisers of the learned tensors that belong to rows."""
    steps: dict[str, RowSteps] = {}
    for name, spec in problem.loss.state_spec().items():
        if spec.learned and spec.per_row and state is not None:
            rate = _rate_of_state(problem, plan, module, spec)
            if plan.optimizer == "adam":
                steps[name] = RowAdam(state[name], rate, spec.project)
            else:
                steps[name] = RowSGD(state[name], rate, spec.project, momentum=plan.momentum)
    return steps


class GradientSteps(Learner):
    """A head, and what the loss learns, which a pass moves by a step for every batch.

    Parameters
    ----------
    problem : Problem
        The training task.
    plan : Plan
        Numbers to run by.
    """

    def __init__(self, problem: Problem, plan: Plan) -> None:
        super().__init__(problem, start_state(problem))
        self.plan = plan
        self.take(problem.labels)
        self.module = _build(problem, plan, self._labels.prior)
        self.module.train()
        self.optimizer = _optimizer(problem, plan, self.module, self.state)
        self._row_steps = _row_steps(problem, plan, self.module, self.state)
        if problem.optimizer_state is not None:
            self.optimizer.load_state_dict(problem.optimizer_state["optimizer"])
        self._generator = torch.Generator().manual_seed(problem.seed)
        # Tensors of the state that a step of the optimiser moves as a whole.
        self._projections = [
            (name, spec.project)
            for name, spec in problem.loss.state_spec().items()
            if spec.project is not None and name not in self._row_steps
        ]

    def take(self, labels: LabelMatrix) -> None:
        """Train on other labels from here on."""
        self._labels = _Labels(self.problem, labels, self.state)
        self.unfitted = self._labels.unfitted

    def run(self, epoch: int, report: Report) -> dict[str, Any]:
        """Make a pass over the training set; its loss is the mean of the batches', weighted by what they count for."""
        n_rows = self.problem.features.n_rows
        order = torch.randperm(n_rows, generator=self._generator) if self.plan.shuffle else torch.arange(n_rows)
        total = torch.zeros((), dtype=torch.float64, device=self.problem.device)
        for rows in order.split(self.plan.batch_size):
            total += self._step(rows, epoch) * len(rows)
        for steps in self._row_steps.values():
            steps.catch_up_all()
        value = float(total) / n_rows
        if not np.isfinite(value):
            raise ValueError(
                f"The training loss became {value} in epoch {epoch}: lower solver__learning_rate (now "
                f"{self.plan.learning_rate:g}), or look for extreme values in X."
            )
        return {"loss": value}

    def _step(self, rows: Tensor, epoch: int) -> Tensor:
        """Move everything by the gradient of a batch; returns the batch's loss."""
        problem, state = self.problem, self.state
        features = problem.features.batch(rows)
        index = rows.to(problem.device)
        block = self._labels.source.rows(index)
        weights = problem.weights.rows(index, block)
        logits = self.module(features)
        # A loss is a mean over its batch: times the batch's share of the weight, the batches add up to the whole.
        share = 1.0 if weights is None else weights.mean() / self._labels.mean_weight
        for steps in self._row_steps.values():
            steps.catch_up(index)
        step = problem.loss.value_and_gradient(logits.detach(), block, state, rows=index, epoch=epoch, weights=weights)
        value = step.value * share
        if problem.regularizer is None:
            logits.backward(step.gradient * share)
        else:
            term = problem.regularizer(BatchContext(features, logits, block, index, self.module, epoch))
            ((logits * (step.gradient * share)).sum() + term).backward()
            value = value + term.detach()
        for name, gradient in step.state.items():
            if name in self._row_steps:
                self._row_steps[name].update(index, gradient * share)
            else:
                assert state is not None
                state[name].grad = (gradient * share).to(state[name].dtype)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if state is not None and self._projections:
            with torch.no_grad():
                for name, project in self._projections:
                    state[name].copy_(project(state[name]))
        return value

    def logits(self, features: Features, rows: Tensor | None = None) -> Tensor:
        """Logits of all rows of some features, or of those asked for, shape (b, L)."""
        return predict_logits(self.module, features, rows)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters, as they are."""
        return self.module.state_dict()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Go back to parameters that `tensors` gave."""
        self.module.load_state_dict(tensors)

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Parameters and buffers as arrays of their own, in the units of the features as passed."""
        arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.module.state_dict().items()}
        linear = _linear(self.module)
        if linear is not None:
            arrays["weight"] *= arrays["weight"].dtype.type(linear.input_scale)
        return arrays

    def finish(self) -> None:
        """Give labels that cannot be fitted their prior, unless other rows may still tell of them."""
        linear, prior = _linear(self.module), self._labels.prior
        if linear is not None and prior is not None and not self.problem.incremental:
            with torch.no_grad():
                linear.weight[self.unfitted] = 0
                linear.bias[self.unfitted] = prior[self.unfitted].to(linear.bias.dtype)

    def optimizer_state(self) -> dict[str, Any]:
        """What a later pass over other rows goes on from."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "input_scale": getattr(self.module, "input_scale", None),
        }
