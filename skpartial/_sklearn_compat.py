"""What the package uses of scikit-learn's private names, with what for: the one place to look at for a new version.

Besides, :class:`~skpartial.model_selection.BatchedGridSearchCV` calls private methods of the search that it derives
from, and estimators call `_init_callback_context`, as scikit-learn's callback protocol has it.
"""

from __future__ import annotations

from typing import Any

# Checks the parameters of a search, as `fit` of scikit-learn's own does.
from sklearn.base import _fit_context as fit_context

# Scorers: those of `make_scorer`, several in one, and the one that asks `score` of the estimator.
from sklearn.metrics._scorer import _BaseScorer as BaseScorer
from sklearn.metrics._scorer import _MultimetricScorer as MultimetricScorer
from sklearn.metrics._scorer import _PassthroughScorer as PassthroughScorer
from sklearn.metrics._scorer import _Scorer as Scorer

# Numbers of rows or groups from `test_size` and `train_size`.
from sklearn.model_selection._split import _validate_shuffle_split as validate_shuffle_split

# One candidate on one fold, its score alone, and what a search says of candidates that failed.
from sklearn.model_selection._validation import _fit_and_score as fit_and_score
from sklearn.model_selection._validation import _insert_error_scores as insert_error_scores
from sklearn.model_selection._validation import _score as score
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures as warn_or_raise_about_fit_failures

# What estimators, scorers and splitters ask of metadata routing.
from sklearn.utils._metadata_requests import SIMPLE_METHODS as _METHODS
from sklearn.utils._metadata_requests import MetadataRequest

# Rows of X and y of a fold; of precomputed kernels the columns as well.
from sklearn.utils.metaestimators import _safe_split as safe_split

# Arguments of `fit`, those as long as X sliced to the rows of a fold.
from sklearn.utils.validation import _check_method_params as check_method_params

# Weights of rows, with scikit-learn's own messages, which its estimator checks ask for.
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

# Number of rows of anything that a splitter may be passed: lists, arrays, sparse matrices, data frames.
from sklearn.utils.validation import _num_samples as num_samples

__all__ = [
    "BaseScorer",
    "MetadataRequest",
    "MultimetricScorer",
    "PassthroughScorer",
    "Scorer",
    "callbacks_of",
    "check_method_params",
    "check_sample_weight",
    "fit_and_score",
    "fit_context",
    "has_callbacks",
    "insert_error_scores",
    "make_requests",
    "metric_of",
    "num_samples",
    "requests_in",
    "response_of",
    "safe_split",
    "score",
    "score_predictions",
    "scorers_of",
    "validate_shuffle_split",
    "warn_or_raise_about_fit_failures",
]


def has_callbacks(estimator: Any) -> bool:
    """Whether callbacks were set on an estimator."""
    return bool(callbacks_of(estimator))


def callbacks_of(estimator: Any) -> list[Any]:
    """The callbacks that were set on an estimator."""
    return list(getattr(estimator, "_skl_callbacks", None) or ())


def scorers_of(scorer: MultimetricScorer) -> dict[str, Any]:
    """The scorers in one, by their names."""
    return dict(scorer._scorers)


def metric_of(scorer: BaseScorer) -> Any:
    """The function that a scorer was made of."""
    return scorer._score_func


def response_of(scorer: BaseScorer) -> str:
    """The method of an estimator that a scorer asks first."""
    return str(scorer._response_method[0])


def score_predictions(scorer: BaseScorer, y: Any, predictions: Any) -> Any:
    """What a scorer says of predictions that are at hand, without an estimator that it would ask for them."""
    return scorer._sign * scorer._score_func(y, predictions, **scorer._kwargs)


def requests_in(request: MetadataRequest) -> dict[str, dict[str, Any]]:
    """What is asked of metadata routing, by methods and arguments."""
    asked = {method: dict(getattr(request, method).requests) for method in _METHODS}
    return {method: arguments for method, arguments in asked.items() if arguments}


def make_requests(owner: Any, asked: dict[str, dict[str, Any]]) -> MetadataRequest:
    """What `requests_in` was given, for another owner."""
    request = MetadataRequest(owner=owner)
    for method, arguments in asked.items():
        if method not in _METHODS:
            raise ValueError(f"metadata routing has no method {method!r}.")
        for name, alias in arguments.items():
            getattr(request, method).add_request(param=name, alias=alias)
    return request
