"""Data sets: digit scenes that travel with scikit-learn, and readers of the layouts that people have on disk."""

from skpartial.datasets._digits import make_digit_scenes
from skpartial.datasets._openimages import load_openimages

__all__ = ["load_openimages", "make_digit_scenes"]
