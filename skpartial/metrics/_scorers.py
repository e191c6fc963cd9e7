"""The metrics as scorers, for the `scoring` argument of scikit-learn's model selection.

Each is there twice: over known entries, and with unknown entries read as absent, for labels of which only presences are
known.
"""

from __future__ import annotations

from sklearn.metrics import make_scorer

from skpartial.metrics._classification import exact_match, f1, hamming_loss, precision, recall
from skpartial.metrics._ranking import label_ranking_loss, mean_average_precision, mean_roc_auc

_SCORES = ("decision_function", "predict_proba")

mean_average_precision_scorer = make_scorer(mean_average_precision, response_method=_SCORES)
mean_average_precision_unknown_absent_scorer = make_scorer(
    mean_average_precision, response_method=_SCORES, unknown="absent"
)
roc_auc_scorer = make_scorer(mean_roc_auc, response_method=_SCORES)
roc_auc_unknown_absent_scorer = make_scorer(mean_roc_auc, response_method=_SCORES, unknown="absent")
label_ranking_loss_scorer = make_scorer(label_ranking_loss, response_method=_SCORES, greater_is_better=False)
label_ranking_loss_unknown_absent_scorer = make_scorer(
    label_ranking_loss, response_method=_SCORES, greater_is_better=False, unknown="absent"
)

precision_macro_scorer = make_scorer(precision, average="macro")
precision_macro_unknown_absent_scorer = make_scorer(precision, average="macro", unknown="absent")
precision_micro_scorer = make_scorer(precision, average="micro")
precision_micro_unknown_absent_scorer = make_scorer(precision, average="micro", unknown="absent")
recall_macro_scorer = make_scorer(recall, average="macro")
recall_macro_unknown_absent_scorer = make_scorer(recall, average="macro", unknown="absent")
recall_micro_scorer = make_scorer(recall, average="micro")
recall_micro_unknown_absent_scorer = make_scorer(recall, average="micro", unknown="absent")
f1_macro_scorer = make_scorer(f1, average="macro")
f1_macro_unknown_absent_scorer = make_scorer(f1, average="macro", unknown="absent")
f1_micro_scorer = make_scorer(f1, average="micro")
f1_micro_unknown_absent_scorer = make_scorer(f1, average="micro", unknown="absent")
exact_match_scorer = make_scorer(exact_match)
exact_match_unknown_absent_scorer = make_scorer(exact_match, unknown="absent")
hamming_loss_scorer = make_scorer(hamming_loss, greater_is_better=False)
hamming_loss_unknown_absent_scorer = make_scorer(hamming_loss, greater_is_better=False, unknown="absent")
