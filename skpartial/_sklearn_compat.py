"""All private names of scikit-learn that the package uses, and their purpose: check this module for a new version.

In addition, :class:`~skpartial.model_selection.BatchedGridSearchCV` calls private methods of its base class, and
estimators call `_init_callback_context`, as scikit-learn's callback protocol requires.
"""

from __future__ import annotations

from typing import Any

# Checks the parameters of a search, as scikit-learn's own `fit` does.
from sklearn.base import _fit_context as fit_context

# Scorers: from `make_scorer`, several combined, and the one that calls the estimator's `score`.
from sklearn.metrics._scorer import _BaseScorer as BaseScorer
from sklearn.metrics._scorer import _MultimetricScorer as MultimetricScorer
from sklearn.metrics._scorer import _PassthroughScorer as PassthroughScorer
from sklearn.metrics._scorer import _Scorer as Scorer

# Numbers of rows or groups from `test_size` and `train_size`.
from sklearn.model_selection._split import _validate_shuffle_split as validate_shuffle_split

# Fit and score of one candidate on one fold, its score alone, and a search's messages about failed candidates.
from sklearn.model_selection._validation import _fit_and_score as fit_and_score
from sklearn.model_selection._validation import _insert_error_scores as insert_error_scores
from sklearn.model_selection._validation import _score as score
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures as warn_or_raise_about_fit_failures

# Metadata requests of estimators, scorers and splitters.
from sklearn.utils._metadata_requests import SIMPLE_METHODS as _METHODS
from sklearn.utils._metadata_requests import MetadataRequest

# Rows of X and y of a fold; for precomputed kernels also the columns.
from sklearn.utils.metaestimators import _safe_split as safe_split

# Arguments of `fit`; arguments as long as X are sliced to the rows of a fold.
from sklearn.utils.validation import _check_method_params as check_method_params

# Weights of rows, with scikit-learn's own messages, which its estimator checks require.
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

# Number of rows of anything a splitter accepts: lists, arrays, sparse matrices, data frames.
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
    """The scorers of a multimetric scorer, by name."""
    return dict(scorer._scorers)


def metric_of(scorer: BaseScorer) -> Any:
    """The metric function of a scorer."""
    return scorer._score_func


def response_of(scorer: BaseScorer) -> str:
    """The estimator method that a scorer tries first."""
    return str(scorer._response_method[0])


def score_predictions(scorer: BaseScorer, y: Any, predictions: Any) -> Any:
    """The score of given predictions, without an estimator."""
    return scorer._sign * scorer._score_func(y, predictions, **scorer._kwargs)


def requests_in(request: MetadataRequest) -> dict[str, dict[str, Any]]:
    """Metadata requests as a dict, by method and argument."""
    asked = {method: dict(getattr(request, method).requests) for method in _METHODS}
    return {method: arguments for method, arguments in asked.items() if arguments}


def make_requests(owner: Any, asked: dict[str, dict[str, Any]]) -> MetadataRequest:
    """The inverse of `requests_in`, for another owner."""
    request = MetadataRequest(owner=owner)
    for method, arguments in asked.items():
        if method not in _METHODS:
            raise ValueError(f"metadata routing has no method {method!r}.")
        for name, alias in arguments.items():
            getattr(request, method).add_request(param=name, alias=alias)
    return request
