"""Relabellings: what happens to labels between epochs or rounds."""

from skpartial.relabeling._base import Relabeling, RelabelingContext, apply_relabeling
from skpartial.relabeling._curriculum import Curriculum

__all__ = ["Curriculum", "Relabeling", "RelabelingContext", "apply_relabeling"]
