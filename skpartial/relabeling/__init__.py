"""Relabellings: changes of labels between epochs or rounds."""

from skpartial.relabeling._base import Relabeling, RelabelingContext, apply_relabeling
from skpartial.relabeling._class_distribution import ClassDistribution
from skpartial.relabeling._curriculum import Curriculum
from skpartial.relabeling._propagation import Propagation
from skpartial.relabeling._spreading import LabelSpreading

__all__ = [
    "ClassDistribution",
    "Curriculum",
    "LabelSpreading",
    "Propagation",
    "Relabeling",
    "RelabelingContext",
    "apply_relabeling",
]
