"""Model selection for label matrices: stratified splitters, out-of-fold predictions, thresholds, faster searches.

The rest of scikit-learn's model selection (`GridSearchCV`, `cross_val_score`, `learning_curve`) works on label matrices
unchanged, with the scorers of :mod:`skpartial.metrics`.
"""

from skpartial.model_selection._batched_search import BatchedGridSearchCV
from skpartial.model_selection._cross_val_predict import cross_val_predict
from skpartial.model_selection._group_split import PartialLabelGroupKFold, PartialLabelGroupShuffleSplit
from skpartial.model_selection._split import PartialLabelKFold, PartialLabelShuffleSplit
from skpartial.model_selection._thresholds import TunedThresholdsCV

__all__ = [
    "BatchedGridSearchCV",
    "PartialLabelGroupKFold",
    "PartialLabelGroupShuffleSplit",
    "PartialLabelKFold",
    "PartialLabelShuffleSplit",
    "TunedThresholdsCV",
    "cross_val_predict",
]
