"""Multi-label image classification from incomplete labels, as scikit-learn estimators.

A label matrix holds 1 (present), -1 (absent) and 0 (unknown). :class:`PartialLabelClassifier` and
:class:`SinglePositiveClassifier` learn from it and work with scikit-learn's pipelines, grid search and scorers.
"""

from importlib import import_module as _import_module
from importlib.metadata import version as _version
from typing import Any as _Any

from skpartial import datasets, heads, labels, losses, metrics, model_selection, regularizers, relabeling, solvers
from skpartial._cross_validated import PartialLabelClassifierCV, SinglePositiveClassifierCV
from skpartial._partial_label import PartialLabelClassifier
from skpartial._single_positive import SinglePositiveClassifier

__version__ = _version("skpartial")

__all__ = [
    "ImageFeatures",
    "PartialLabelClassifier",
    "PartialLabelClassifierCV",
    "SinglePositiveClassifier",
    "SinglePositiveClassifierCV",
    "__version__",
    "datasets",
    "heads",
    "images",
    "inspection",
    "labels",
    "load",
    "losses",
    "metrics",
    "model_selection",
    "register_for_saving",
    "regularizers",
    "relabeling",
    "save",
    "solvers",
    "to_onnx",
]


def __getattr__(name: str) -> _Any:
    # torchvision takes seconds to import: only import it for images.
    if name in ("images", "inspection"):
        return _import_module(f"skpartial.{name}")
    if name in ("load", "register_for_saving", "save"):
        return getattr(_import_module("skpartial._saving"), name)
    if name == "to_onnx":
        return _import_module("skpartial._to_onnx").to_onnx
    if name == "ImageFeatures":
        return _import_module("skpartial.images").ImageFeatures
    raise AttributeError(f"module 'skpartial' has no attribute {name!r}")
