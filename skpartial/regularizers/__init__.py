"""Regularisers: terms that depend on the whole batch."""

from skpartial.regularizers._base import BatchContext, Regularizer
from skpartial.regularizers._label_graph import LabelRelation, label_relations
from skpartial.regularizers._pursuit import JointPursuit, joint_nnomp
from skpartial.regularizers._smoothness import InteractiveSmoothness
from skpartial.regularizers._transductive import TransductiveHinge

__all__ = [
    "BatchContext",
    "InteractiveSmoothness",
    "JointPursuit",
    "LabelRelation",
    "Regularizer",
    "TransductiveHinge",
    "joint_nnomp",
    "label_relations",
]
