"""Warnings that skpartial gives, to filter or to turn into errors by class."""

from __future__ import annotations

__all__ = ["AmbiguousLabelsWarning", "UnfittableLabelsWarning"]


class UnfittableLabelsWarning(UserWarning):
    """Some labels have no known entry, or known entries of one sign only under a loss that ignores unknown ones.

    Such a label keeps zero weights and a bounded intercept. It is common in cross-validation folds with rare labels.
    """


class AmbiguousLabelsWarning(UserWarning):
    """A label matrix without any -1 was given to an estimator that reads 0 as unknown."""
