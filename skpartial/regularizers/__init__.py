"""Regularisers: terms of the whole batch."""

from skpartial.regularizers._base import BatchContext, Regularizer
from skpartial.regularizers._label_graph import LabelRelation, label_relations
from skpartial.regularizers._pursuit import JointPursuit, joint_nnomp
from skpartial.regularizers._smoothness import InteractiveSmoothness

__all__ = [
    "BatchContext",
    "InteractiveSmoothness",
    "JointPursuit",
    "LabelRelation",
    "Regularizer",
    "joint_nnomp",
    "label_relations",
]
