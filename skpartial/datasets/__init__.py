"""Data sets: digit scenes that travel with scikit-learn."""

from skpartial.datasets._digits import make_digit_scenes

__all__ = ["make_digit_scenes"]
