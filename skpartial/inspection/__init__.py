"""Inspection of classifiers: class activation maps, the pointing game, and displays.

Displays are made by ``from_estimator``, ``from_predictions`` or ``from_labels``, as in scikit-learn. Drawing them needs
matplotlib.
"""

from skpartial.inspection._activation_maps import class_activation_maps
from skpartial.inspection._curve_grid import PrecisionRecallGridDisplay, ROCGridDisplay
from skpartial.inspection._image_displays import ActivationMapDisplay, RecoveredLabelsDisplay
from skpartial.inspection._label_matrix_display import LabelMatrixDisplay
from skpartial.inspection._pointing import PointingGame, pointing_game
from skpartial.inspection._score_displays import AveragePrecisionDisplay, ReliabilityDisplay
from skpartial.inspection._training_displays import HistoryDisplay, LossTrace, LossTraceDisplay

__all__ = [
    "ActivationMapDisplay",
    "AveragePrecisionDisplay",
    "HistoryDisplay",
    "LabelMatrixDisplay",
    "LossTrace",
    "LossTraceDisplay",
    "PointingGame",
    "PrecisionRecallGridDisplay",
    "ROCGridDisplay",
    "RecoveredLabelsDisplay",
    "ReliabilityDisplay",
    "class_activation_maps",
    "pointing_game",
]
