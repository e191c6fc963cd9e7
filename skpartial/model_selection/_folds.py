"""The shared loop over splits: fit on the training part, predict on the test part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.utils.parallel import Parallel, delayed

from skpartial._sklearn_compat import check_method_params, safe_split

__all__ = ["is_one_dimensional", "over_folds"]

Split = tuple[NDArray[Any], NDArray[Any]]


def is_one_dimensional(y: Any) -> bool:
    """Whether y has one dimension; unlike a fit, splits read a matrix of one column as a label matrix."""
    if hasattr(y, "ndim"):
        return bool(y.ndim == 1)
    try:
        return np.asarray(y).ndim == 1
    except ValueError:  # rows of different lengths, which the label matrix refuses
        return False


def over_folds(
    ask: Callable[[Any, Any], Any],
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    splits: Iterable[Split],
    params: Mapping[str, Any],
    *,
    n_jobs: int | None = None,
    verbose: int = 0,
    pre_dispatch: int | str | None = "2*n_jobs",
) -> list[Any]:
    """Fit a clone on every split and call a function of it on the test rows.

    Parameters
    ----------
    ask : callable
        Maps a fitted estimator and test features to a result; must be picklable if `n_jobs` is above 1.
    estimator : estimator
        Estimator to clone; not fitted itself.
    X, y : indexable of the same length
        Slices of y are passed to `fit` unchanged: label matrices, unlike classes, must not be encoded by column.
    splits : iterable of (train, test)
        Row indices.
    params : dict
        Further arguments of `fit`; values of the same length as X are sliced like X.
    n_jobs, verbose, pre_dispatch
        As for `joblib.Parallel`.

    Returns
    -------
    list
        The results, in the order of the splits.
    """
    parallel = Parallel(n_jobs=n_jobs, verbose=verbose, pre_dispatch=pre_dispatch)
    answers: list[Any] = parallel(
        delayed(_fit_and_ask)(ask, clone(estimator), X, y, train, test, params) for train, test in splits
    )
    return answers


def _fit_and_ask(
    ask: Callable[[Any, Any], Any],
    estimator: Any,
    X: Any,
    y: Any,
    train: NDArray[Any],
    test: NDArray[Any],
    params: Mapping[str, Any],
) -> Any:
    X_train, y_train = safe_split(estimator, X, y, train)
    X_test, _ = safe_split(estimator, X, None, test, train)
    estimator.fit(X_train, y_train, **check_method_params(X, params, indices=train))
    return ask(estimator, X_test)
