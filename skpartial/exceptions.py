"""Warnings and errors of skpartial, to filter or to catch by class."""

from __future__ import annotations

__all__ = ["AmbiguousLabelsWarning", "ImageReadError", "ProcessLostError", "UnfittableLabelsWarning"]


class UnfittableLabelsWarning(UserWarning):
    """Some labels have no known entry, or known entries of one sign only under a loss that ignores unknown ones.

    Such a label keeps zero weights and a bounded intercept. It is common in cross-validation folds with rare labels.
    """


class AmbiguousLabelsWarning(UserWarning):
    """A label matrix may mean something else than its author thinks: no -1 in it, or many rows of zeros."""


class ImageReadError(ValueError):
    """An image cannot be read: the message names the file, or the row of an array."""


class ProcessLostError(RuntimeError):
    """Another of the processes that fit together has ended, or does not answer."""
