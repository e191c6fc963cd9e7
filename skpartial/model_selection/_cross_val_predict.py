"""Out-of-fold predictions that do not re-encode label matrices."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn import get_config, model_selection
from sklearn.base import BaseEstimator
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from skpartial._inputs import rows_of_labels
from skpartial.model_selection._folds import is_one_dimensional, over_folds
from skpartial.model_selection._groups import check_apart, check_groups_used, check_splitter

__all__ = ["cross_val_predict"]


def cross_val_predict(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    *,
    groups: Any = None,
    cv: Any = None,
    method: str = "predict",
    n_jobs: int | None = None,
    params: Mapping[str, Any] | None = None,
    verbose: int = 0,
    pre_dispatch: int | str | None = "2*n_jobs",
) -> Any:
    """Predict each row with an estimator that was fitted without it.

    Use this instead of :func:`sklearn.model_selection.cross_val_predict`, which gives silently wrong results for label
    matrices: for scores and probabilities it re-encodes the values of every column of y, so that in a column of
    negative (-1) and unknown (0) entries the unknown ones become positive. Here `fit` gets the rows of y unchanged.

    Parameters
    ----------
    estimator : estimator
        An estimator, pipeline or search. It is cloned, not fitted itself.
    X : array-like, DataFrame, sparse matrix or other indexable of length n
        Features.
    y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
        Labels: 1 present, -1 absent, 0 unknown. 1-D y is passed on to scikit-learn's function.
    groups : array-like of shape (n,), default=None
        Groups for splitters that keep groups whole, such as :class:`PartialLabelGroupKFold`. With metadata routing,
        pass them in `params`.
    cv : int, splitter, iterable of (train, test), or None, default=None
        Cross-validation splits; every row must be in one test part. As in scikit-learn, None is `KFold(5)` and an int
        the number of folds of `KFold` (`StratifiedKFold` for a classifier with 1-D y). :class:`PartialLabelKFold`
        spreads rare labels evenly.
    method : str, default="predict"
        Method of the fitted estimators to call: "predict", "predict_proba", "predict_log_proba" or "decision_function".
    n_jobs : int or None, default=None
        Number of folds to run in parallel; -1 uses all processors.
    params : dict or None, default=None
        Further arguments of `fit`; arguments of length n are split like X. With metadata routing, also of the splitter.
    verbose : int, default=0
        Verbosity of joblib.
    pre_dispatch : int, str or None, default="2*n_jobs"
        Number of jobs dispatched ahead, as in `joblib.Parallel`.

    Returns
    -------
    ndarray of shape (n, L), or csr_array or list of ndarray if the estimator returns these
        Predictions in the order of the rows of X; shape (n,) or (n, 2) for 1-D y.

    Raises
    ------
    ValueError
        If y is masked where a class is needed, the test parts do not hold every row once, a split divides a group, or
        the predictions of the folds have different shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.model_selection import PartialLabelKFold, cross_val_predict
    >>> X = np.repeat([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], 10, axis=0)
    >>> Y = np.repeat([[-1, 1], [1, -1], [1, 1]], 10, axis=0)
    >>> Y[::2, 0] = Y[::3, 1] = 0
    >>> predicted = cross_val_predict(PartialLabelClassifier(), X, Y, cv=PartialLabelKFold(3, random_state=0))
    >>> predicted[[0, 10, 20]]
    array([[0, 1],
           [1, 0],
           [1, 1]])
    """
    if y is not None:
        y = rows_of_labels(y)
    if y is None or is_one_dimensional(y):
        check_splitter(cv, X, y, groups)
        return model_selection.cross_val_predict(
            estimator,
            X,
            y,
            groups=groups,
            cv=cv,
            method=method,
            n_jobs=n_jobs,
            params=params,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
        )
    X, y, groups = indexable(X, y, groups)
    fit_params, split_params = _route(estimator, cv, groups, dict(params or {}))
    # Without y, because there is no class to stratify by, and check_cv cannot handle a sparse y.
    splits = list(check_cv(cv).split(X, y, **split_params))
    check_apart(splits, split_params.get("groups"), cv)
    n_rows = y.shape[0] if hasattr(y, "shape") else len(y)
    rows = np.concatenate([test for _, test in splits])
    if len(rows) != n_rows or (np.bincount(rows, minlength=n_rows) != 1).any():
        raise ValueError(
            f"The test parts of cv={cv!r} must hold every row exactly once: cross_val_predict returns one prediction "
            "per row."
        )
    answers = over_folds(
        functools.partial(_call, method),
        estimator,
        X,
        y,
        splits,
        fit_params,
        n_jobs=n_jobs,
        verbose=verbose,
        pre_dispatch=pre_dispatch,
    )
    order = np.argsort(rows)
    if isinstance(answers[0], list):
        return [_stack(list(of_label), method)[order] for of_label in zip(*answers)]
    return _stack(answers, method)[order]


def _route(
    estimator: BaseEstimator, cv: Any, groups: Any, params: dict[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Arguments of the estimator's `fit` and of the splitter's `split`."""
    check_groups_used(cv, params.get("groups") if groups is None else groups)
    if not get_config()["enable_metadata_routing"]:
        return params, {"groups": groups}
    if groups is not None:
        raise ValueError("With metadata routing enabled, pass groups in params: params={'groups': groups}.")
    router = MetadataRouter(owner="cross_val_predict")
    router.add(splitter=cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
    router.add(estimator=estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
    routed = process_routing(router, "fit", **params)
    return routed.estimator.fit, routed.splitter.split


def _call(method: str, estimator: Any, X: Any) -> Any:
    return getattr(estimator, method)(X)


def _stack(answers: list[Any], method: str) -> NDArray[Any] | sp.csr_array:
    """Concatenate the predictions of the folds."""
    shapes = {np.shape(answer)[1:] for answer in answers}
    if len(shapes) > 1:
        raise ValueError(
            f"{method} returned rows of different shapes in different folds, {sorted(shapes)}: some training parts "
            "lack values of y that others hold. Use a PartialLabelKFold, or, for a single label with unknown entries, "
            "pass y as a DataFrame, which is a label matrix whatever values a fold holds."
        )
    if sp.issparse(answers[0]):
        return sp.csr_array(sp.vstack(answers, format="csr"))
    return np.concatenate([np.asarray(answer) for answer in answers])
