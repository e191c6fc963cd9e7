"""Gradient steps of linear heads on features, whose gradients are products and need no autograd graph.

Several heads that see the same batches share these products: one of them, or many candidates side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skpartial.heads import Linear
from skpartial.heads._linear import LinearModule
from skpartial.losses import Block, Loss, PointwiseLoss
from skpartial.losses._cross_entropy import cross_entropy
from skpartial.solvers._direct_steps import DirectSteps
from skpartial.solvers._gradient_steps import GradientSteps, Plan
from skpartial.solvers._problem import Problem

__all__ = ["LinearPass", "LinearSteps", "has_fixed_targets", "is_linear"]

# Entries of the labels of all candidates that are prepared at a time.
_ENTRIES = 1 << 19


def is_linear(problem: Problem, plan: Plan) -> bool:
    """Whether a problem is one of a linear head on rows of features, with no term beside the loss."""
    return (
        type(problem.head) is Linear
        and problem.network is None
        and problem.regularizer is None
        and plan.accumulate == 1
        and DirectSteps.serves(problem.device)
    )


def has_fixed_targets(loss: Loss) -> bool:
    """Whether a loss is cross-entropy whose targets and weights stay the same while a pass lasts."""
    learns = any(spec.learned for spec in loss.state_spec().values())
    return isinstance(loss, PointwiseLoss) and loss.traits().convex and not learns


class _Chunk(NamedTuple):
    """Some rows: their indices on the device, labels, and sample weights."""

    rows: Tensor
    labels: Tensor
    weights: Tensor | None

    def part(self, part: slice) -> _Chunk:
        """Some of them."""
        return _Chunk(self.rows[part], self.labels[part], None if self.weights is None else self.weights[part])


class LinearSteps(GradientSteps):
    """A linear head, and what the loss learns, which a pass moves by a step for every batch.

    Parameters
    ----------
    problem, plan, input_scale
        As in the base class.
    """

    head: LinearModule

    def __init__(self, problem: Problem, plan: Plan, input_scale: float | None = None) -> None:
        super().__init__(problem, plan, input_scale)
        for parameter in self.head.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._direct: DirectSteps | None = None

    def _pass(self, order: Tensor, epoch: int) -> Tensor:
        try:
            return LinearPass([self]).run(order, epoch)[0]
        except torch.OutOfMemoryError:
            self._halve(self.plan.batch_size)
            raise

    def _move_by_gradients(self) -> None:
        if self._direct is None:
            self._direct = DirectSteps(self.optimizer)
        self._direct.step()

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        super().load_state_dict(saved)
        self._direct = None

    def chunk(self, rows: Tensor) -> _Chunk:
        """What is known of rows."""
        index = rows.to(self.problem.device)
        labels = self._labels.source.rows(index)
        return _Chunk(index, labels, self.problem.weights.rows(index, labels))

    def fixed_terms(self, chunk: _Chunk, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Targets of some rows and weights, 1 on average, of their terms; of a loss that fixes them for a pass."""
        problem, loss = self.problem, self.problem.loss
        assert isinstance(loss, PointwiseLoss)
        weights = chunk.weights
        if weights is not None and weights.ndim == 1:
            weights = weights[:, None]
        block = Block(chunk.labels, None, self.state, chunk.rows, epoch, problem.dtype, weights)
        target, weight = loss.targets(block)
        if weights is not None:
            weight = (weights if weight is None else weight * weights) / self._labels.mean_weight
        return target, weight

    def loss_step(self, batch: _Chunk, logits: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Value of the loss on a batch and its gradient in the logits; what the loss learned of its rows moves."""
        for steps in self._row_steps.values():
            steps.catch_up(batch.rows)
        share = self._share(batch.weights)
        step = self.problem.loss.value_and_gradient(
            logits, batch.labels, self.state, rows=batch.rows, epoch=epoch, weights=batch.weights
        )
        self._take_state(step, batch.rows, share)
        return step.value * share, step.gradient * share


class LinearPass:
    """Passes over the training set that move linear heads on the same batches.

    Parameters
    ----------
    learners : sequence of LinearSteps
        K at least one, of the same features, labels and weights and the same batch size.
    """

    def __init__(self, learners: Sequence[LinearSteps]) -> None:
        self.learners = learners
        self.n_labels = learners[0].problem.labels.n_labels
        heads = [learner.head for learner in learners]
        self.scale = heads[0].input_scale
        self.weight, self.weight_gradient = _joined([head.weight for head in heads])
        self.bias, self.bias_gradient = _joined([head.bias for head in heads])
        self.fixed = all(has_fixed_targets(learner.problem.loss) for learner in learners)

    @torch.no_grad()
    def run(self, order: Tensor, epoch: int, moving: Sequence[bool] | None = None) -> Tensor:
        """Take a step for every batch of rows.

        Parameters
        ----------
        order : Tensor of shape (n,)
            The rows.
        epoch : int
            The pass.
        moving : sequence of K bool, or None, default=None
            Which heads move; None moves all.

        Returns
        -------
        Tensor of float64, shape (K,)
            For each learner the sum of the batches' losses, each times its rows.
        """
        problem, batch_size = self.learners[0].problem, self.learners[0].plan.batch_size
        n_batches = -(-len(order) // batch_size)
        learners = [learner for k, learner in enumerate(self.learners) if moving is None or moving[k]]
        together = max(1, _ENTRIES // (len(self.weight) * batch_size))
        total = torch.zeros(len(self.learners), dtype=torch.float64, device=problem.device)
        gradients = self._fixed_gradients if self.fixed else self._loss_gradients
        for rows in order.split(together * batch_size):
            # The gradient of a batch is worked out when it is asked for: after the step before it.
            for features, gradient in gradients(rows.split(batch_size), self.learners[0].chunk(rows), epoch, total):
                self._backward(features, gradient)
                for learner in learners:
                    learner.set_rates(n_batches)
                    learner.move()
        return total

    def _forward(self, features: Tensor, out: Tensor) -> Tensor:
        """Logits of a batch, shape (K L, b): the layout in which both products are fastest."""
        if features.is_sparse:
            product = torch.sparse.mm(features, self.weight.T).T
            return torch.add(self.bias[:, None], product, alpha=self.scale, out=out)
        return torch.addmm(self.bias[:, None], self.weight, features.T, alpha=self.scale, out=out)

    def _backward(self, features: Tensor, gradient: Tensor) -> None:
        """Gradients of the parameters from those of the logits of a batch, (K L, b)."""
        if features.is_sparse:
            product = torch.sparse.mm(features.T, gradient.T).T
            torch.mul(product, self.scale, out=self.weight_gradient)
        else:
            torch.addmm(self.weight_gradient, gradient, features, beta=0, alpha=self.scale, out=self.weight_gradient)
        torch.sum(gradient, 1, out=self.bias_gradient)

    def _fixed_gradients(
        self, batches: Sequence[Tensor], chunk: _Chunk, epoch: int, total: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and gradients of the logits of batches, where targets t and weights w are known before: w (p - t).

        Whatever does not wait for the parameters is done for all batches of a chunk at once.
        """
        target, weight = self._fixed_terms(chunk, epoch)
        sizes = [len(rows) for rows in batches]
        # A loss is a mean over its batch.
        share = torch.full_like(target[:1], 1 / (sizes[0] * self.n_labels))
        share[:, len(chunk.labels) - sizes[-1] :] = 1 / (sizes[-1] * self.n_labels)
        factor = share if weight is None else weight * share
        offset = (target * factor).neg_()
        logits, gradients = torch.empty_like(target), torch.empty_like(target)
        parts = zip(*(tensor.split(sizes, 1) for tensor in (logits, gradients, offset, factor)))
        features_of = self.learners[0].problem.features.batches(batches)
        for features, (x, gradient, minus, times) in zip(features_of, parts):
            self._forward(features, x)
            torch.sigmoid(x, out=gradient)
            yield features, torch.addcmul(minus, gradient, times, out=gradient)
        value = cross_entropy(logits, target)
        if weight is not None:
            value.mul_(weight)
        total += value.reshape(len(total), -1).sum(1, dtype=torch.float64) / self.n_labels

    def _fixed_terms(self, chunk: _Chunk, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Targets and weights of all learners, shape (K L, c)."""
        found = [learner.fixed_terms(chunk, epoch) for learner in self.learners]
        target = torch.cat([target.T for target, _ in found]).contiguous()
        if all(weight is None for _, weight in found):
            return target, None
        weights = [torch.ones_like(t) if weight is None else weight.expand_as(t) for t, weight in found]
        return target, torch.cat([weight.T for weight in weights]).contiguous()

    def _loss_gradients(
        self, batches: Sequence[Tensor], chunk: _Chunk, epoch: int, total: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and gradients of the logits of batches, as the losses have them."""
        start = 0
        for features, rows in zip(self.learners[0].problem.features.batches(batches), batches):
            batch = chunk.part(slice(start, start + len(rows)))
            start += len(rows)
            logits = self._forward(features, self.weight.new_empty(len(self.weight), len(rows)))
            gradients = torch.empty_like(logits)
            blocks = zip(self.learners, logits.split(self.n_labels), gradients.split(self.n_labels))
            for k, (learner, x, gradient) in enumerate(blocks):
                value, derivative = learner.loss_step(batch, x.T.contiguous(), epoch)
                gradient.copy_(derivative.T)
                total[k] += value * len(rows)
            yield features, gradients


def _joined(parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Parameters of several heads as one tensor, and their gradients: what is written to it the heads have.

    Several parameters move to a storage that they share.
    """
    if len(parameters) == 1:
        (parameter,) = parameters
        assert parameter.grad is not None
        return parameter.detach(), parameter.grad
    values = torch.cat([parameter.detach() for parameter in parameters])
    gradients = torch.zeros_like(values)
    size = len(parameters[0])
    for parameter, value, gradient in zip(parameters, values.split(size), gradients.split(size)):
        parameter.data, parameter.grad = value, gradient
    return values, gradients
