"""Losses for incomplete labels: what one training step minimises, and what it makes of an unknown entry."""

from skpartial.losses._assume_negative import AssumeNegative, PseudoNegative, WeakAssumeNegative
from skpartial.losses._base import ClosedFormLoss, Loss, StateTensor, Step, TrainingSet, Traits, stack
from skpartial.losses._entrywise import Block, Entries, EntrywiseLoss
from skpartial.losses._ignore_unknown import BCE, IgnoreUnknown, PartialBCE
from skpartial.losses._pointwise import PointwiseLoss, Targets
from skpartial.losses._registry import get

__all__ = [
    "BCE",
    "AssumeNegative",
    "Block",
    "ClosedFormLoss",
    "Entries",
    "EntrywiseLoss",
    "IgnoreUnknown",
    "Loss",
    "PartialBCE",
    "PointwiseLoss",
    "PseudoNegative",
    "StateTensor",
    "Step",
    "Targets",
    "TrainingSet",
    "Traits",
    "WeakAssumeNegative",
    "get",
    "stack",
]
