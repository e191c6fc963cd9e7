"""Base class of losses: pure functions of logits and labels that declare what they need and what they remember."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from sklearn.base import BaseEstimator
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from skpartial._documentation import Documented
from skpartial._state import State, Stateful, TrainingContext, labels_tensor
from skpartial.labels import LabelMatrix

__all__ = [
    "ClosedFormLoss",
    "Loss",
    "Step",
    "Traits",
    "check_shapes",
    "mean_weight",
]


@dataclass(frozen=True)
class Traits:
    """Properties and needs of a loss, so that a solver can refuse it before any work.

    Parameters
    ----------
    convex : bool, default=False
        Whether the loss is convex in the logits: cross-entropy with targets and weights that do not depend on them.
    iterative : bool, default=False
        Whether the targets of unknown entries depend on the logits, and the loss is convex once they are fixed.
    unknown : {"ignore", "absent", "estimate"}, default="estimate"
        How unknown entries are treated. With "ignore", a label without both known positives and known negatives cannot
        be fitted.
    needs_absent : bool, default=False
        Whether training needs known negatives to be meaningful.
    rows_need_present : bool, default=False
        Whether a row without a known positive has no effect, however its unknown entries are treated.
    scheduled : bool, default=False
        Whether the loss depends on the epoch.
    uses_prior : bool, default=False
        Whether the loss uses the `label_prior` passed to `fit`, which it finds in `start`.
    recorded : tuple of two floats or None, default=None
        If predicted probabilities are those of being recorded as positive, which are smaller than those of being
        positive: the probabilities for entries that are never and always recorded, 0 and 1 without label smoothing. So
        it is where unknown entries count as negatives with full weight, but for some with large losses. Else None.
    relative_alpha : float, default=1.5e-4
        The value of ``alpha="auto"`` for this loss with 1,000 rows, relative to the mean squared distance of the
        features from their mean.
    alpha_exponent : float, default=0.0
        `relative_alpha` is multiplied by the share of known entries to this power: where unknown entries are left out,
        the sum over the known ones falls with their share.
    """

    convex: bool = False
    iterative: bool = False
    unknown: Literal["ignore", "absent", "estimate"] = "estimate"
    needs_absent: bool = False
    rows_need_present: bool = False
    scheduled: bool = False
    uses_prior: bool = False
    recorded: tuple[float, float] | None = None
    relative_alpha: float = 1.5e-4
    alpha_exponent: float = 0.0

    def __post_init__(self) -> None:
        if self.unknown not in ("ignore", "absent", "estimate"):
            raise ValueError(f"Traits: unknown must be 'ignore', 'absent' or 'estimate', got {self.unknown!r}.")


class Step(NamedTuple):
    """Value and gradients of a loss on a batch.

    Parameters
    ----------
    value : Tensor of shape ()
        Detached.
    gradient : Tensor of shape (n, L)
        Derivative of the value in each logit.
    state : dict of str to Tensor
        Derivative in each learned tensor of the state; for a tensor with one entry per row, in the rows of the batch.
    """

    value: Tensor
    gradient: Tensor
    state: dict[str, Tensor]


def check_shapes(logits: Tensor, labels: Tensor) -> None:
    """Check that the logits are floating, and that the labels have their shape."""
    if not logits.is_floating_point() or logits.ndim != 2:
        raise ValueError(
            f"logits must be a floating tensor of shape (n, L), got {logits.dtype} of shape {tuple(logits.shape)}."
        )
    if logits.shape != labels.shape:
        raise ValueError(f"logits has shape {tuple(logits.shape)}, but labels has shape {tuple(labels.shape)}.")


def mean_weight(weights: Tensor | None, logits: Tensor) -> tuple[Tensor | None, Tensor | float]:
    """Broadcast sample weights over entries, and return them with the divisor of a weighted mean.

    Parameters
    ----------
    weights : Tensor of shape (n,) or (n, L), or None
        Non-negative weights of rows or entries; None gives every entry weight 1.
    logits : Tensor of shape (n, L)
        Determines shape, dtype and device.

    Returns
    -------
    weights : Tensor of shape (n, 1) or (n, L), or None
        Broadcastable over the entries.
    divisor : Tensor or float
        The sum of the weights over all n x L entries; n x L without weights. Never zero.
    """
    if weights is None:
        return None, float(max(logits.numel(), 1))
    weights = torch.as_tensor(weights, dtype=logits.dtype, device=logits.device)
    if weights.ndim == 1:
        weights = weights[:, None]
    if weights.shape[0] != logits.shape[0] or weights.shape[1] not in (1, logits.shape[1]):
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}, but logits has shape {tuple(logits.shape)}: pass one weight "
            "per row or per entry."
        )
    total = weights.sum() * (logits.shape[1] if weights.shape[1] == 1 else 1)
    # If all weights are zero, so is the numerator, and the loss should be zero.
    return weights, torch.where(total > 0, total, torch.ones_like(total))


class Loss(Stateful, Documented, BaseEstimator, ABC):
    """Base class of all losses.

    A loss is a value object: it holds hyperparameters only, so `clone`, `repr`, pickling and grids over `loss__gamma`
    work without further code. Everything that is learned or changes during training is in a state that `init_state`
    creates and the training loop carries.

    A subclass defines `__call__`, and overrides other methods where their defaults do not suffice. A loss that is
    cross-entropy with its own targets and weights derives from :class:`PointwiseLoss` and defines `targets` only. A
    loss that is another function of each logit derives from :class:`EntrywiseLoss`.
    """

    #: Short names, each with its hyperparameters.
    short_names: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @abstractmethod
    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Value of the loss on a batch.

        Parameters
        ----------
        logits : Tensor of shape (n, L)
            Real scores, whose sigmoid is the probability of presence.
        labels : Tensor of shape (n, L)
            Values in {-1, 0, 1}: negative, unknown, positive.
        state : dict of str to Tensor, or None, default=None
            The state from `init_state`.
        rows : Tensor of int64, shape (n,), or None, default=None
            Indices of these rows in the training set.
        epoch : int, default=1
            The pass over the training set, counted from 1.
        weights : Tensor of shape (n,) or (n, L), or None, default=None
            Non-negative weights of rows or entries.

        Returns
        -------
        Tensor of shape ()
            Differentiable in `logits` and in the learned tensors of the state.
        """

    def traits(self) -> Traits:
        """Properties and needs of this loss.

        Returns
        -------
        Traits
            By default those of a loss that only a minibatch solver can train.
        """
        return Traits()

    def check(self, labels: LabelMatrix | None = None) -> None:
        """Raise an error for hyperparameters or labels that this loss cannot work with.

        Parameters
        ----------
        labels : LabelMatrix or None, default=None
            The training labels; None checks the hyperparameters only.

        Raises
        ------
        ValueError
            The message names the parameter, its value and what to do.
        """
        if labels is not None and self.traits().needs_absent and not labels.has_absent:
            raise ValueError(
                f"{type(self).__name__} learns from known negatives, but y holds no -1. Pass complete annotations with "
                "-1 for negative, or use a loss that treats unknown as negative, such as AssumeNegative."
            )

    def init_state(
        self, labels: Tensor, generator: torch.Generator | None = None, previous: State | None = None
    ) -> State | None:
        """State for a training set.

        Parameters
        ----------
        labels : Tensor of shape (N, L)
            All training labels, dense or sparse CSR.
        generator : torch.Generator or None, default=None
            Source of random numbers.
        previous : dict of str to Tensor, or None, default=None
            The state at the end of an earlier stage of training, to continue from.

        Returns
        -------
        dict of str to Tensor, or None
            None for a loss without state.
        """
        return None

    def start(self, context: TrainingContext, previous: State | None = None) -> State | None:
        """State for a training set; by default from `init_state` and its labels.

        Parameters
        ----------
        context : TrainingContext
            The training set before the first pass. There is no head yet.
        previous : dict of str to Tensor, or None, default=None
            The state at the end of an earlier stage of training, to continue from.

        Returns
        -------
        dict of str to Tensor, or None
            None for a loss without state.
        """
        return self.init_state(labels_tensor(context.given.labels), context.generator, previous)

    def value_and_gradient(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Step:
        """Value of the loss and its gradients, for the training loop.

        The default differentiates `__call__`. A loss with gradients in closed form derives from
        :class:`ClosedFormLoss`.

        Parameters
        ----------
        logits, labels, state, rows, epoch, weights
            As in `__call__`; `logits` need not require a gradient.

        Returns
        -------
        Step
            The value, and its derivatives in the logits and in the learned tensors of the state.
        """
        specs = {name: spec for name, spec in self.state_spec().items() if spec.learned}
        leaf = logits.detach().requires_grad_()
        learned = {name: state[name].detach().requires_grad_() for name in specs} if state is not None else {}
        with torch.enable_grad():
            value = self(leaf, labels, {**(state or {}), **learned} or state, rows=rows, epoch=epoch, weights=weights)
            if value.requires_grad:
                value.backward()

        def gradient(tensor: Tensor) -> Tensor:
            return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad

        of_state = {}
        for name, tensor in learned.items():
            chosen = rows is not None and specs[name].per_row
            of_state[name] = gradient(tensor)[rows] if chosen else gradient(tensor)
        return Step(value.detach(), gradient(leaf), of_state)

    def soft_step(
        self,
        logits: Tensor,
        labels: Tensor,
        targets: Tensor | None,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Step:
        """Value and gradients with soft targets from a relabelling.

        The default treats a soft target t as the likelier sign, with weight abs(2 t - 1). Losses that are means over
        entries mix both signs instead: see :class:`EntrywiseLoss`.

        Parameters
        ----------
        logits, labels, state, rows, epoch, weights
            As in `__call__`.
        targets : Tensor of shape (n, L), or None
            Probabilities of presence in [0, 1], NaN where the label is the target; None means NaN everywhere.

        Returns
        -------
        Step
            The value, and its derivatives in the logits and in the learned tensors of the state.
        """
        if targets is not None:
            soft = ~targets.isnan()
            lean = torch.where(soft, 2 * targets - 1, 0)
            labels = torch.where(soft, lean.sign().to(labels.dtype), labels)
            certainty = torch.where(soft, lean.abs(), 1).to(logits.dtype)
            sample, _ = mean_weight(weights, logits)
            weights = certainty if sample is None else certainty * sample
        return self.value_and_gradient(logits, labels, state, rows=rows, epoch=epoch, weights=weights)


class _Attach(torch.autograd.Function):
    """A value with gradients that are already known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, *tensors: Tensor) -> Tensor:  # tensors: each input, then each gradient
        ctx.save_for_backward(*tensors[len(tensors) // 2 :])
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        return None, *(upstream * gradient for gradient in gradients), *(None for _ in gradients)


class ClosedFormLoss(Loss):
    """Base class of losses that compute their value and gradients together, without an autograd graph.

    A subclass defines `value_and_gradient`. Calling the loss gives the same value, differentiable once.
    """

    @abstractmethod
    @override
    def value_and_gradient(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Step: ...

    @override
    def __call__(
        self,
        logits: Tensor,
        labels: Tensor,
        state: State | None = None,
        *,
        rows: Tensor | None = None,
        epoch: int = 1,
        weights: Tensor | None = None,
    ) -> Tensor:
        self.check()
        check_shapes(logits, labels)
        specs = self.state_spec()
        learned = {name: t for name, t in (state or {}).items() if name in specs and specs[name].learned}
        if rows is not None:
            learned = {name: t[rows] if specs[name].per_row else t for name, t in learned.items()}
        with torch.no_grad():
            step = self.value_and_gradient(logits, labels, state, rows=rows, epoch=epoch, weights=weights)
        gradients = [step.gradient, *(step.state[name].to(t.dtype) for name, t in learned.items())]
        value: Tensor = _Attach.apply(step.value, logits, *learned.values(), *gradients)
        return value
