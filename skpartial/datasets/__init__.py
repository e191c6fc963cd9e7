"""Data sets: digit scenes that travel with scikit-learn, and readers of the layouts that people have on disk."""

from skpartial.datasets._chexpert import load_chexpert
from skpartial.datasets._coco import load_coco
from skpartial.datasets._coco_json import load_coco_json
from skpartial.datasets._cub import load_cub
from skpartial.datasets._digits import make_digit_scenes
from skpartial.datasets._nuswide import load_nuswide
from skpartial.datasets._voc import load_voc

__all__ = [
    "load_chexpert",
    "load_coco",
    "load_coco_json",
    "load_cub",
    "load_nuswide",
    "load_voc",
    "make_digit_scenes",
]
