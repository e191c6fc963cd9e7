"""Relabellings: what happens to labels between epochs or rounds."""

from skpartial.relabeling._base import Relabeling, RelabelingContext, apply_relabeling

__all__ = ["Relabeling", "RelabelingContext", "apply_relabeling"]
