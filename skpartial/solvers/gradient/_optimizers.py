"""Optimisers of everything learned by gradients: parameters, and the states of losses and regularisers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from skpartial._state import State, StateTensor
from skpartial._warnings import warn_slower
from skpartial.heads import ParameterGroup
from skpartial.heads._module import HeadModule
from skpartial.solvers.gradient._plan import Plan
from skpartial.solvers.gradient._row_steps import RowAdam, RowSGD, RowSteps
from skpartial.training._problem import Problem

__all__ = ["make_optimizer", "make_row_steps", "square_penalty"]

# Learning rates of log odds refer to a classifier of this many features of unit size.
_REFERENCE_FEATURES = 100


def square_penalty(problem: Problem, head: HeadModule) -> float:
    """Twice the factor of squared weights, for alpha / (2 L) ||W||^2 in the units of the features as passed."""
    return problem.alpha / problem.labels.n_labels * head.penalty_scale


def make_optimizer(
    problem: Problem, plan: Plan, module: nn.Module, head: HeadModule, states: dict[str, State]
) -> torch.optim.Optimizer:
    """Optimiser of the head, the network before it, and learned tensors of loss and regulariser not tied to rows."""
    rate = plan.learning_rate * plan.head_rate
    penalty = square_penalty(problem, head)
    groups: list[dict[str, Any]] = [
        {"params": list(group.parameters), "weight_decay": penalty * group.penalty, "lr": rate * group.learning_rate}
        for group in _head_groups(problem, head)
    ]
    if module is not head:
        own = {id(p) for p in head.parameters()}
        body = [p for p in module.parameters() if id(p) not in own and p.requires_grad]
        groups.append({"params": [p for p in body if p.ndim > 1], "weight_decay": plan.weight_decay})
        groups.append({"params": [p for p in body if p.ndim <= 1]})
    for name, key, spec in _learned(problem, states):
        if not spec.per_row:
            groups.append({"params": [states[name][key]], "lr": _rate_of_state(problem, plan, spec)})
    groups = [group for group in groups if group["params"]]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum)
    kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
    fused = problem.device.type in ("cpu", "cuda")
    try:
        return kind(groups, lr=plan.learning_rate, weight_decay=0.0, fused=fused)
    except RuntimeError as error:
        optimizer = kind(groups, lr=plan.learning_rate, weight_decay=0.0)
        warn_slower(f"{kind.__name__}(fused=True)", error)
        return optimizer


def _head_groups(problem: Problem, head: HeadModule) -> list[ParameterGroup]:
    """Parameter groups of the head, intercepts apart; refuses groups that do not hold each trainable parameter once."""
    groups = problem.head.parameter_groups(head.inner)
    named = sorted(id(p) for group in groups for p in group.parameters)
    if named != sorted(id(p) for p in head.parameters() if p.requires_grad):
        raise ValueError(
            f"{type(problem.head).__name__}.parameter_groups must hold each trainable parameter exactly once: set "
            "requires_grad=False for parameters that are not trained."
        )
    if not head.centers:
        return groups
    # Nothing but its intercept moves all logits of a label if features are centred. A step of all weights moves a logit
    # by about the root of their number times as much as that of one weight.
    factor = 1.0 if head.units.center is None else problem.features.n_features**0.5
    own = {id(p) for p in head.intercepts}
    found: list[ParameterGroup] = []
    for group in groups:
        for are_intercepts, multiple in ((False, 1.0), (True, factor)):
            some = [p for p in group.parameters if (id(p) in own) == are_intercepts]
            if some:
                found.append(group._replace(parameters=some, learning_rate=multiple * group.learning_rate))
    return found


def _learned(problem: Problem, states: dict[str, State]) -> Iterator[tuple[str, str, StateTensor]]:
    """Tensors learned by gradients besides the head and the network: owner, name, and description."""
    for name in states:
        for key, spec in problem.parts[name].state_spec().items():
            if spec.learned:
                yield name, key, spec


def _rate_of_state(problem: Problem, plan: Plan, spec: StateTensor) -> float:
    """Learning rate of a learned tensor of a loss or a regulariser."""
    rate = plan.learning_rate * plan.head_rate * spec.learning_rate_multiplier
    if spec.logits and (plan.rescale or problem.network is not None):
        # A step moves a logit of d features of unit size by up to d times the rate; log odds should keep pace.
        rate *= max(problem.features.n_features, 30) / _REFERENCE_FEATURES
    return rate


def make_row_steps(problem: Problem, plan: Plan, states: dict[str, State]) -> dict[tuple[str, str], RowSteps]:
    """Optimisers of the learned tensors that belong to rows."""
    steps: dict[tuple[str, str], RowSteps] = {}
    for name, key, spec in _learned(problem, states):
        if spec.per_row:
            rate, tensor = _rate_of_state(problem, plan, spec), states[name][key]
            if plan.optimizer == "sgd":
                steps[name, key] = RowSGD(tensor, rate, spec.project, momentum=plan.momentum)
            else:
                steps[name, key] = RowAdam(tensor, rate, spec.project)
    return steps
