"""A grid search that fits the candidates of a fold together."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any, Self

from sklearn import get_config
from sklearn.base import clone, is_classifier
from sklearn.callback import with_callbacks
from sklearn.model_selection import GridSearchCV, ParameterGrid, check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state, indexable
from sklearn.utils.parallel import Parallel, delayed

from skpartial._documentation import Documented
from skpartial._inputs import rows_of_labels
from skpartial._sklearn_compat import (
    MultimetricScorer,
    check_method_params,
    fit_context,
    has_callbacks,
    insert_error_scores,
    safe_split,
    scorers_of,
    warn_or_raise_about_fit_failures,
)
from skpartial._unchanged import unchanged_on_failure
from skpartial._versioned import VersionedPickles
from skpartial._warnings import warn
from skpartial.labels._forms import is_vector
from skpartial.metrics._scorers import check_scoring
from skpartial.model_selection._groups import check_splitter
from skpartial.model_selection._together import Evaluation, configured, last_step, reason_against

__all__ = ["BatchedGridSearchCV"]


class BatchedGridSearchCV(VersionedPickles, Documented, GridSearchCV):
    """Grid search that fits all candidates of a fold together.

    It has the parameters, attributes and results of scikit-learn's `GridSearchCV`, for `PartialLabelClassifier` and
    `SinglePositiveClassifier` on features, alone or as the last step of a `Pipeline`. X is validated once per fold
    instead of once per fit, and candidates share matrix products with X. They are also scored by one product, if the
    score is the classifiers' own, or the mean average precision or ROC-AUC of :mod:`skpartial.metrics`. Earlier steps
    of a pipeline are fitted once per fold for each setting of their own parameters.

    Parameters
    ----------
    estimator : estimator
        A classifier of this package, or a pipeline that ends in one. Others are fitted as in `GridSearchCV`.
    param_grid : dict or list of dict
        Values to try, by parameter name, such as ``alpha`` or ``loss__gamma``.
    scoring : str, callable, list, tuple, dict or None, default=None
        Scorers, as in `GridSearchCV`. None is the classifiers' own: mean average precision over known entries, or
        accuracy for 1-D y.
    n_jobs : int or None, default=None
        Number of folds to run in parallel; -1 uses all processors.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate on all rows; with several scorers, the name of the one that chooses it; or a
        function of `cv_results_` that returns the index of the best.
    cv : int, splitter, iterable of (train, test), or None, default=None
        Cross-validation splits; :class:`PartialLabelKFold` spreads rare labels evenly. An int or None is `KFold`, or
        `StratifiedKFold` for 1-D y.
    verbose : int, default=0
        Above 0, print the number of fits; above 1, also a line per fold.
    pre_dispatch : int or str, default="2*n_jobs"
        Number of jobs dispatched ahead, as in `joblib.Parallel`.
    error_score : "raise" or number, default=nan
        Score of a candidate that cannot be fitted, with a warning; "raise" raises the error.
    return_train_score : bool, default=False
        Whether to score the training rows, too.

    Attributes
    ----------
    cv_results_ : dict of ndarray
        As in `GridSearchCV`. Fit and score times of a candidate are the time for its group divided by the number of
        candidates.
    best_estimator_ : estimator
        The best candidate, fitted on all rows by its own `fit`, if `refit` is not False.
    best_score_ : float
        Mean score of the best candidate.
    best_params_ : dict
        Parameters of the best candidate.
    best_index_ : int
        Index of the best candidate in `cv_results_`.
    scorer_ : callable or dict
        The scorers.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds for fitting the best candidate on all rows.
    multimetric_ : bool
        Whether there are several scorers.
    classes_ : ndarray
        Classes of the best candidate.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Names of the features, if X has names.

    Warns
    -----
    UserWarning
        If some candidates are fitted one by one, with the reason: a backbone, a nonlinear head, a relabelling, a
        `validation_fraction`, `checkpoint_dir`, `warm_start`, `verbose` or callbacks of the candidate, another kind of
        estimator, or arguments of `fit` other than `sample_weight` and `label_prior`. With metadata routing, all
        candidates are fitted one by one.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : For any estimator, with separate fits.

    Notes
    -----
    Scores equal those of `GridSearchCV` up to rounding and the tolerance of the solver. Earlier steps with
    ``random_state=None`` draw random numbers once for all candidates that share them.

    Callbacks of the search, such as a `ProgressBar`, are called for each candidate on each fold, but not for its
    epochs, because candidates run through them together. For the final fit, all callbacks are called.

    Candidates are trained in groups with at most 512 MiB of logits on the training rows. Within a group, products are
    shared by candidates that their solver can solve together. Others are solved one after the other, on features that
    are validated once.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import drop_labels
    >>> from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold
    >>> scenes = make_digit_scenes(300, random_state=0)
    >>> Y = drop_labels(scenes.target, known=0.5, random_state=0)
    >>> grid = {"loss__gamma": [-1, 1], "alpha": [1e-4, 1e-2, 1.0]}
    >>> folds = PartialLabelKFold(3, random_state=0)
    >>> search = BatchedGridSearchCV(PartialLabelClassifier("partial_bce"), grid, cv=folds).fit(scenes.data, Y)
    >>> search.best_params_["alpha"]
    0.0001
    >>> search.cv_results_["mean_test_score"].shape
    (6,)
    """

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Fit and score all candidates on every fold, and the best one on all rows.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n, d)
            Features.
        y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
            Labels: 1 present, -1 absent, 0 unknown. 1-D y with two classes is plain binary classification.
        **params : dict
            Further arguments of the estimator's `fit`, such as `sample_weight`; arguments of length n are split like X.
            `groups` goes to the splitter, which must keep groups whole, like :class:`PartialLabelGroupKFold`.

        Returns
        -------
        self
            The fitted search.
        """
        if y is not None and not is_vector(y) and hasattr(last_step(self.estimator), "_unknown_in_scores"):
            check_scoring(self.scoring)
        with unchanged_on_failure(self):
            return self._fit(X, y, params)

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=False)
    def _fit(self, X: Any, y: Any, params: dict[str, Any]) -> Self:
        if y is not None:
            y = rows_of_labels(y)
        check_splitter(self.cv, X, y, params.get("groups"))
        candidates: list[dict[str, Any]] = list(ParameterGrid(self.param_grid))
        groups = self._groups(candidates, {key: value for key, value in params.items() if key != "groups"})
        if not groups:
            super().fit(X, y, **params)
            return self
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        params = check_method_params(X, params=params)
        routed = self._get_routed_params_for_fit(params)
        weights = params.get("sample_weight")
        told = {"estimator": self, "X": X, "y": y, "metadata": None if weights is None else {"sample_weight": weights}}
        context = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        context.call_on_fit_task_begin(**told)
        splitter = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self.n_splits_ = splitter.get_n_splits(X, y, **routed.splitter.split)
        evaluation = Evaluation(
            clone(self.estimator),
            X,
            y,
            scorer=scorers,
            fit_params=routed.estimator.fit,
            score_params=routed.scorer.score,
            return_train_score=self.return_train_score,
            error_score=self.error_score,
            verbose=self.verbose,
        )
        splits = list(splitter.split(X, y, **routed.splitter.split))
        if len(splits) != self.n_splits_:
            raise ValueError(
                f"cv.split and cv.get_n_splits return inconsistent results. Expected {self.n_splits_} splits, got "
                f"{len(splits)}"
            )
        searching = context.subcontext("search", max_subtasks=len(candidates) * len(splits), sequential_subtasks=False)
        searching.call_on_fit_task_begin(estimator=self)
        out = self._evaluate(evaluation, candidates, groups, splits, searching)
        searching.call_on_fit_task_end(estimator=self)
        warn_or_raise_about_fit_failures(out, self.error_score)
        if callable(self.scoring):
            insert_error_scores(out, self.error_score)
        results = self._format_results(candidates, self.n_splits_, out)
        self.multimetric_ = isinstance(out[0]["test_scores"], dict)
        if callable(self.scoring) and self.multimetric_:
            self._check_refit_for_multimetric(out[0]["test_scores"])
            refit_metric = self.refit
        self._choose(results, refit_metric)
        if self.refit:
            self._refit(context.subcontext("refit-with-best-params"), told, routed.estimator.fit)
        self.scorer_ = scorers_of(scorers) if isinstance(scorers, MultimetricScorer) else scorers
        self.cv_results_ = results
        context.call_on_fit_task_end(**told)
        return self

    def _groups(self, candidates: list[dict[str, Any]], fit_params: dict[str, Any]) -> list[list[int]]:
        """Groups of candidates with the same earlier steps, to fit together; warns of the others with the reason."""
        groups: dict[Hashable, list[int]] = {}
        reasons: dict[int, str] = {}
        everywhere = "metadata routing is enabled" if get_config()["enable_metadata_routing"] else None
        for i, parameters in enumerate(candidates):
            try:
                candidate = configured(self.estimator, parameters)
                reason = everywhere or reason_against(candidate, fit_params)
                if reason is None:
                    check_random_state(last_step(candidate).random_state)
            except Exception:
                continue  # Its error is reported when it is fitted.
            if reason is None:
                groups.setdefault(_earlier_setting(candidate, parameters), []).append(i)
            else:
                reasons[i] = reason
        if reasons:
            which = "all" if len(reasons) == len(candidates) else f"{len(reasons)} of {len(candidates)}"
            warn(
                f"BatchedGridSearchCV fits {which} candidates one by one, like GridSearchCV, because "
                f"{', or '.join(dict.fromkeys(reasons.values()))}.",
            )
        return list(groups.values())

    def _evaluate(
        self,
        evaluation: Evaluation,
        candidates: list[dict[str, Any]],
        groups: list[list[int]],
        splits: list[Any],
        context: Any,
    ) -> list[dict[str, Any]]:
        """Results of all candidates on all splits; callbacks are called for each candidate in this process."""
        together = sorted(i for group in groups for i in group)
        if self.verbose > 0:
            n, k = len(splits), len(candidates)
            print(f"Fitting {n} folds for each of {k} candidates, totalling {n * k} fits, {n * len(together)} together")
        # In the order in which the fits of GridSearchCV would draw them.
        lasts = {i: last_step(configured(evaluation.base, candidates[i])) for i in together}
        seeds = {(i, split): clone(lasts[i])._draw_seed() for i in together for split in range(len(splits))}
        jobs = [(split, group) for split in range(len(splits)) for group in groups]
        jobs += [(split, [i]) for i in range(len(candidates)) if i not in set(together) for split in range(len(splits))]
        parallel = Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch, return_as="generator")
        answers = parallel(
            delayed(evaluation)(*splits[split], [candidates[i] for i in group], [seeds.get((i, split)) for i in group])
            for split, group in jobs
        )
        found: dict[tuple[int, int], dict[str, Any]] = {}
        for split, group in jobs:
            task_ids = [i * len(splits) + split for i in group]
            with self._told(context, task_ids, evaluation, splits[split][0]):
                found |= {(i, split): result for i, result in zip(group, next(answers))}
        return [found[i, split] for i in range(len(candidates)) for split in range(len(splits))]

    @contextmanager
    def _told(self, context: Any, task_ids: list[int], evaluation: Evaluation, train: Any) -> Iterator[None]:
        """Call the callbacks before and after fitting candidates on a fold; does nothing without callbacks."""
        if not has_callbacks(self):
            yield
            return
        tasks = [context.subcontext("candidate-split-evaluation", task_id) for task_id in task_ids]
        # Only created if a callback needs them.
        told = {
            "estimator": self,
            "X": lambda: safe_split(evaluation.base, evaluation.X, evaluation.y, train)[0],
            "y": lambda: safe_split(evaluation.base, evaluation.X, evaluation.y, train)[1],
        }
        for task in tasks:
            task.call_on_fit_task_begin(**told)
        try:
            yield
        finally:
            for task in tasks:
                task.call_on_fit_task_end(**told)

    def _choose(self, results: dict[str, Any], refit_metric: Any) -> None:
        """Set the attributes of the best candidate."""
        if self.refit or not self.multimetric_:
            self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]

    def _refit(self, context: Any, told: dict[str, Any], fit_params: dict[str, Any]) -> None:
        """Fit the best candidate on all rows, with the callbacks of the search."""
        self.best_estimator_ = configured(self.estimator, self.best_params_)
        X, y = told["X"], told["y"]
        with context.propagate_callback_context(self.best_estimator_):
            context.call_on_fit_task_begin(**told)
            start = time.time()
            self.best_estimator_.fit(*((X,) if y is None else (X, y)), **fit_params)
            self.refit_time_ = time.time() - start
        context.call_on_fit_task_end(**told)
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _earlier_setting(candidate: Any, parameters: dict[str, Any]) -> Hashable:
    """A key of a candidate's earlier steps: the values of all parameters except those of the last step."""
    if not isinstance(candidate, Pipeline):
        return None
    last = candidate.steps[-1][0]
    return tuple(
        (name, type(value), value if isinstance(value, str | Number | None) else id(value))
        for name, value in parameters.items()
        if name != last and not name.startswith(f"{last}__")
    )
