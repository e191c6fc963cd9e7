"""The order of the gallery: from what everyone needs to what few do."""

from __future__ import annotations

from pathlib import Path

_ORDER = [
    "plot_quickstart",
    "plot_photographs",
    "plot_single_positive",
    "plot_union_of_datasets",
    "plot_grid_search",
    "plot_fine_tuning",
    "plot_annotation_budget",
    "plot_curriculum",
    "plot_unlabelled_rows",
    "plot_label_graph",
    "plot_memorization",
]


class ByUse:
    """Key that sorts the examples of a folder; those without a place come last, by name."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, file_name: str) -> tuple[int, str]:
        stem = Path(file_name).stem
        return (_ORDER.index(stem) if stem in _ORDER else len(_ORDER)), stem

    def __repr__(self) -> str:
        return "<ByUse>"
