"""Data sets: digit scenes that travel with scikit-learn, and readers of the layouts that people have on disk."""

from skpartial.datasets._coco import load_coco
from skpartial.datasets._coco_json import load_coco_json
from skpartial.datasets._digits import make_digit_scenes
from skpartial.datasets._voc import load_voc

__all__ = ["load_coco", "load_coco_json", "load_voc", "make_digit_scenes"]
