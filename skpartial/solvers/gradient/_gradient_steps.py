"""Gradient steps on minibatches: a pass of the minibatch solver, for any loss, head and regulariser."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skpartial import _shards as shards
from skpartial._seeding import Randomness
from skpartial._state import State
from skpartial._warnings import warn
from skpartial.features._base import Features
from skpartial.features._maps import MapFeatures
from skpartial.features._moments import InputUnits, centered_units, unit_scale
from skpartial.heads import HeadContext
from skpartial.heads._module import HeadModule, build_head
from skpartial.labels._data import TrainingData
from skpartial.losses import PointwiseLoss, Step
from skpartial.regularizers import BatchContext
from skpartial.solvers.gradient._attempts import attempt
from skpartial.solvers.gradient._optimizers import make_optimizer, make_row_steps, square_penalty
from skpartial.solvers.gradient._plan import Plan
from skpartial.training._data import DataSource, LabeledRows, bootstrap_weights
from skpartial.training._loop import Learner, Report
from skpartial.training._predict import HeadPredictor
from skpartial.training._problem import Problem
from skpartial.training._targets import prior_intercepts, starting_sign_weights

__all__ = ["GradientSteps"]


class _Labels:
    """The training data of the current epoch, and the labels that can be fitted."""

    def __init__(self, problem: Problem, data: TrainingData, state: State | None) -> None:
        self.source = DataSource(data, problem.weights, problem.device, problem.dtype)
        self.mean_weight = self.source.total_weight() / (data.n_rows * data.n_labels)
        sign_weights = starting_sign_weights(problem, self.source, state, problem.first_epoch)
        if sign_weights is None:
            # A label without known entries is not fitted, however the loss treats unknown entries.
            known = torch.as_tensor(np.asarray(data.nearest_labels().count(axis=0)), device=problem.device)
            self.unfitted = known == 0
            assumed = data.n_rows if problem.loss.traits().unknown == "absent" else 0
            self.prior = torch.where(self.unfitted, -math.log(2 * assumed + 1), 0.0)
        else:
            surrogate = problem.loss.surrogate if isinstance(problem.loss, PointwiseLoss) else "logistic"
            self.unfitted, self.prior = prior_intercepts(*sign_weights, surrogate)


def _build(
    problem: Problem, plan: Plan, context: HeadContext, prior: Tensor, units: InputUnits | None
) -> tuple[nn.Module, HeadModule]:
    """The module to train and the head in it, initialised from the seed or from the start of the problem."""
    head = build_head(problem.head, context)
    module: nn.Module = head if problem.network is None else problem.network(head)
    module.to(dtype=problem.dtype)
    head.to(device=problem.device)
    if plan.rescale:
        head.set_units(units or _suitable_units(problem, head))
    if problem.start is None:
        head.set_prior(prior)
    elif problem.network is None:
        head.load_arrays(problem.start)
    else:
        # A network may start from parameters of the head only.
        start = {name: torch.as_tensor(np.asarray(value)) for name, value in problem.start.items()}
        module.load_state_dict(start, strict=False)
    if plan.shard_parameters and problem.network is not None and problem.processes.size > 1:
        module.body = shards.shard(module.body, problem.device)  # type: ignore[arg-type]
        module.channels_last = False  # type: ignore[assignment]
    return module.to(device=problem.device), head


def _suitable_units(problem: Problem, head: HeadModule) -> InputUnits:
    """Units in which features have a root mean square of 1, about their mean if the head allows that."""
    if problem.incremental and isinstance(problem.features, MapFeatures):
        # Of the first maps of a stream.
        saved = (problem.optimizer_state or {}).get("units")
        if saved:
            return InputUnits(*saved)
    elif problem.incremental and problem.spread is not None:
        return problem.spread.units(problem.dtype, centered=head.centers)
    if head.centers:
        return centered_units(problem.features, problem.weights.of_rows)
    return InputUnits(unit_scale(problem.features, problem.weights.of_rows))


def _pieces_of(features: Tensor, n_pieces: int) -> Sequence[Tensor]:
    """Parts of a batch, of about equal size."""
    if not features.is_sparse:
        return features.tensor_split(n_pieces)
    # PyTorch cannot slice sparse rows.
    rows = torch.arange(len(features), device=features.device).tensor_split(n_pieces)
    return [features.index_select(0, part).coalesce() for part in rows]


class GradientSteps(Learner):
    """A head and the learned state of the loss, trained by one step per batch.

    Parameters
    ----------
    problem : Problem
        The training task.
    plan : Plan
        Settings of the training.
    units : InputUnits or None, default=None
        Center and scale of the features at a linear head, if known; None measures the features.
    """

    def __init__(self, problem: Problem, plan: Plan, units: InputUnits | None = None) -> None:
        super().__init__(problem)
        self.plan = plan
        self.start("loss")
        self._labels = _Labels(problem, problem.data, self.state)
        self.head_context = problem.head_context
        self.module, self.head = _build(problem, plan, self.head_context, self._labels.prior, units)
        self._fix_labels()
        self.module.train()
        for name in ("regularizer", "relabeling"):
            self.start(name, self.predictor(problem.features))
        self.optimizer = make_optimizer(problem, plan, self.module, self.head, self.states)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._row_steps = make_row_steps(problem, plan, self.states)
        if problem.optimizer_state is not None:
            # A copy, because PyTorch would change the tensors in place, which the estimator keeps if this fit fails.
            moments = copy.deepcopy(problem.optimizer_state["optimizer"]["state"])
            # Rates and penalties are those of now.
            shards.load_optimizer(self.optimizer, self.optimizer.state_dict() | {"state": moments})
            self._convert_moments(problem.optimizer_state["units"][0])
        self._generator = torch.Generator().manual_seed(problem.seed)
        drawn = bootstrap_weights(problem.features.n_rows, problem.head.n_members, problem.seed)
        self._bootstrap = None if drawn is None else drawn.to(dtype=problem.dtype, device=problem.device)
        self._randomness = Randomness(problem.device, problem.draws)
        self._pieces, self._n_steps, self._has_moved = plan.accumulate, 0, False
        # Learned tensors that do not belong to rows: a step of the optimiser moves all of each.
        self._projections = [
            (name, key, spec.project)
            for name in self.states
            for key, spec in problem.parts[name].state_spec().items()
            if spec.project is not None and (name, key) not in self._row_steps
        ]

    def _convert_moments(self, scale: float) -> None:
        """Convert the optimiser's moments of input weights, which refer to features of another scale."""
        ratio = self.head.units.scale / scale
        for weight in self.head.input_weights if ratio != 1 else ():
            for name, moment in self.optimizer.state.get(weight, {}).items():
                if isinstance(moment, Tensor) and moment.shape == weight.shape:
                    # Gradients are proportional to the scale, and the second moment to its square.
                    moment.mul_(ratio**2 if name.startswith("exp_avg_sq") else ratio)

    def take(self, data: TrainingData) -> None:
        """Train on other labels from now on."""
        self._labels = _Labels(self.problem, data, self.state)
        if self._n_steps == 0 and self.problem.start is None:
            self.head.set_prior(self._labels.prior)
        self._fix_labels()

    def _fix_labels(self) -> None:
        """Mark the labels that cannot be fitted; in a stream, later rows may know them."""
        self.unfitted = self._labels.unfitted
        if not self.problem.incremental:
            self.head.fix(self.unfitted, self._labels.prior)

    def predictor(self, features: Features) -> HeadPredictor:
        """Predictions of the current parameters for the rows of some features."""
        network = None if self.module is self.head else self.module
        return HeadPredictor(self.head, features, network, self.problem.sharing)

    def run(self, epoch: int, report: Report) -> dict[str, Any]:
        """Make a pass over the training set; its loss is the weighted mean of the losses of the batches."""
        total = self._pass(self.order(), epoch)
        for steps in self._row_steps.values():
            steps.catch_up_all()
        return {"loss": self.mean_loss(float(total), epoch)}

    def mean_loss(self, total: float, epoch: int) -> float:
        """The mean loss of a pass over rows; raises an error if the loss or the parameters are not finite."""
        value = total / self.problem.features.n_rows
        if not np.isfinite(value):
            raise ValueError(
                f"The training loss became {value} in epoch {epoch}: lower solver__learning_rate (now "
                f"{self.plan.learning_rate:g}) or alpha (now {self.problem.alpha:g}), or look for extreme values in X."
            )
        # The loss of a batch is computed before its step, and the last step may have diverged.
        finite = all(bool(shards.local(parameter).isfinite().all()) for parameter in self.module.parameters())
        if self.problem.processes.any(not finite):
            raise ValueError(
                f"Parameters are no longer finite after epoch {epoch}: lower solver__learning_rate (now "
                f"{self.plan.learning_rate:g}) or alpha (now {self.problem.alpha:g}), or look for extreme values in X."
            )
        return value

    def order(self) -> Tensor:
        """The rows in the order of the next pass."""
        features = self.problem.features
        return features.shuffled(self._generator) if self.plan.shuffle else torch.arange(features.n_rows)

    def _pass(self, order: Tensor, epoch: int) -> Tensor:
        """Take a step per batch; return the sum of the losses of the batches, each times its number of rows."""
        batches = list(order.split(self.plan.batch_size))
        sharing, images = self.problem.sharing, self.problem.network is not None
        if images and len(batches) > 1 and len(batches[-1]) < max(2, sharing.size):
            # Batch norms need more than one image for a variance, and a network takes no empty batch.
            batches[-2:] = [torch.cat(batches[-2:])]
        if images and min(map(len, batches)) < sharing.size:
            raise ValueError(
                f"Batches of {min(map(len, batches))} images are too small for {sharing.size} processes: raise "
                "solver__batch_size, or start fewer processes."
            )
        self._randomness.vary(self.problem.seed, epoch, sharing)
        total = torch.zeros((), dtype=torch.float64, device=self.problem.device)
        own = [rows[sharing.share(len(rows))] for rows in batches]
        with self.problem.batch_bar(epoch, len(batches)) as advance:
            for rows, features in zip(batches, self.problem.features.batches(own)):
                self.set_rates(len(batches))
                total += self._step(rows, features, epoch) * len(rows)
                advance(1)
        self._average_running_statistics()
        return total

    def _average_running_statistics(self) -> None:
        """Average the mean and variance of batch norms over the processes, each of which has seen parts of batches."""
        sharing = self.problem.sharing
        modules = (module for module in self.module.modules() if module.training)
        norms = [module for module in modules if isinstance(module, nn.modules.batchnorm._NormBase)]
        found = [x for norm in norms for x in (norm.running_mean, norm.running_var) if x is not None]
        sharing.sum_all(found)
        for tensor in found:
            tensor.div_(sharing.size)

    def set_rates(self, n_batches: int) -> None:
        """Set the step sizes of the next step; those of rows, whose drift has a closed form, do not change."""
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
        """Move everything by the gradient of a batch; return the loss of the batch."""
        problem, sharing = self.problem, self.problem.sharing
        known = self._labels.source.rows(rows.to(problem.device))
        self.catch_up(known.rows)
        found: Step | None = None

        def step_of(logits: Tensor) -> Step:
            # Once per batch, even if memory runs out later: a loss may update its state. In this process, only a part
            # of the rows passes through the network; the loss gets all of them.
            nonlocal found
            if found is None:
                whole = sharing.together(logits.detach(), len(rows), dim=-2)
                step, own = self._shared_step(known, whole, epoch), sharing.share(len(rows))
                found = Step(step.value, step.gradient[..., own, :], step.state)
            return found

        drawn = self._randomness.state() if problem.network is not None else None
        while True:
            try:
                if self._pieces == 1:
                    step, term = self._backward(features, known, epoch, step_of)
                else:
                    # As many pieces in every process, in case they exchange parameters.
                    n_pieces = max(1, min(self._pieces, len(rows) // sharing.size))
                    step, term = self._backward_in_pieces(features, n_pieces, step_of), 0.0
                break
            except torch.OutOfMemoryError:
                self._double_pieces(len(rows))
                assert drawn is not None
                self._randomness.restore(drawn)
        shards.sum_gradients(list(self.module.parameters()), sharing)
        self._take_gradients("loss", step.state, known.rows, 1.0)
        self._penalize()
        self.move()
        self.optimizer.zero_grad()
        return step.value + term

    def _shared_step(self, known: LabeledRows, logits: Tensor, epoch: int) -> Step:
        """Value and gradients of the loss on a batch, times its share; with an ensemble, logits are (M, b, L).

        The value and the state of the loss use the mean over members; each member moves by its own gradient.
        """
        if self._bootstrap is None:
            return self._step_of_member(known, logits, epoch)
        weights = self._bootstrap[:, known.rows]
        steps = [self._step_of_member(known.weighted(own), x, epoch) for own, x in zip(weights, logits)]
        state = {key: torch.stack([step.state[key] for step in steps]).mean(0) for key in steps[0].state}
        value = torch.stack([step.value for step in steps]).mean()
        return Step(value, torch.stack([step.gradient for step in steps]), state)

    def _step_of_member(self, known: LabeledRows, logits: Tensor, epoch: int) -> Step:
        step, share = self.loss_of(known, logits, epoch), self._share(known.weights)
        return Step(step.value * share, step.gradient * share, {key: g * share for key, g in step.state.items()})

    def _logits(self, features: Tensor) -> Tensor:
        """Logits (b, L) for the loss, or (M, b, L) of the members of an ensemble."""
        module: Any = self.module
        logits: Tensor = module(features) if self._bootstrap is None else module.member_logits(features)
        return logits

    def _share(self, weights: Tensor | None) -> Tensor | float:
        """Share of a batch in the total weight; the mean loss of the batch is multiplied by it to sum to the total."""
        return 1.0 if weights is None else weights.mean() / self._labels.mean_weight

    def catch_up(self, rows: Tensor) -> None:
        """Apply all steps so far to the learned tensors of some rows."""
        for steps in self._row_steps.values():
            steps.catch_up(rows)

    def loss_of(self, known: LabeledRows, logits: Tensor, epoch: int) -> Step:
        """Value and gradients of the loss on a batch."""
        rows, labels, targets, weights = known
        loss, more = self.problem.loss, {"rows": rows, "epoch": epoch, "weights": weights}
        if targets is None:
            return loss.value_and_gradient(logits, labels, self.state, **more)  # type: ignore[arg-type]
        return loss.soft_step(logits, labels, targets, self.state, **more)  # type: ignore[arg-type]

    def _take_gradients(self, name: str, gradients: State, rows: Tensor, share: Tensor | float) -> None:
        """Move learned tensors of the rows of a batch, and keep the other gradients of a state."""
        for key, gradient in gradients.items():
            if (name, key) in self._row_steps:
                self._row_steps[name, key].update(rows, gradient * share)
            else:
                tensor = self.states[name][key]
                tensor.grad = (gradient * share).to(tensor.dtype)

    def _penalize(self) -> None:
        """Add the gradient of the head's extra penalty; the optimiser handles penalties of single parameters."""
        squares = self.problem.head.extra_penalty(self.head.inner)
        if squares is not None:
            (0.5 * square_penalty(self.problem, self.head) * squares).backward()

    def move(self) -> None:
        """Move the parameters, and learned tensors that do not belong to rows, by their gradients."""
        if self.plan.clip_norm is not None:
            shards.clip_norm(list(self.module.parameters()), self.plan.clip_norm, self.problem.processes)
        self._move_by_gradients()
        with torch.no_grad():
            for name, key, project in self._projections:
                self.states[name][key].copy_(project(self.states[name][key]))

    def _move_by_gradients(self) -> None:
        if self._has_moved or not any(group.get("fused") for group in self.optimizer.param_groups):
            self.optimizer.step()
        else:
            what = f"{type(self.optimizer).__name__}(fused=True)"
            attempt(self.optimizer, self.optimizer.step, self._unfused_step, what)
        self._has_moved = True

    def _unfused_step(self) -> None:
        for group in self.optimizer.param_groups:
            group["fused"] = False
        self.optimizer.step()

    def _backward(
        self,
        features: Tensor,
        known: LabeledRows,
        epoch: int,
        step_of: Callable[[Tensor], Step],
    ) -> tuple[Step, Tensor | float]:
        """Gradients of a batch that passes through in one part, with the value of the regulariser."""
        regularizer = self.problem.regularizer
        if regularizer is None:
            logits = self._logits(features)
            step = step_of(logits)
            logits.backward(step.gradient)
            return step, 0.0
        seen = features if self.module is self.head else self.module.features(features)  # type: ignore[operator]
        members = self.head.member_logits(seen) if self._bootstrap is not None else self.head(seen)
        step = step_of(members)
        logits = members if self._bootstrap is None else members.mean(0)
        state, leaves = self._differentiable("regularizer")
        rows, labels, targets, weights = known
        context = BatchContext(seen, logits, labels, rows, self.head, epoch, state, targets, weights, step.value)
        term = regularizer(context)
        ((members * step.gradient).sum() + term).backward()
        gradients = {key: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for key, leaf in leaves.items()}
        of_rows = {key: g[rows] if ("regularizer", key) in self._row_steps else g for key, g in gradients.items()}
        self._take_gradients("regularizer", of_rows, rows, 1.0)
        return step, term.detach()

    def _differentiable(self, name: str) -> tuple[State | None, State]:
        """The state of a part with learned tensors as leaves of an autograd graph, and these leaves."""
        state = self.states.get(name)
        if state is None:
            return None, {}
        learned = [key for key, spec in self.problem.parts[name].state_spec().items() if spec.learned]
        leaves = {key: state[key].detach().requires_grad_() for key in learned}
        return state | leaves, leaves

    def _backward_in_pieces(self, features: Tensor, n_pieces: int, step_of: Callable[[Tensor], Step]) -> Step:
        """Gradients of a batch that passes through in parts: once for all logits, and once more for gradients per part.

        The loss, which may compare entries, thus gets the whole batch; only batch norms see parts.
        """
        if self.problem.regularizer is not None:
            raise ValueError(
                f"The regularizer {self.problem.regularizer!r} needs whole batches: use Minibatch(accumulate=1), and a "
                "smaller batch_size if memory runs out."
            )
        parts = _pieces_of(features, n_pieces)
        drawn = self._randomness.state()
        buffers = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        with torch.no_grad():
            step = step_of(torch.cat([self._logits(part) for part in parts], dim=-2))
            for name, buffer in self.module.named_buffers():
                buffer.copy_(buffers[name])
        self._randomness.restore(drawn)
        gradients = step.gradient.split([len(part) for part in parts], dim=-2)
        for part, gradient in zip(parts, gradients):
            self._logits(part).backward(gradient)
        return step

    def _double_pieces(self, n_rows: int) -> None:
        """Double the number of parts in which batches pass through, or raise an error."""
        self.optimizer.zero_grad()
        if self.problem.device.type == "cuda":
            torch.cuda.empty_cache()
        if any(map(shards.is_shard, self.module.parameters())):
            raise ValueError(
                f"Memory on {self.problem.device} ran out in a batch of {n_rows} rows, which a process that shares "
                "parameters cannot repeat alone: raise solver__accumulate, or lower solver__batch_size."
            ) from None
        if self._pieces >= n_rows or self.problem.network is None:
            raise ValueError(
                f"Memory on {self.problem.device} ran out in a batch of {n_rows} rows: lower solver__batch_size"
                + ("." if self.problem.network is None else ", or the image_size of the backbone.")
            ) from None
        if self._pieces == self.plan.accumulate:
            warn(
                f"Memory on {self.problem.device} ran out in a batch of {n_rows} images: from now on batches go "
                "through the network in smaller parts, with the same gradients. Set solver__accumulate to avoid "
                "failed attempts.",
            )
        self._pieces *= 2

    def state_dict(self) -> dict[str, Any]:
        """Everything that a pass depends on."""
        return {
            "module": shards.whole(self.module.state_dict()),
            "optimizer": shards.whole(self.optimizer.state_dict()),
            "states": self.saved_states(),
            "rows": {f"{name} {key}": steps.state_dict() for (name, key), steps in self._row_steps.items()},
            "generator": self._generator.get_state(),
            "random": self._randomness.state(),
            "pieces": self._pieces,
            "n_steps": self._n_steps,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""
        self.load(saved["module"])
        self.load_states(saved["states"])
        shards.load_optimizer(self.optimizer, saved["optimizer"])
        for (name, key), steps in self._row_steps.items():
            steps.load_state_dict(saved["rows"][f"{name} {key}"])
        self._generator.set_state(saved["generator"])
        self._randomness.restore(saved["random"])
        self._pieces, self._n_steps = saved["pieces"], saved["n_steps"]

    def tensors(self) -> dict[str, Tensor]:
        """The parameters, without copying; of divided ones, the shards of this process."""
        return self.module.state_dict()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore parameters from the result of `tensors`, or from whole tensors."""
        self.module.load_state_dict(shards.shards_like(tensors, self.module.state_dict()))

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Copies of parameters and buffers as arrays, for features in the units in which they were passed."""
        if self.module is self.head:
            return self.head.arrays()
        tensors = self.module.state_dict().items()
        return {name: shards.whole(tensor.detach()).cpu().numpy().copy() for name, tensor in tensors}

    def finish(self) -> None:
        """Give labels that cannot be fitted their prior, unless later rows may still know them."""
        if not self.problem.incremental:
            self.head.settle(self.unfitted, self._labels.prior)

    def optimizer_state(self) -> dict[str, Any]:
        """State from which a later pass over other rows continues."""
        return {
            "optimizer": shards.whole(self.optimizer.state_dict()),
            "units": tuple(self.head.units),
        }
