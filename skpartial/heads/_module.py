"""Heads in training: the scale, intercepts and constant logits that every module gets."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skpartial._seeding import seeded
from skpartial.features._moments import InputUnits
from skpartial.heads._base import Head, HeadContext, check_signature

__all__ = ["AffineInput", "CombinedHead", "HeadModule", "WrappedHead", "build_head", "rebuild_head"]


class HeadModule(nn.Module):
    """A head as used in training and prediction.

    In addition to the parameters, it has units that make training independent of those of the features, intercepts at
    the log odds of the label frequencies, and constant logits for labels that cannot be fitted.

    Attributes
    ----------
    centers : bool
        Whether intercepts make up for centred features, so that features may be centred.
    """

    centers: bool = False

    @property
    @abstractmethod
    def inner(self) -> nn.Module:
        """The module that the head built, whose parameters are trained."""

    @property
    @abstractmethod
    def units(self) -> InputUnits:
        """Center and scale of the features at the input."""

    @property
    def penalty_scale(self) -> float:
        """Factor of `alpha`, so that it refers to features in the units that the estimator documents."""
        return 1.0

    @property
    def input_weights(self) -> list[Tensor]:
        """Weights that multiply the scaled features, if they are known."""
        return []

    @property
    def intercepts(self) -> list[Tensor]:
        """Parameters that are added to logits, if they are known."""
        return []

    @abstractmethod
    def set_units(self, units: InputUnits) -> None:
        """Set center and scale of the features at the input."""

    @abstractmethod
    def set_prior(self, prior: Tensor) -> None:
        """Start from these logits, of shape (L,)."""

    @abstractmethod
    def fix(self, labels: Tensor, prior: Tensor) -> None:
        """Give exactly the labels in a mask of shape (L,) constant logits."""

    def settle(self, labels: Tensor, prior: Tensor) -> None:
        """Give labels constant logits at the end of training, for heads where `fix` does nothing."""
        self.fix(labels, prior)

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of parameters and buffers as arrays, for features in the units in which they were passed."""

    @abstractmethod
    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Load the result of `arrays`."""

    def member_logits(self, features: Tensor) -> Tensor:
        """Logits (M, b, L) of the members of an ensemble; of another head M is 1."""
        logits: Tensor = self(features)
        return logits[None]


class AffineInput(HeadModule):
    """A head whose first step is an affine map of the features, which may therefore be centred.

    Attributes
    ----------
    input_scale : float
        Factor of the features, at no cost.
    center : Tensor of shape (d,) or None
        What is subtracted from the features; None is zero.
    """

    input_scale: float = 1.0
    center: Tensor | None = None
    centers = True

    @property
    def inner(self) -> nn.Module:
        return self

    @property
    def units(self) -> InputUnits:
        return InputUnits(self.input_scale, self.center)

    def set_units(self, units: InputUnits) -> None:
        self.input_scale, center = units
        self.center = None if center is None else center.to(next(self.parameters()))

    @property
    def penalty_scale(self) -> float:
        # Weights for features in the units in which they were passed are these times the scale.
        return self.input_scale**2

    def centered(self, features: Tensor) -> Tensor:
        """A batch without the center; sparse rows stay as they are, as they would not be sparse."""
        return features if self.center is None or features.is_sparse else features - self.center

    def product(self, features: Tensor, weight: Tensor) -> Tensor:
        """Products (b, k) of the rows of a batch, centred but not scaled, with weights (k, d)."""
        if not features.is_sparse:
            return self.centered(features) @ weight.T
        found = torch.sparse.mm(features, weight.T)
        return found if self.center is None else found - weight @ self.center

    def shift(self, *weights: NDArray[Any]) -> Any:
        """What the center adds to the intercepts, if the features as passed go through these matrices."""
        if self.center is None:
            return 0
        shift = self.center.cpu().numpy().astype(np.float64)
        for weight in weights:
            shift = weight @ shift
        return shift.astype(weights[0].dtype)


class CombinedHead(HeadModule):
    """A head that is made of other heads of one kind, which see the features as it does."""

    @property
    @abstractmethod
    def parts(self) -> dict[str, HeadModule]:
        """The other heads, by their names in this module."""

    @property
    def _first(self) -> HeadModule:
        return next(iter(self.parts.values()))

    @property
    def inner(self) -> nn.Module:
        return self

    @property
    def centers(self) -> bool:  # type: ignore[override]  # as the parts
        """Whether features may be centred."""
        return self._first.centers

    @property
    def units(self) -> InputUnits:
        return self._first.units

    @property
    def penalty_scale(self) -> float:
        return self._first.penalty_scale

    @property
    def input_weights(self) -> list[Tensor]:
        return [weight for part in self.parts.values() for weight in part.input_weights]

    @property
    def intercepts(self) -> list[Tensor]:
        return [intercept for part in self.parts.values() for intercept in part.intercepts]

    def set_units(self, units: InputUnits) -> None:
        for part in self.parts.values():
            part.set_units(units)

    def set_prior(self, prior: Tensor) -> None:
        for part in self.parts.values():
            part.set_prior(prior)

    def fix(self, labels: Tensor, prior: Tensor) -> None:
        for part in self.parts.values():
            part.fix(labels, prior)

    def settle(self, labels: Tensor, prior: Tensor) -> None:
        for part in self.parts.values():
            part.settle(labels, prior)

    def arrays(self) -> dict[str, NDArray[Any]]:
        found = {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}
        for prefix, part in self.parts.items():
            found |= {f"{prefix}.{name}": array for name, array in part.arrays().items()}
        return found

    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.load_state_dict({name: torch.as_tensor(np.asarray(array)) for name, array in arrays.items()})
        for prefix, part in self.parts.items():
            start = f"{prefix}."
            own = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
            part.load_arrays(own)


class WrappedHead(HeadModule):
    """Wrapper of any module.

    Parameters
    ----------
    module : torch.nn.Module
        From features (b, d), or maps (b, C, h, w), to logits (b, L).
    n_labels : int
        Number of labels L.
    """

    input_scale: Tensor
    intercept: Tensor
    fixed: Tensor

    def __init__(self, module: nn.Module, n_labels: int) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("input_scale", torch.ones(()))
        self.register_buffer("intercept", torch.zeros(n_labels))
        self.register_buffer("fixed", torch.zeros(n_labels, dtype=torch.bool))

    @property
    def inner(self) -> nn.Module:
        return self.module

    @property
    def units(self) -> InputUnits:
        return InputUnits(float(self.input_scale))

    def set_units(self, units: InputUnits) -> None:
        self.input_scale.fill_(units.scale)

    def set_prior(self, prior: Tensor) -> None:
        self.intercept.copy_(prior)

    def fix(self, labels: Tensor, prior: Tensor) -> None:
        self.fixed.copy_(labels)
        # Keep the other intercepts: parameters have been learned relative to an earlier prior.
        self.intercept[labels] = prior[labels].to(self.intercept.dtype)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in self.state_dict().items()}

    def load_arrays(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.load_state_dict({name: torch.as_tensor(np.asarray(value)) for name, value in arrays.items()})

    def _prepared(self, features: Tensor) -> Tensor:
        dense = features.to_dense() if features.is_sparse else features
        return dense * self.input_scale

    def _completed(self, logits: Tensor) -> Tensor:
        if logits.shape[-1:] != self.intercept.shape:
            raise ValueError(
                f"The {type(self.module).__name__} of the head returns shape {tuple(logits.shape)}, but there are "
                f"{len(self.intercept)} labels: it must return one logit per label."
            )
        return torch.where(self.fixed, self.intercept, logits + self.intercept)

    def forward(self, features: Tensor) -> Tensor:
        """Logits of a batch."""
        return self._completed(self.module(self._prepared(features)))

    def member_logits(self, features: Tensor) -> Tensor:
        """Logits (M, b, L) of the members of an ensemble; of another head M is 1."""
        members = getattr(self.module, "member_logits", None)
        return self(features)[None] if members is None else self._completed(members(self._prepared(features)))


def build_head(head: Head, context: HeadContext) -> HeadModule:
    """Build the module of a head, with the scale, intercepts and constant logits that every module gets.

    Parameters
    ----------
    head : Head
        A head of the package, or of a third party.
    context : HeadContext
        Sizes and counts.

    Returns
    -------
    HeadModule
        A newly initialised module.

    Raises
    ------
    TypeError
        If `head.build` has the form of an earlier version, or does not return a module.
    """
    check_signature(head)
    module = head.build(context)
    if not isinstance(module, nn.Module):
        raise TypeError(f"{type(head).__name__}.build must return a torch.nn.Module, got {module!r}.")
    return module if isinstance(module, HeadModule) else WrappedHead(module, context.n_labels)


def rebuild_head(head: Head, context: HeadContext, arrays: dict[str, NDArray[Any]]) -> HeadModule:
    """Rebuild the module of a fitted head, in evaluation mode and in the type of its training, without random draws.

    Parameters
    ----------
    head : Head
        The head that was fitted.
    context : HeadContext
        The context that it was built with.
    arrays : dict of str to ndarray
        The result of `arrays` of the fitted module.

    Returns
    -------
    HeadModule
        The module, on the CPU.
    """
    with seeded(context.seed) if head.draws else nullcontext():
        module = build_head(head, context)
    # load_state_dict would not change the type of the parameters.
    dtype = next((torch.as_tensor(a).dtype for a in arrays.values() if np.asarray(a).dtype.kind == "f"), torch.float32)
    module.to(dtype).load_arrays(arrays)
    return module.eval()
