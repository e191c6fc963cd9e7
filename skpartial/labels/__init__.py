"""The label matrix: encode, convert, count and describe labels; simulate missing ones."""

from skpartial.labels._annotations import from_annotations
from skpartial.labels._cooccurrence import cooccurrence
from skpartial.labels._describe import LabelDescription, describe
from skpartial.labels._matrix import LabelMatrix
from skpartial.labels._names import from_classes, from_names
from skpartial.labels._recode import from_nan, recode
from skpartial.labels._simulate import drop_labels, flip_labels, keep_dense_rows, keep_single_positive

__all__ = [
    "LabelDescription",
    "LabelMatrix",
    "cooccurrence",
    "describe",
    "drop_labels",
    "flip_labels",
    "from_annotations",
    "from_classes",
    "from_names",
    "from_nan",
    "keep_dense_rows",
    "keep_single_positive",
    "recode",
]
