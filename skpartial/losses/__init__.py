"""Losses for incomplete labels: what one training step minimises, and what it makes of an unknown entry."""

from skpartial.losses._assume_negative import AssumeNegative, PseudoNegative, WeakAssumeNegative
from skpartial.losses._base import Loss, StateTensor, Traits, stack
from skpartial.losses._ignore_unknown import BCE, IgnoreUnknown, PartialBCE
from skpartial.losses._pointwise import Block, PointwiseLoss, Targets
from skpartial.losses._registry import get

__all__ = [
    "BCE",
    "AssumeNegative",
    "Block",
    "IgnoreUnknown",
    "Loss",
    "PartialBCE",
    "PointwiseLoss",
    "PseudoNegative",
    "StateTensor",
    "Targets",
    "Traits",
    "WeakAssumeNegative",
    "get",
    "stack",
]
