"""Passes over the training set that train linear heads: one head, or those of many candidates that share products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from skpartial._warnings import warn_slower
from skpartial.heads._linear import LinearModule
from skpartial.losses import Loss, PointwiseLoss
from skpartial.losses._cross_entropy import cross_entropy
from skpartial.solvers.gradient._plan import Plan
from skpartial.solvers.gradient._recording import Recording, can_record, same_moves
from skpartial.training._data import LabeledRows
from skpartial.training._problem import Problem

__all__ = ["LinearLearner", "LinearPass", "has_fixed_targets"]

# Number of label entries of all candidates that are prepared at a time.
_ENTRIES = 1 << 19
# Maximal number of recorded steps, and of bytes of the features that they use.
_RECORDED_STEPS, _RECORDED_BYTES = 64, 64 << 20
# Least number of replays that makes recording worthwhile.
_PLAYS = 16


def has_fixed_targets(loss: Loss) -> bool:
    """Whether a loss is cross-entropy with targets and weights that are constant during a pass."""
    learns = any(spec.learned for spec in loss.state_spec().values())
    return isinstance(loss, PointwiseLoss) and loss.surrogate == "logistic" and loss.traits().convex and not learns


class LinearLearner(Protocol):
    """Interface of a linear head that a pass trains."""

    problem: Problem
    plan: Plan
    head: LinearModule

    def known(self, rows: Tensor) -> LabeledRows:
        """Labels, soft targets and weights of rows."""

    def fixed_terms(self, known: LabeledRows, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Targets and weights of some rows, for a loss that fixes them during a pass."""

    def loss_step(self, batch: LabeledRows, logits: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Value of the loss on a batch and its gradient in the logits."""

    def set_rates(self, n_batches: int) -> None:
        """Set the step sizes of the next step."""

    def move(self) -> None:
        """Move the parameters by their gradients."""

    def moving(self) -> list[Tensor]:
        """Everything that a step changes."""


class _Terms(NamedTuple):
    """The part of the losses of some rows that does not depend on the logits x: tensors of shape (K L, c).

    The loss of an entry is `weight` (1 if None) times the cross-entropy with the target. The gradient of the mean loss
    of a batch is factor sigmoid(x) + offset; factor may be a row.
    """

    target: Tensor
    weight: Tensor | None
    factor: Tensor
    offset: Tensor


class _Steps(NamedTuple):
    """Tensors that steps over some batches read and write: features per batch, the others (K L, c)."""

    features: Iterable[Tensor]
    factor: Tensor
    offset: Tensor
    logits: Tensor
    gradients: Tensor


class _Recorded:
    """Recorded steps over the batches of a chunk.

    Parameters
    ----------
    together : LinearPass
        The pass that takes the steps.
    learners : sequence of LinearLearner
        Learners of the heads that are trained.
    sizes : sequence of int
        Number of rows of each batch.
    """

    def __init__(self, together: LinearPass, learners: Sequence[LinearLearner], sizes: Sequence[int]) -> None:
        self.learners, weight = learners, together.weight
        self.features = weight.new_empty(sum(sizes), weight.shape[1])
        self.factor, self.offset, self.logits, gradients = weight.new_empty(4, len(weight), sum(sizes))
        steps = _Steps(self.features.split(sizes), self.factor, self.offset, self.logits, gradients)

        def work() -> None:
            for features, gradient in together.fixed_gradients(steps, sizes):
                together.move(learners, features, gradient)

        self._recording = Recording(work, weight.device)

    def play(self, features: Tensor, terms: _Terms) -> Tensor:
        """Take the steps; return the logits, which are valid until the next call."""
        self.features.copy_(features)
        self.factor.copy_(terms.factor)
        self.offset.copy_(terms.offset)
        self._recording.play()
        return self.logits


class LinearPass:
    """Passes that train linear heads on the same batches.

    Parameters
    ----------
    learners : sequence of LinearLearner
        K learners, at least one, with the same features, labels, weights and batch size.
    """

    def __init__(self, learners: Sequence[LinearLearner]) -> None:
        self.learners = learners
        self.n_labels = learners[0].problem.labels.n_labels
        heads = [learner.head for learner in learners]
        self.head, (self.scale, self.center) = heads[0], heads[0].units
        self.weight, self.weight_gradient = _joined([head.weight for head in heads])
        self.bias, self.bias_gradient = _joined([head.bias for head in heads])
        self.fixed = all(map(has_fixed_targets, [learner.problem.loss for learner in learners]))
        self._recorded: _Recorded | None = None
        self._records = True
        self._has_run = False

    @torch.no_grad()
    def run(self, order: Tensor, epoch: int, moving: Sequence[bool] | None = None) -> Tensor:
        """Take a step per batch of rows.

        Parameters
        ----------
        order : Tensor of shape (n,)
            The rows, in the order of the pass.
        epoch : int
            The pass.
        moving : sequence of K bool, or None, default=None
            Heads to train; None trains all.

        Returns
        -------
        Tensor of float64, shape (K,)
            For each learner, the sum of the losses of the batches, each times its number of rows.
        """
        first, batch_size = self.learners[0], self.learners[0].plan.batch_size
        n_batches = -(-len(order) // batch_size)
        learners = [learner for k, learner in enumerate(self.learners) if moving is None or moving[k]]
        total = torch.zeros(len(self.learners), dtype=torch.float64, device=first.problem.device)
        n_recorded = self._n_recorded(len(order))
        together = n_recorded or max(1, _ENTRIES // (len(self.weight) * batch_size))
        with first.problem.batch_bar(epoch, n_batches) as advance:
            for rows in order.split(together * batch_size):
                chunk, batches = first.known(rows), rows.split(batch_size)
                full = self._has_run and len(rows) == n_recorded * batch_size
                if full and self._play(learners, chunk, [batch_size] * len(batches), epoch, total):
                    for learner in learners:
                        for _ in batches:
                            learner.set_rates(n_batches)
                    advance(len(batches))
                    continue
                gradients = self._fixed_chunk if self.fixed else self._loss_chunk
                # The gradient of a batch is computed only when requested, after the step before.
                for features, gradient in gradients(batches, chunk, epoch, total):
                    for learner in learners:
                        learner.set_rates(n_batches)
                    self.move(learners, features, gradient)
                self._has_run = True
                advance(len(batches))
        return total

    def move(self, learners: Sequence[LinearLearner], features: Tensor, gradient: Tensor) -> None:
        """Take the step of a batch, from the gradients in its logits."""
        self._backward(features, gradient)
        for learner in learners:
            learner.move()

    def _forward(self, features: Tensor, out: Tensor) -> Tensor:
        """Logits of a centred batch, shape (K L, b): the layout in which both products are fastest."""
        if features.is_sparse:
            product = self.head.product(features, self.weight).T
            return torch.add(self.bias[:, None], product, alpha=self.scale, out=out)
        return torch.addmm(self.bias[:, None], self.weight, features.T, alpha=self.scale, out=out)

    def _backward(self, features: Tensor, gradient: Tensor) -> None:
        """Gradients in the parameters, from those in the logits of a batch, (K L, b)."""
        if features.is_sparse:
            product = torch.sparse.mm(features.T, gradient.T).T
            torch.mul(product, self.scale, out=self.weight_gradient)
            if self.center is not None:
                self.weight_gradient.addr_(gradient.sum(1), self.center, alpha=-self.scale)
        else:
            torch.addmm(self.weight_gradient, gradient, features, beta=0, alpha=self.scale, out=self.weight_gradient)
        torch.sum(gradient, 1, out=self.bias_gradient)

    def fixed_gradients(self, steps: _Steps, sizes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and gradients in the logits of batches of these sizes, with targets known in advance."""
        parts = zip(*(tensor.split(sizes, 1) for tensor in steps[1:]))
        for features, (factor, offset, x, gradient) in zip(map(self.head.centered, steps.features), parts):
            self._forward(features, x)
            torch.sigmoid(x, out=gradient)
            yield features, torch.addcmul(offset, gradient, factor, out=gradient)

    def _fixed_chunk(
        self, batches: Sequence[Tensor], chunk: LabeledRows, epoch: int, total: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and gradients in the logits of batches; everything independent of the steps is computed at once."""
        sizes = [len(rows) for rows in batches]
        terms = self._fixed_terms(chunk, sizes, epoch)
        logits, gradients = torch.empty_like(terms.target), torch.empty_like(terms.target)
        features = self.learners[0].problem.features.batches(batches)
        yield from self.fixed_gradients(_Steps(features, terms.factor, terms.offset, logits, gradients), sizes)
        self._add_loss(total, logits, terms)

    def _play(
        self, learners: Sequence[LinearLearner], chunk: LabeledRows, sizes: Sequence[int], epoch: int, total: Tensor
    ) -> bool:
        """Take the steps of batches of these sizes by replaying a recording; return False if that was not done."""
        if not self._records:
            return False
        terms = self._fixed_terms(chunk, sizes, epoch)
        features = self.learners[0].problem.features.batch(chunk.rows)
        first = self._recorded is None or self._recorded.learners != learners
        moving = [tensor for learner in learners for tensor in learner.moving()] if first else []
        before = [tensor.clone() for tensor in moving]
        try:
            if first:
                self._recorded = None  # so that the next one may use its memory
                self._recorded = _Recorded(self, learners, sizes)
            assert self._recorded is not None
            logits = self._recorded.play(features, terms)
        except Exception as error:
            if not first:
                raise  # unknown which tensors had moved before the failure
            self._give_up_recording(moving, before, error)
            return False
        if first:
            # The first replay is compared with steps taken one by one; later ones are not checked.
            played = [tensor.clone() for tensor in moving]
            _put_back(moving, before)
            logits, gradients = torch.empty_like(terms.target), torch.empty_like(terms.target)
            steps = _Steps(features.split(sizes), terms.factor, terms.offset, logits, gradients)
            for batch, gradient in self.fixed_gradients(steps, sizes):
                self.move(learners, batch, gradient)
            if not same_moves(before, played, moving):
                self._give_up_recording([], [], "its first steps differ from steps taken one by one")
        self._add_loss(total, logits, terms)
        return True

    def _give_up_recording(self, moving: Sequence[Tensor], before: Sequence[Tensor], why: object) -> None:
        """Take steps one by one from now on."""
        _put_back(moving, before)
        self._recorded, self._records = None, False
        warn_slower("A CUDA graph of the steps of a linear head", why)

    def _n_recorded(self, n_rows: int) -> int:
        """Number of steps per recording, for a pass that replays several; 0 if recording does not pay."""
        problem, plan = self.learners[0].problem, self.learners[0].plan
        if not (
            self.fixed
            and self._records
            and can_record(problem.device)
            and all(learner.plan.steady for learner in self.learners)
        ):
            return 0
        row_bytes = problem.features.row_bytes + 4 * len(self.weight) * problem.dtype.itemsize
        full = n_rows // plan.batch_size
        most = min(_RECORDED_STEPS, _RECORDED_BYTES // (plan.batch_size * row_bytes), full)
        if most == 0:
            return 0
        # Leave as few as possible to be taken one by one.
        n_steps = max(range(most // 2 + 1, most + 1), key=lambda n: (-(full % n), n))
        return n_steps if full // n_steps * plan.max_epochs >= _PLAYS else 0

    def _fixed_terms(self, chunk: LabeledRows, sizes: Sequence[int], epoch: int) -> _Terms:
        """Targets and weights of all learners, for batches of these sizes."""
        found = [learner.fixed_terms(chunk, epoch) for learner in self.learners]
        target = torch.cat([target.T for target, _ in found]).contiguous()
        # A loss is a mean over its batch.
        factor = torch.full_like(target[:1], 1 / (sizes[0] * self.n_labels))
        factor[:, len(chunk.labels) - sizes[-1] :] = 1 / (sizes[-1] * self.n_labels)
        weight = None
        if any(weight is not None for _, weight in found):
            weights = [torch.ones_like(t) if weight is None else weight.expand_as(t) for t, weight in found]
            weight = torch.cat([weight.T for weight in weights]).contiguous()
            factor = weight * factor
        return _Terms(target, weight, factor, (target * factor).neg_())

    def _add_loss(self, total: Tensor, logits: Tensor, terms: _Terms) -> None:
        """Add the losses of batches to those of each learner."""
        value = cross_entropy(logits, terms.target)
        if terms.weight is not None:
            value.mul_(terms.weight)
        total += value.reshape(len(total), -1).sum(1, dtype=torch.float64) / self.n_labels

    def _loss_chunk(
        self, batches: Sequence[Tensor], chunk: LabeledRows, epoch: int, total: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and gradients in the logits of batches, computed by the losses."""
        start = 0
        for features, rows in zip(map(self.head.centered, self.learners[0].problem.features.batches(batches)), batches):
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


def _put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values):
        tensor.copy_(value)


def _joined(parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Parameters and gradients of several heads as two tensors that share memory with the heads.

    Several parameters are moved to a common storage.
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
