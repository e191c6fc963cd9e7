"""The metrics as scorers, for the `scoring` argument of scikit-learn's model selection.

There are two of each: over known entries, and with unknown entries counted as negative, for positive-only labels. Like
`score` of the classifiers, they refuse labels whose order differs from the fit of the estimator. A metric alone cannot
check this, because predictions have no names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from typing_extensions import override

from skpartial._checks import check_same_rows
from skpartial._sklearn_compat import Scorer, num_samples
from skpartial.labels._forms import check_label_names, column_names, fitted_label_names
from skpartial.metrics._classification import exact_match, f1, hamming_loss, precision, recall
from skpartial.metrics._ranking import label_ranking_loss, mean_average_precision, mean_roc_auc
from skpartial.metrics._top_k import precision_at_k, recall_at_k


class LabelScorer(Scorer):
    """A scorer that compares numbers of rows, and the names of labels if both y and the fitted estimator have names."""

    @override
    def _score(self, method_caller: Callable[..., Any], estimator: Any, X: Any, y_true: Any, **kwargs: Any) -> Any:
        check_label_names(fitted_label_names(estimator), column_names(y_true), "y")

        def checked(*args: Any, **options: Any) -> Any:
            predicted = method_caller(*args, **options)
            check_same_rows(num_samples(predicted), num_samples(y_true))
            return predicted

        return super()._score(checked, estimator, X, y_true, **kwargs)


def make_scorer(
    metric: Callable[..., Any],
    *,
    response_method: str | Sequence[str] = "predict",
    greater_is_better: bool = True,
    **options: Any,
) -> LabelScorer:
    """Like scikit-learn's function of this name."""
    return LabelScorer(metric, 1 if greater_is_better else -1, options, response_method)


# Scorers for names that differ from those of scikit-learn by more than their ending.
_OTHER_NAMES = {"accuracy": "exact_match", "average_precision": "mean_average_precision"}


def check_scoring(scoring: Any) -> None:
    """Refuse names of scikit-learn's metrics, which read label matrices differently, in `scoring` of any form.

    Parameters
    ----------
    scoring : str, callable, list, tuple, dict or None
        As in scikit-learn's searches.

    Raises
    ------
    ValueError
        With the scorer of `skpartial.metrics` to pass instead.
    """
    several = scoring.values() if isinstance(scoring, Mapping) else scoring
    names = [scoring] if isinstance(scoring, str) else several if isinstance(several, Collection) else []
    for name in names:
        if not isinstance(name, str):
            continue
        stem = name.removeprefix("neg_").removesuffix("_scorer").removesuffix("_ovr")
        ours = stem if f"{stem}_scorer" in globals() else _OTHER_NAMES.get(stem)
        instead = "a scorer such as skpartial.metrics.f1_macro_scorer"
        if ours is not None:
            instead = f"skpartial.metrics.{ours}_scorer, or {ours}_unknown_absent_scorer if only positives are known"
        raise ValueError(
            f"scoring={name!r}: names stand for metrics of scikit-learn, which know no unknown labels. Pass {instead}."
        )


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

precision_at_1_scorer = make_scorer(precision_at_k, response_method=_SCORES, k=1)
precision_at_1_unknown_absent_scorer = make_scorer(precision_at_k, response_method=_SCORES, k=1, unknown="absent")
precision_at_3_scorer = make_scorer(precision_at_k, response_method=_SCORES, k=3)
precision_at_3_unknown_absent_scorer = make_scorer(precision_at_k, response_method=_SCORES, k=3, unknown="absent")
precision_at_5_scorer = make_scorer(precision_at_k, response_method=_SCORES, k=5)
precision_at_5_unknown_absent_scorer = make_scorer(precision_at_k, response_method=_SCORES, k=5, unknown="absent")
recall_at_1_scorer = make_scorer(recall_at_k, response_method=_SCORES, k=1)
recall_at_1_unknown_absent_scorer = make_scorer(recall_at_k, response_method=_SCORES, k=1, unknown="absent")
recall_at_3_scorer = make_scorer(recall_at_k, response_method=_SCORES, k=3)
recall_at_3_unknown_absent_scorer = make_scorer(recall_at_k, response_method=_SCORES, k=3, unknown="absent")
recall_at_5_scorer = make_scorer(recall_at_k, response_method=_SCORES, k=5)
recall_at_5_unknown_absent_scorer = make_scorer(recall_at_k, response_method=_SCORES, k=5, unknown="absent")
