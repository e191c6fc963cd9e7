"""Warnings and errors of skpartial, to filter or catch by class."""

from __future__ import annotations

from sklearn.exceptions import InconsistentVersionWarning as SklearnInconsistentVersionWarning

__all__ = [
    "AmbiguousLabelsWarning",
    "ImageReadError",
    "InconsistentVersionWarning",
    "ProcessLostError",
    "UnfittableLabelsWarning",
]


class UnfittableLabelsWarning(UserWarning):
    """Some labels have no known entry, or only one sign under a loss that ignores unknown entries.

    Such a label keeps zero weights and a bounded intercept. It is common in cross-validation folds with rare labels.
    """


class AmbiguousLabelsWarning(UserWarning):
    """A label matrix may not mean what its author intends: it has no -1, or many rows of zeros."""


class ImageReadError(ValueError):
    """An image cannot be read: the message names the file, or the row of an array."""


class InconsistentVersionWarning(SklearnInconsistentVersionWarning):
    """An estimator was pickled or saved by another version, in which the same contents may have another meaning.

    Parameters
    ----------
    estimator_name : str
        Class name of the estimator.
    package : str
        Package whose versions differ.
    written : str
        The version that wrote it.
    here : str
        The version that reads it.
    """

    def __init__(self, estimator_name: str, package: str, written: str, here: str) -> None:
        super().__init__(estimator_name=estimator_name, current_sklearn_version=here, original_sklearn_version=written)
        self.package = package

    def __str__(self) -> str:
        """The sentence."""
        return (
            f"{self.estimator_name} was written with version {self.original_sklearn_version} of {self.package} and is "
            f"read with version {self.current_sklearn_version}: it may fail, or predict differently. Fit it again, "
            "or read it with the version that wrote it."
        )


class ProcessLostError(RuntimeError):
    """Another process of a distributed fit has ended, or does not answer."""
