"""Optimisers of learned tensors with one entry per row, with a cost per step that depends on the batch only.

An optimiser with momentum moves every row in every step, even rows outside the batch: their gradient is zero, but their
momentum is not. This drift has a closed form. It is added when a row is next in a batch, with the same result as the
dense optimiser.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["RowAdam", "RowSGD", "RowSteps"]

# Number of rows caught up at a time.
_ROWS = 4096


class RowSteps(ABC):
    """Base class of optimisers of tensors with one entry per row.

    Parameters
    ----------
    tensor : Tensor of shape (N, ...)
        The learned tensor, with one entry per row of the training set; updated in place, in a floating type that may be
        narrower than the type of the steps.
    rate : float
        Learning rate.
    project : callable or None, default=None
        From values of rows to feasible ones, applied after every move.
    """

    def __init__(self, tensor: Tensor, rate: float, project: Callable[[Tensor], Tensor] | None = None) -> None:
        self.tensor, self.rate, self.project = tensor, rate, project
        self.step = 0
        self._dtype = torch.promote_types(tensor.dtype, torch.float32)
        self._seen = torch.zeros(len(tensor), dtype=torch.int64, device=tensor.device)

    @abstractmethod
    def _drift(self, rows: Tensor, values: Tensor, seen: Tensor, lag: Tensor) -> Tensor:
        """Values of rows after `lag` further steps without a gradient; also updates their moments."""

    @abstractmethod
    def _step(self, rows: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        """Values of rows after the current step; also updates their moments."""

    def _store(self, rows: Tensor, values: Tensor) -> None:
        self.tensor[rows] = (values if self.project is None else self.project(values)).to(self.tensor.dtype)

    def catch_up(self, rows: Tensor) -> None:
        """Apply all steps so far to some rows."""
        seen = self._seen[rows]
        lag = self.step - seen
        late = (lag > 0) & (seen > 0)
        if bool(late.any()):
            chosen = rows if bool(late.all()) else rows[late]
            if chosen is not rows:
                seen, lag = seen[late], lag[late]
            self._store(chosen, self._drift(chosen, self.tensor[chosen].to(self._dtype), seen, lag))
        self._seen[rows] = torch.where(self._seen[rows] > 0, self.step, 0)

    def catch_up_all(self) -> None:
        """Apply all steps so far to every row."""
        for rows in torch.arange(len(self.tensor), device=self.tensor.device).split(_ROWS):
            self.catch_up(rows)

    def update(self, rows: Tensor, gradient: Tensor) -> None:
        """Take a step with the gradient of some rows, which have been caught up."""
        self.step += 1
        self._store(rows, self._step(rows, self.tensor[rows].to(self._dtype), gradient.to(self._dtype)))
        self._seen[rows] = self.step

    def state_dict(self) -> dict[str, Any]:
        """Moments, and the number of steps applied to each row; without the values."""
        kept = ("tensor", "rate", "project")
        return {name: value for name, value in vars(self).items() if name not in kept and name != "_dtype"}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Load the result of `state_dict`."""
        for name, value in saved.items():
            setattr(self, name, value.to(self.tensor.device) if isinstance(value, Tensor) else value)


def _as_column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1)).to(like.dtype)


class RowAdam(RowSteps):
    r"""Adam, with the same moves of each row as Adam over all rows.

    In j steps without a gradient, the moments decay to :math:`\beta_1^j m` and :math:`\beta_2^j v`. After n such steps,
    from step t on, a value has moved by

    .. math::

        -\eta \frac{m}{\sqrt{v}} \sum_{j=1}^{n} \left( \frac{\beta_1}{\sqrt{\beta_2}} \right)^j
        \frac{\sqrt{1 - \beta_2^{t + j}}}{1 - \beta_1^{t + j}}

    without Adam's small constant, which is held constant over these steps.

    Parameters
    ----------
    tensor, rate, project
        As in the base class.
    betas : tuple of float, default=(0.9, 0.999)
        Decay of the moments.
    eps : float, default=1e-8
        Adam's small constant.
    """

    # Each term of the sum is a tenth smaller than the one before; later terms are negligible.
    _TERMS = 160

    def __init__(
        self,
        tensor: Tensor,
        rate: float,
        project: Callable[[Tensor], Tensor] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(tensor, rate, project)
        self.betas, self.eps = betas, eps
        self._mean = torch.zeros_like(tensor)
        # The root of the second moment, which itself would leave the range of float16.
        self._root = torch.zeros_like(tensor)
        self._unit = 1.0

    def _drift(self, rows: Tensor, values: Tensor, seen: Tensor, lag: Tensor) -> Tensor:
        first, second = self.betas
        mean, root = self._mean[rows].to(self._dtype), self._root[rows].to(self._dtype)
        j = torch.arange(1, min(int(lag.max()), self._TERMS) + 1, dtype=torch.float64, device=rows.device)
        t = seen[:, None] + j
        terms = (first / second**0.5) ** j * (1 - second**t).sqrt() / (1 - first**t)
        length = (terms * (j <= lag[:, None])).sum(1)
        small = self._unit * self.eps * (1 - second ** seen.double()).sqrt()
        moved = values - self.rate * _as_column(length, mean) * mean / (root + _as_column(small, root))
        steps = lag.double()
        self._keep(rows, mean * _as_column(first**steps, mean), root * _as_column(second ** (steps / 2), root))
        return moved

    def _keep(self, rows: Tensor, mean: Tensor, root: Tensor) -> None:
        # If the root vanished before the mean, a step could have any size.
        limits = torch.finfo(self._root.dtype)
        self._mean[rows] = mean.to(self._mean.dtype)
        self._root[rows] = root.clamp(min=limits.tiny * limits.eps).to(self._root.dtype)

    def _step(self, rows: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        first, second = self.betas
        if self.step == 1:
            # Adam depends on ratios only. The gradient of a mean may be tiny, and moments of about 1 suit a narrow
            # type.
            size = float(gradient.square().mean().sqrt())
            self._unit = 1 / size if size > 0 else 1.0
        gradient = gradient * self._unit
        mean, root = self._mean[rows].to(self._dtype), self._root[rows].to(self._dtype)
        mean = mean.mul_(first).add_(gradient, alpha=1 - first)
        root = root.square_().mul_(second).addcmul_(gradient, gradient, value=1 - second).sqrt_()
        self._keep(rows, mean, root)
        small = self._unit * self.eps * (1 - second**self.step) ** 0.5
        length = self.rate * (1 - second**self.step) ** 0.5 / (1 - first**self.step)
        return values - length * mean / (root + small)


class RowSGD(RowSteps):
    r"""Gradient descent with momentum, with the same moves of each row as over all rows.

    Parameters
    ----------
    tensor, rate, project
        As in the base class.
    momentum : float, default=0.9
        Decay of the velocity.
    """

    def __init__(
        self,
        tensor: Tensor,
        rate: float,
        project: Callable[[Tensor], Tensor] | None = None,
        momentum: float = 0.9,
    ) -> None:
        super().__init__(tensor, rate, project)
        self.momentum = momentum
        self._velocity = torch.zeros_like(tensor)

    def _drift(self, rows: Tensor, values: Tensor, seen: Tensor, lag: Tensor) -> Tensor:
        velocity, decay = self._velocity[rows].to(self._dtype), self.momentum ** lag.double()
        length = self.momentum * (1 - decay) / (1 - self.momentum)
        self._velocity[rows] = (velocity * _as_column(decay, velocity)).to(self._velocity.dtype)
        return values - self.rate * _as_column(length, velocity) * velocity

    def _step(self, rows: Tensor, values: Tensor, gradient: Tensor) -> Tensor:
        velocity = self._velocity[rows].to(self._dtype).mul_(self.momentum).add_(gradient)
        self._velocity[rows] = velocity.to(self._velocity.dtype)
        return values - self.rate * velocity
