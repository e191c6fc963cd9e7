"""The one training loop: every loss, head, regulariser and relabelling is trained here by minibatches."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from skpartial.heads._linear import LinearModule
from skpartial.labels import LabelMatrix
from skpartial.losses import AssumeNegative, IgnoreUnknown, PointwiseLoss, StateTensor
from skpartial.losses._base import State
from skpartial.regularizers import BatchContext
from skpartial.relabeling import RelabelingContext, apply_relabeling
from skpartial.solvers._features import unit_scale
from skpartial.solvers._problem import LabelSource, Problem, Solution, predict_logits, start_state
from skpartial.solvers._row_steps import RowAdam, RowSGD, RowSteps
from skpartial.solvers._targets import FoldedTargets, prior_intercepts, target_masses, total_weight

__all__ = ["Plan", "train"]

# A learning rate of log odds is stated as for a classifier of this many features of unit size.
_REFERENCE_FEATURES = 100


@dataclass(frozen=True)
class Plan:
    """Numbers that the loop runs by.

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
    rescale : bool
        Whether a linear head sees features rescaled to a root mean square of 1.
    """

    optimizer: str
    learning_rate: float
    momentum: float
    max_epochs: int
    batch_size: int
    shuffle: bool
    patience: int | None
    tol: float
    rescale: bool


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


class _Best:
    """The best epoch so far, and how long ago it was."""

    def __init__(self) -> None:
        self.score = -float("inf")
        self.epoch: int | None = None
        self.waited = 0
        self.parameters: dict[str, Tensor] = {}
        self.state: State | None = None

    def update(self, score: float, epoch: int, margin: float) -> bool:
        if score > self.score + margin:
            self.score, self.epoch, self.waited = score, epoch, 0
            return True
        self.waited += 1
        return False


def _linear(module: nn.Module) -> LinearModule | None:
    return module if isinstance(module, LinearModule) else None


def _build(problem: Problem, plan: Plan, prior: Tensor | None) -> nn.Module:
    """The head, newly initialised from the seed or from where the problem starts."""
    module = problem.head.build(problem.features.n_features, problem.labels.n_labels)
    module = module.to(device=problem.device, dtype=problem.dtype)
    linear = _linear(module)
    with torch.no_grad():
        if linear is not None and plan.rescale:
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
    if spec.logits and _linear(module) is not None and plan.rescale:
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


def _parameters(module: nn.Module) -> dict[str, NDArray[Any]]:
    """Parameters and buffers as arrays of their own, in the units of the features as passed."""
    arrays = {name: tensor.detach().cpu().numpy().copy() for name, tensor in module.state_dict().items()}
    linear = _linear(module)
    if linear is not None:
        arrays["weight"] *= arrays["weight"].dtype.type(linear.input_scale)
    return arrays


def _relabel(
    problem: Problem, module: nn.Module, labels: LabelMatrix, generator: torch.Generator, epoch: int
) -> LabelMatrix:
    assert problem.relabeling is not None
    context = RelabelingContext(
        epoch=epoch,
        given=problem.labels,
        current=labels,
        logits=lambda rows: predict_logits(module, problem.features, rows),
        features=problem.features.batch,
        generator=generator,
    )
    return apply_relabeling(problem.relabeling, context)


def _run_epoch(
    problem: Problem,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    row_steps: dict[str, RowSteps],
    labels: LabelSource,
    state: State | None,
    batches: tuple[Tensor, ...],
    epoch: int,
    mean_weight: float,
) -> float:
    """One pass over the training set; returns the mean of the batches' losses, weighted by what they count for."""
    loss, regularizer, device = problem.loss, problem.regularizer, problem.device
    projections = [
        (name, spec.project)
        for name, spec in loss.state_spec().items()
        if spec.project is not None and name not in row_steps
    ]
    total = torch.zeros((), dtype=torch.float64, device=device)
    for rows in batches:
        features = problem.features.batch(rows)
        index = rows.to(device)
        block = labels.rows(index)
        weights = problem.weights.rows(index, block)
        logits = module(features)
        # A loss is a mean over its batch: times the batch's share of the weight, the batches add up to the whole.
        share = 1.0 if weights is None else weights.mean() / mean_weight
        for steps in row_steps.values():
            steps.catch_up(index)
        step = loss.value_and_gradient(logits.detach(), block, state, rows=index, epoch=epoch, weights=weights)
        value = step.value * share
        if regularizer is None:
            logits.backward(step.gradient * share)
        else:
            term = regularizer(BatchContext(features, logits, block, index, module, epoch))
            ((logits * (step.gradient * share)).sum() + term).backward()
            value = value + term.detach()
        for name, gradient in step.state.items():
            if name in row_steps:
                row_steps[name].update(index, gradient * share)
            else:
                assert state is not None
                state[name].grad = (gradient * share).to(state[name].dtype)
        optimizer.step()
        optimizer.zero_grad()
        if state is not None and projections:
            with torch.no_grad():
                for name, project in projections:
                    state[name].copy_(project(state[name]))
        total += value * len(rows)
    for steps in row_steps.values():
        steps.catch_up_all()
    return float(total) / problem.features.n_rows


def train(problem: Problem, plan: Plan) -> Solution:
    """Train a head by minibatches.

    Parameters
    ----------
    problem : Problem
        The training task.
    plan : Plan
        Numbers to run by.

    Returns
    -------
    Solution
        Of the best epoch by validation score, else of the last.

    Raises
    ------
    ValueError
        If the loss stops being finite.
    """
    cuda = [problem.device] if problem.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # Heads may draw from PyTorch's own generator, as dropout does.
        torch.manual_seed(problem.seed)
        return _train(problem, plan)


def _train(problem: Problem, plan: Plan) -> Solution:
    generator = torch.Generator().manual_seed(problem.seed)
    state = start_state(problem)
    labels = _Labels(problem, problem.labels, state)
    module = _build(problem, plan, labels.prior)
    module.train()
    optimizer = _optimizer(problem, plan, module, state)
    row_steps = _row_steps(problem, plan, module, state)
    if problem.optimizer_state is not None:
        optimizer.load_state_dict(problem.optimizer_state["optimizer"])
    history: list[dict[str, Any]] = []
    best, progress = _Best(), _Best()
    start = time.perf_counter()
    stopped = False
    for epoch in range(problem.first_epoch, problem.first_epoch + plan.max_epochs):
        if problem.relabeling is not None and history:
            relabelled = _relabel(problem, module, labels.matrix, generator, epoch)
            if relabelled is not labels.matrix:
                labels = _Labels(problem, relabelled, state)
        n_rows = problem.features.n_rows
        order = torch.randperm(n_rows, generator=generator) if plan.shuffle else torch.arange(n_rows)
        batches = order.split(plan.batch_size)
        value = _run_epoch(
            problem, module, optimizer, row_steps, labels.source, state, batches, epoch, labels.mean_weight
        )
        if not np.isfinite(value):
            raise ValueError(
                f"The training loss became {value} in epoch {epoch}: lower solver__learning_rate (now "
                f"{plan.learning_rate:g}), or look for extreme values in X."
            )
        problem.loss.end_epoch(state, epoch)
        record: dict[str, Any] = {"epoch": epoch, "loss": value, "seconds": time.perf_counter() - start}
        progress.update(-value, epoch, plan.tol * abs(value))
        if problem.validation is not None:
            record["validation_score"] = score = problem.validation(module)
            if best.update(score, epoch, 0.0):
                best.parameters = {name: tensor.clone() for name, tensor in module.state_dict().items()}
                best.state = None if state is None else {n: t.detach().clone() for n, t in state.items()}
        history.append(record)
        stopped = problem.monitor(record, lambda: _parameters(module))
        waited = best.waited if problem.validation is not None else progress.waited
        if stopped or (plan.patience is not None and waited >= plan.patience):
            stopped = True
            break
    if plan.patience is not None and not stopped and problem.first_epoch == 1:
        warnings.warn(
            f"Training did not stop improving within max_epochs={plan.max_epochs}: raise solver__max_epochs.",
            ConvergenceWarning,
            stacklevel=6,
        )
    optimizer_state = {
        "optimizer": optimizer.state_dict(),
        "input_scale": getattr(module, "input_scale", None),
    }
    if best.epoch is not None:
        module.load_state_dict(best.parameters)
        state = best.state
    linear = _linear(module)
    if linear is not None and labels.prior is not None and not problem.incremental:
        with torch.no_grad():
            linear.weight[labels.unfitted] = 0
            linear.bias[labels.unfitted] = labels.prior[labels.unfitted].to(linear.bias.dtype)
    return Solution(
        parameters=_parameters(module),
        state=None if state is None else {name: tensor.detach() for name, tensor in state.items()},
        labels=labels.matrix,
        history=history,
        n_iter=len(history),
        best_epoch=best.epoch,
        unfitted=labels.unfitted.cpu().numpy(),
        optimizer_state=optimizer_state,
        logits=lambda rows: predict_logits(module, problem.features, rows),
    )
