"""Gradient steps on minibatches: what the minibatch solver does in one pass, for any loss, head and regulariser."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skpartial._warnings import warn
from skpartial.features._base import Features
from skpartial.features._moments import unit_scale
from skpartial.heads._linear import LinearModule
from skpartial.labels import LabelMatrix
from skpartial.losses import StateTensor, Step
from skpartial.losses._base import State
from skpartial.regularizers import BatchContext
from skpartial.solvers.gradient._row_steps import RowAdam, RowSGD, RowSteps
from skpartial.training._loop import Learner, Report
from skpartial.training._problem import LabelSource, Problem, predict_logits, start_state
from skpartial.training._targets import FoldedTargets, prior_intercepts, starting_rule, target_masses, total_weight

__all__ = ["GradientSteps", "Plan"]

# A learning rate of log odds is stated as for a classifier of this many features of unit size.
_REFERENCE_FEATURES = 100


@dataclass(frozen=True)
class Plan:
    """Numbers that training runs by.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd"}
        Which optimiser.
    learning_rate, momentum : float
        Its step size, and the momentum of "sgd".
    head_rate : float
        Step size of the head, as a multiple of the network's.
    weight_decay : float
        L2 penalty of the network's weights.
    schedule : {"constant", "cosine"}
        How step sizes change over the epochs.
    warm_up : float
        Share of all steps in which they rise from zero.
    clip_norm : float or None
        Length that the gradient of all parameters is cut to.
    accumulate : int
        Portions that a batch passes through the network in.
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
    head_rate: float
    weight_decay: float
    schedule: str
    warm_up: float
    clip_norm: float | None
    accumulate: int
    max_epochs: int
    batch_size: int
    shuffle: bool
    patience: int | None
    tol: float

    @property
    def steady(self) -> bool:
        """Whether all steps have the same size."""
        return self.schedule == "constant" and self.warm_up == 0


class _Labels:
    """The labels of the running epoch, and which of them can be fitted."""

    def __init__(self, problem: Problem, labels: LabelMatrix, state: State | None) -> None:
        self.matrix = labels
        self.source = LabelSource(labels, problem.device)
        self.unfitted = torch.zeros(labels.n_labels, dtype=torch.bool, device=problem.device)
        self.prior: Tensor | None = None
        self.mean_weight = total_weight(problem.weights, self.source) / (labels.n_rows * labels.n_labels)
        rule = starting_rule(problem.loss)
        if rule is None:
            # Of what nothing is known nothing is learned, whatever a loss makes of unknown entries.
            known = torch.as_tensor(np.asarray(labels.count(axis=0)), device=problem.device)
            self.unfitted = known == 0
            assumed = labels.n_rows if problem.loss.traits().unknown == "absent" else 0
            self.prior = torch.where(self.unfitted, -math.log(2 * assumed + 1), 0.0)
        else:
            targets = FoldedTargets(problem, rule, self.source, state=state, epoch=problem.first_epoch)
            self.unfitted, self.prior = prior_intercepts(*target_masses(targets))


def _linear(head: nn.Module) -> LinearModule | None:
    return head if isinstance(head, LinearModule) else None


def _build(problem: Problem, prior: Tensor | None, input_scale: float | None) -> tuple[nn.Module, nn.Module]:
    """What is trained and the head in it, newly initialised from the seed or from where the problem starts."""
    head = problem.head.build(problem.features.n_features, problem.labels.n_labels)
    module = head if problem.network is None else problem.network(head)
    module.to(device=problem.device, dtype=problem.dtype)
    linear = _linear(head)
    with torch.no_grad():
        if linear is not None and problem.network is None:
            saved = (problem.optimizer_state or {}).get("input_scale") or input_scale
            linear.input_scale = saved or unit_scale(problem.features, problem.weights.of_rows)
        if problem.start is not None:
            start = {name: torch.as_tensor(value) for name, value in problem.start.items()}
            # A network may start from a head alone.
            module.load_state_dict(start, strict=problem.network is None)
            if linear is not None:
                linear.weight.div_(linear.input_scale)
        elif linear is not None and prior is not None:
            linear.bias.copy_(prior)
    return module, head


def _optimizer(
    problem: Problem, plan: Plan, module: nn.Module, head: nn.Module, state: State | None
) -> torch.optim.Optimizer:
    """Parameter groups of the head's penalised weights, of its others, of the network, and of what the loss learns."""
    linear = _linear(head)
    scale = 1.0 if linear is None else linear.input_scale
    rate = plan.learning_rate * plan.head_rate
    groups: list[dict[str, Any]] = [
        # alpha / (2 L) ||W||^2 in the units of the features as passed.
        {
            "params": [p for p in head.parameters() if p.ndim > 1],
            "weight_decay": problem.alpha / problem.labels.n_labels * scale**2,
            "lr": rate,
        },
        {"params": [p for p in head.parameters() if p.ndim <= 1], "lr": rate},
    ]
    if module is not head:
        own = {id(p) for p in head.parameters()}
        body = [p for p in module.parameters() if id(p) not in own and p.requires_grad]
        groups.append({"params": [p for p in body if p.ndim > 1], "weight_decay": plan.weight_decay})
        groups.append({"params": [p for p in body if p.ndim <= 1]})
    for name, spec in problem.loss.state_spec().items():
        if spec.learned and not spec.per_row and state is not None:
            groups.append({"params": [state[name].requires_grad_()], "lr": _rate_of_state(problem, plan, head, spec)})
    groups = [group for group in groups if group["params"]]
    if plan.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=plan.learning_rate, momentum=plan.momentum)
    kind = torch.optim.AdamW if plan.optimizer == "adamw" else torch.optim.Adam
    fused = problem.device.type in ("cpu", "cuda")
    return kind(groups, lr=plan.learning_rate, weight_decay=0.0, fused=fused)


def _rate_of_state(problem: Problem, plan: Plan, head: nn.Module, spec: StateTensor) -> float:
    """Learning rate of what a loss learns."""
    rate = plan.learning_rate * plan.head_rate * spec.learning_rate_multiplier
    if spec.logits and _linear(head) is not None:
        # A step moves a logit of d features of unit size by up to d times the rate, so that log odds keep pace.
        rate *= max(problem.features.n_features, 30) / _REFERENCE_FEATURES
    return rate


def _row_steps(problem: Problem, plan: Plan, head: nn.Module, state: State | None) -> dict[str, RowSteps]:
    """Optimisers of the learned tensors that belong to rows."""
    steps: dict[str, RowSteps] = {}
    for name, spec in problem.loss.state_spec().items():
        if spec.learned and spec.per_row and state is not None:
            rate = _rate_of_state(problem, plan, head, spec)
            if plan.optimizer == "sgd":
                steps[name] = RowSGD(state[name], rate, spec.project, momentum=plan.momentum)
            else:
                steps[name] = RowAdam(state[name], rate, spec.project)
    return steps


class _Randomness:
    """PyTorch's own generators, to draw the same numbers again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def state(self) -> dict[str, Tensor]:
        found = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            found["cuda"] = torch.cuda.get_rng_state(self.device)
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)


class GradientSteps(Learner):
    """A head, and what the loss learns, which a pass moves by a step for every batch.

    Parameters
    ----------
    problem : Problem
        The training task.
    plan : Plan
        Numbers to run by.
    input_scale : float or None, default=None
        What a linear head multiplies features by, where that is known; None measures them.
    """

    def __init__(self, problem: Problem, plan: Plan, input_scale: float | None = None) -> None:
        super().__init__(problem, start_state(problem))
        self.plan = plan
        self.take(problem.labels)
        self.module, self.head = _build(problem, self._labels.prior, input_scale)
        self.module.train()
        self.optimizer = _optimizer(problem, plan, self.module, self.head, self.state)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._row_steps = _row_steps(problem, plan, self.head, self.state)
        if problem.optimizer_state is not None:
            self.optimizer.load_state_dict(problem.optimizer_state["optimizer"])
        self._generator = torch.Generator().manual_seed(problem.seed)
        self._randomness = _Randomness(problem.device)
        self._pieces, self._n_steps = plan.accumulate, 0
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
        total = self._pass(self.order(), epoch)
        for steps in self._row_steps.values():
            steps.catch_up_all()
        return {"loss": self.mean_loss(float(total), epoch)}

    def mean_loss(self, total: float, epoch: int) -> float:
        """The mean over rows of what a pass returned; refuses a loss that is no longer finite."""
        value = total / self.problem.features.n_rows
        if not np.isfinite(value):
            raise ValueError(
                f"The training loss became {value} in epoch {epoch}: lower solver__learning_rate (now "
                f"{self.plan.learning_rate:g}), or look for extreme values in X."
            )
        return value

    def order(self) -> Tensor:
        """The rows in the order of the next pass."""
        n_rows = self.problem.features.n_rows
        return torch.randperm(n_rows, generator=self._generator) if self.plan.shuffle else torch.arange(n_rows)

    def _pass(self, order: Tensor, epoch: int) -> Tensor:
        """Take a step for every batch of rows; returns the sum of the batches' losses, each times its rows."""
        batches = list(order.split(self.plan.batch_size))
        if len(batches) > 1 and len(batches[-1]) == 1 and self.problem.network is not None:
            # Batch norms have no variance of a single image.
            batches[-2:] = [torch.cat(batches[-2:])]
        total = torch.zeros((), dtype=torch.float64, device=self.problem.device)
        for rows, features in zip(batches, self.problem.features.batches(batches)):
            self.set_rates(len(batches))
            total += self._step(rows, features, epoch) * len(rows)
        return total

    def set_rates(self, n_batches: int) -> None:
        """Step sizes of the next step; those of rows, whose drift has a closed form, stay as they are."""
        progress, factor = self._n_steps / (n_batches * self.plan.max_epochs), 1.0
        self._n_steps += 1
        if self.plan.steady:
            return
        if progress < self.plan.warm_up:
            factor = (progress * self.plan.max_epochs + 1e-3) / (self.plan.warm_up * self.plan.max_epochs + 1e-3)
        elif self.plan.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * (progress - self.plan.warm_up) / (1 - self.plan.warm_up)))
        for group, rate in zip(self.optimizer.param_groups, self._rates):
            group["lr"] = factor * rate

    def _step(self, rows: Tensor, features: Tensor, epoch: int) -> Tensor:
        """Move everything by the gradient of a batch; returns the batch's loss."""
        problem, state = self.problem, self.state
        index = rows.to(problem.device)
        block = self._labels.source.rows(index)
        weights = problem.weights.rows(index, block)
        share = self._share(weights)
        for steps in self._row_steps.values():
            steps.catch_up(index)
        found: Step | None = None

        def step_of(logits: Tensor) -> Step:
            # Once for a batch, also if memory runs out later on: a loss may note in its state what it has seen.
            nonlocal found
            if found is None:
                found = problem.loss.value_and_gradient(
                    logits.detach(), block, state, rows=index, epoch=epoch, weights=weights
                )
            return found

        drawn = self._randomness.state() if problem.network is not None else None
        while True:
            try:
                if self._pieces == 1:
                    step, term = self._backward(features, block, index, epoch, share, step_of)
                else:
                    step, term = self._backward_in_pieces(features, share, step_of), 0.0
                break
            except torch.OutOfMemoryError:
                self._halve(len(rows))
                assert drawn is not None
                self._randomness.restore(drawn)
        self._take_state(step, index, share)
        self.move()
        self.optimizer.zero_grad()
        return step.value * share + term

    def _share(self, weights: Tensor | None) -> Tensor | float:
        """Of a batch in the weight: its loss, a mean, is multiplied by it, so that the batches add up to the whole."""
        return 1.0 if weights is None else weights.mean() / self._labels.mean_weight

    def _take_state(self, step: Step, index: Tensor, share: Tensor | float) -> None:
        """Move what the loss learned of the rows of a batch, and keep the other gradients of its state."""
        for name, gradient in step.state.items():
            if name in self._row_steps:
                self._row_steps[name].update(index, gradient * share)
            else:
                assert self.state is not None
                self.state[name].grad = (gradient * share).to(self.state[name].dtype)

    def move(self) -> None:
        """Move the parameters, and what the loss learns as a whole, by their gradients."""
        if self.plan.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.plan.clip_norm)
        self._move_by_gradients()
        if self.state is not None and self._projections:
            with torch.no_grad():
                for name, project in self._projections:
                    self.state[name].copy_(project(self.state[name]))

    def _move_by_gradients(self) -> None:
        self.optimizer.step()

    def _backward(
        self,
        features: Tensor,
        block: Tensor,
        index: Tensor,
        epoch: int,
        share: Tensor | float,
        step_of: Callable[[Tensor], Step],
    ) -> tuple[Step, Tensor | float]:
        """Gradients of a batch that passes through at once, and the value of the regulariser."""
        logits = self.module(features)
        step = step_of(logits)
        if self.problem.regularizer is None:
            logits.backward(step.gradient * share)
            return step, 0.0
        term = self.problem.regularizer(BatchContext(features, logits, block, index, self.module, epoch))
        ((logits * (step.gradient * share)).sum() + term).backward()
        return step, term.detach()

    def _backward_in_pieces(self, features: Tensor, share: Tensor | float, step_of: Callable[[Tensor], Step]) -> Step:
        """Gradients of a batch that passes through in pieces: once to know all logits, and once more for each piece.

        So the loss sees the whole batch, whose entries it may compare, and only batch norms see pieces.
        """
        if self.problem.regularizer is not None:
            raise ValueError(
                f"The regularizer {self.problem.regularizer!r} needs whole batches: use Minibatch(accumulate=1), and a "
                "smaller batch_size if memory runs out."
            )
        parts = features.tensor_split(min(self._pieces, len(features)))
        drawn = self._randomness.state()
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        with torch.no_grad():
            step = step_of(torch.cat([self.module(part) for part in parts]))
            for name, buffer in self.module.named_buffers():
                buffer.copy_(buffers[name])
        self._randomness.restore(drawn)
        gradients = (step.gradient * share).split([len(part) for part in parts])
        for part, gradient in zip(parts, gradients):
            self.module(part).backward(gradient)
        return step

    def _halve(self, n_rows: int) -> None:
        """Let batches pass through in twice as many pieces, or give up."""
        self.optimizer.zero_grad()
        if self.problem.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._pieces >= n_rows or self.problem.network is None:
            raise ValueError(
                f"Memory on {self.problem.device} ran out in a batch of {n_rows} rows: lower solver__batch_size"
                + ("." if self.problem.network is None else ", or the image_size of the backbone.")
            ) from None
        if self._pieces == self.plan.accumulate:
            warn(
                f"Memory on {self.problem.device} ran out in a batch of {n_rows} images: batches go through the "
                "network in smaller pieces from here on, with the same gradients. Set solver__accumulate to spare "
                "the attempt.",
            )
        self._pieces *= 2

    def state_dict(self) -> dict[str, Any]:
        """Everything that a pass depends on."""
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loss": None if self.state is None else {name: t.detach() for name, t in self.state.items()},
            "rows": {name: steps.state_dict() for name, steps in self._row_steps.items()},
            "generator": self._generator.get_state(),
            "random": self._randomness.state(),
            "pieces": self._pieces,
            "n_steps": self._n_steps,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.module.load_state_dict(saved["module"])
        with torch.no_grad():
            for name, tensor in (saved["loss"] or {}).items():
                assert self.state is not None
                self.state[name].copy_(tensor)
        self.optimizer.load_state_dict(saved["optimizer"])
        for name, steps in saved["rows"].items():
            self._row_steps[name].load_state_dict(steps)
        self._generator.set_state(saved["generator"])
        self._randomness.restore(saved["random"])
        self._pieces, self._n_steps = saved["pieces"], saved["n_steps"]

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
        linear = _linear(self.head)
        if linear is not None and self.module is self.head:
            arrays["weight"] *= arrays["weight"].dtype.type(linear.input_scale)
        return arrays

    def finish(self) -> None:
        """Give labels that cannot be fitted their prior, unless other rows may still tell of them."""
        linear, prior = _linear(self.head), self._labels.prior
        if linear is not None and prior is not None and not self.problem.incremental:
            with torch.no_grad():
                linear.weight[self.unfitted] = 0
                linear.bias[self.unfitted] = prior[self.unfitted].to(linear.bias.dtype)

    def optimizer_state(self) -> dict[str, Any]:
        """What a later pass over other rows goes on from."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "input_scale": getattr(self.head, "input_scale", None),
        }
