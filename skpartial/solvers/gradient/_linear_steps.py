"""Gradient steps of a linear head on features, with gradients by products instead of an autograd graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skpartial.features._moments import InputUnits
from skpartial.heads import Linear
from skpartial.heads._linear import LinearModule
from skpartial.losses import Block, PointwiseLoss
from skpartial.solvers.gradient._attempts import attempt
from skpartial.solvers.gradient._direct_steps import DirectSteps
from skpartial.solvers.gradient._gradient_steps import GradientSteps
from skpartial.solvers.gradient._linear_pass import LinearPass
from skpartial.solvers.gradient._plan import Plan
from skpartial.training._data import LabeledRows
from skpartial.training._problem import Problem

__all__ = ["LinearSteps", "is_linear"]


def is_linear(problem: Problem, plan: Plan) -> bool:
    """Whether a problem has a linear head on rows of features, and no term in addition to the loss."""
    return (
        type(problem.head) is Linear
        and problem.head.dropout == 0
        and problem.network is None
        and problem.regularizer is None
        and problem.processes.size == 1
        and plan.accumulate == 1
        and DirectSteps.serves(problem.device)
    )


class LinearSteps(GradientSteps):
    """A linear head and the learned state of the loss, trained by one step per batch.

    Parameters
    ----------
    problem, plan, units
        As in the base class.
    """

    head: LinearModule

    def __init__(self, problem: Problem, plan: Plan, units: InputUnits | None = None) -> None:
        super().__init__(problem, plan, units)
        for parameter in self.head.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self._direct: DirectSteps | None = None
        self._goes_direct = True
        self._alone: LinearPass | None = None

    def _pass(self, order: Tensor, epoch: int) -> Tensor:
        if self._alone is None:
            self._alone = LinearPass([self])
        try:
            return self._alone.run(order, epoch)[0]
        except torch.OutOfMemoryError:
            self._double_pieces(self.plan.batch_size)
            raise

    def _move_by_gradients(self) -> None:
        if self._direct is not None:
            self._direct.step()
        elif self._goes_direct:
            plain = super()._move_by_gradients
            self._goes_direct = attempt(self.optimizer, self._first_direct_step, plain, "PyTorch's own fused kernel")
        else:
            super()._move_by_gradients()

    def _first_direct_step(self) -> None:
        direct = DirectSteps(self.optimizer)
        direct.step()
        self._direct = direct

    def moving(self) -> list[Tensor]:
        """Everything that a step changes: parameters, and the optimiser's state for them."""
        kept = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*(p.detach() for p in self.head.parameters()), *(t for t in kept if isinstance(t, Tensor))]

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""
        super().load_state_dict(saved)
        self._direct = self._alone = None

    def finish(self) -> None:
        """Finish the parameters, and free the memory of passes on the device."""
        super().finish()
        self._alone = None

    def known(self, rows: Tensor) -> LabeledRows:
        """Labels, soft targets and weights of rows."""
        return self._labels.source.rows(rows.to(self.problem.device))

    def fixed_terms(self, known: LabeledRows, epoch: int) -> tuple[Tensor, Tensor | None]:
        """Targets of some rows, and weights with mean 1, for a loss that fixes them during a pass."""
        problem, loss = self.problem, self.problem.loss
        assert isinstance(loss, PointwiseLoss)
        weights = known.weights
        if weights is not None and weights.ndim == 1:
            weights = weights[:, None]
        block = Block(known.labels, None, self.state, known.rows, epoch, problem.dtype, weights)
        target, weight = loss.soft_targets(block, known.targets)
        if weights is not None:
            weight = (weights if weight is None else weight * weights) / self._labels.mean_weight
        return target, weight

    def loss_step(self, batch: LabeledRows, logits: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Value of the loss on a batch and its gradient in the logits; also moves learned tensors of its rows."""
        self.catch_up(batch.rows)
        share = self._share(batch.weights)
        step = self.loss_of(batch, logits, epoch)
        self._take_gradients("loss", step.state, batch.rows, share)
        return step.value * share, step.gradient * share
