"""Metrics for partly unknown labels, and scorers for them.

Each metric takes labels in {-1, 0, 1} (absent, unknown, present), dense or sparse, and has an argument ``unknown``:
"ignore" scores the known entries, "absent" counts unknown entries as negative. Use "absent" for positive-only labels:
over known entries alone every prediction would be perfect, so "ignore" raises an error. On complete labels, each metric
equals scikit-learn's metric of the same kind.

The scorers (``mean_average_precision_scorer``, ``f1_micro_scorer`` and so on) go into the ``scoring`` argument of
``GridSearchCV`` and ``cross_val_score``. Scorers of losses are negated, so that higher is better. Each has a twin that
counts unknown entries as negative (``f1_micro_unknown_absent_scorer``). Make others with scikit-learn's
``make_scorer``:

>>> from sklearn.metrics import make_scorer
>>> from skpartial.metrics import f1
>>> scorer = make_scorer(f1, average="samples", unknown="absent")
"""

from skpartial.metrics._classification import exact_match, f1, hamming_loss, precision, precision_recall_f1, recall
from skpartial.metrics._label_report import LabelReport, label_report
from skpartial.metrics._ranking import (
    average_precision_per_label,
    label_ranking_loss,
    mean_average_precision,
    mean_roc_auc,
    roc_auc_per_label,
)
from skpartial.metrics._scorers import (
    exact_match_scorer,
    exact_match_unknown_absent_scorer,
    f1_macro_scorer,
    f1_macro_unknown_absent_scorer,
    f1_micro_scorer,
    f1_micro_unknown_absent_scorer,
    hamming_loss_scorer,
    hamming_loss_unknown_absent_scorer,
    label_ranking_loss_scorer,
    label_ranking_loss_unknown_absent_scorer,
    mean_average_precision_scorer,
    mean_average_precision_unknown_absent_scorer,
    precision_at_1_scorer,
    precision_at_1_unknown_absent_scorer,
    precision_at_3_scorer,
    precision_at_3_unknown_absent_scorer,
    precision_at_5_scorer,
    precision_at_5_unknown_absent_scorer,
    precision_macro_scorer,
    precision_macro_unknown_absent_scorer,
    precision_micro_scorer,
    precision_micro_unknown_absent_scorer,
    recall_at_1_scorer,
    recall_at_1_unknown_absent_scorer,
    recall_at_3_scorer,
    recall_at_3_unknown_absent_scorer,
    recall_at_5_scorer,
    recall_at_5_unknown_absent_scorer,
    recall_macro_scorer,
    recall_macro_unknown_absent_scorer,
    recall_micro_scorer,
    recall_micro_unknown_absent_scorer,
    roc_auc_scorer,
    roc_auc_unknown_absent_scorer,
)
from skpartial.metrics._top_k import TopKScores, precision_at_k, recall_at_k, top_k_scores

__all__ = [
    "LabelReport",
    "TopKScores",
    "average_precision_per_label",
    "exact_match",
    "exact_match_scorer",
    "exact_match_unknown_absent_scorer",
    "f1",
    "f1_macro_scorer",
    "f1_macro_unknown_absent_scorer",
    "f1_micro_scorer",
    "f1_micro_unknown_absent_scorer",
    "hamming_loss",
    "hamming_loss_scorer",
    "hamming_loss_unknown_absent_scorer",
    "label_ranking_loss",
    "label_ranking_loss_scorer",
    "label_ranking_loss_unknown_absent_scorer",
    "label_report",
    "mean_average_precision",
    "mean_average_precision_scorer",
    "mean_average_precision_unknown_absent_scorer",
    "mean_roc_auc",
    "precision",
    "precision_at_1_scorer",
    "precision_at_1_unknown_absent_scorer",
    "precision_at_3_scorer",
    "precision_at_3_unknown_absent_scorer",
    "precision_at_5_scorer",
    "precision_at_5_unknown_absent_scorer",
    "precision_at_k",
    "precision_macro_scorer",
    "precision_macro_unknown_absent_scorer",
    "precision_micro_scorer",
    "precision_micro_unknown_absent_scorer",
    "precision_recall_f1",
    "recall",
    "recall_at_1_scorer",
    "recall_at_1_unknown_absent_scorer",
    "recall_at_3_scorer",
    "recall_at_3_unknown_absent_scorer",
    "recall_at_5_scorer",
    "recall_at_5_unknown_absent_scorer",
    "recall_at_k",
    "recall_macro_scorer",
    "recall_macro_unknown_absent_scorer",
    "recall_micro_scorer",
    "recall_micro_unknown_absent_scorer",
    "roc_auc_per_label",
    "roc_auc_scorer",
    "roc_auc_unknown_absent_scorer",
    "top_k_scores",
]
