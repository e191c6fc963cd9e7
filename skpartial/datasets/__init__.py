"""Data sets: digit scenes made from data in scikit-learn, and readers for common layouts on disk."""

from skpartial.datasets._annotations_csv import load_annotations_csv
from skpartial.datasets._arff import load_arff
from skpartial.datasets._chexpert import load_chexpert
from skpartial.datasets._coco import load_coco
from skpartial.datasets._coco_json import load_coco_json
from skpartial.datasets._cub import load_cub
from skpartial.datasets._digits import make_digit_scenes
from skpartial.datasets._libsvm import load_libsvm
from skpartial.datasets._nuswide import load_nuswide
from skpartial.datasets._openimages import load_openimages
from skpartial.datasets._presence_only import load_presence_only
from skpartial.datasets._voc import load_voc

__all__ = [
    "load_annotations_csv",
    "load_arff",
    "load_chexpert",
    "load_coco",
    "load_coco_json",
    "load_cub",
    "load_libsvm",
    "load_nuswide",
    "load_openimages",
    "load_presence_only",
    "load_voc",
    "make_digit_scenes",
]
