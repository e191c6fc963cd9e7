"""Losses for incomplete labels: what one training step minimises, and how it treats unknown entries."""

from skpartial._state import StateTensor as StateTensor  # documented in skpartial.training
from skpartial.losses._assume_negative import AssumeNegative, PseudoNegative, WeakAssumeNegative
from skpartial.losses._asymmetric import AsymmetricLoss, SelectiveLoss
from skpartial.losses._base import ClosedFormLoss, Loss, Step, Traits
from skpartial.losses._entropy import EntropyMaximization
from skpartial.losses._entrywise import Block, Entries, EntrywiseLoss
from skpartial.losses._expected_positives import ExpectedPositives, ExpectedPositivesEstimate
from skpartial.losses._focal import SPLC, Hill
from skpartial.losses._ignore_unknown import BCE, IgnoreUnknown, PartialBCE
from skpartial.losses._large_loss import LargeLoss
from skpartial.losses._log_sum_exp import LSEP, ZLPR
from skpartial.losses._pointwise import PointwiseLoss, Targets
from skpartial.losses._ranking import PairwiseRanking
from skpartial.losses._registry import get
from skpartial.losses._robust import GeneralizedRobust
from skpartial.losses._role import ROLE
from skpartial.losses._warp import WARP, RampWARP

__all__ = [
    "BCE",
    "LSEP",
    "ROLE",
    "SPLC",
    "WARP",
    "ZLPR",
    "AssumeNegative",
    "AsymmetricLoss",
    "Block",
    "ClosedFormLoss",
    "Entries",
    "EntropyMaximization",
    "EntrywiseLoss",
    "ExpectedPositives",
    "ExpectedPositivesEstimate",
    "GeneralizedRobust",
    "Hill",
    "IgnoreUnknown",
    "LargeLoss",
    "Loss",
    "PairwiseRanking",
    "PartialBCE",
    "PointwiseLoss",
    "PseudoNegative",
    "RampWARP",
    "SelectiveLoss",
    "Step",
    "Targets",
    "Traits",
    "WeakAssumeNegative",
    "get",
]
