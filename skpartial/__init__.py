"""Multi-label image classification from incomplete labels, as scikit-learn estimators.

A label matrix holds 1 (present), -1 (absent) and 0 (unknown). :class:`PartialLabelClassifier` and
:class:`SinglePositiveClassifier` learn from it, and plug into pipelines, grid search and scorers.
"""

from importlib.metadata import version as _version

from skpartial import datasets, heads, labels, losses, metrics, model_selection, regularizers, relabeling, solvers
from skpartial._partial_label import PartialLabelClassifier
from skpartial._single_positive import SinglePositiveClassifier

__version__ = _version("skpartial")

__all__ = [
    "PartialLabelClassifier",
    "SinglePositiveClassifier",
    "__version__",
    "datasets",
    "heads",
    "labels",
    "losses",
    "metrics",
    "model_selection",
    "regularizers",
    "relabeling",
    "solvers",
]
