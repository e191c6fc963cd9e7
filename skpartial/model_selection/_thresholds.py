"""A classifier with its own decision threshold for every label."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.metrics import accuracy_score
from sklearn.model_selection import check_cv
from sklearn.utils import Tags, get_tags, indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skpartial._checks import check_choice, check_number, check_whole
from skpartial._documentation import Documented
from skpartial._inputs import EncodedTarget, encode_target, rows_of_labels
from skpartial._sklearn_compat import BaseScorer
from skpartial._unchanged import unchanged_on_failure
from skpartial._versioned import VersionedPickles
from skpartial.labels import LabelMatrix
from skpartial.labels._forms import check_label_names, column_names, fitted_label_names, plain
from skpartial.model_selection._folds import Split, over_folds
from skpartial.model_selection._group_split import PartialLabelGroupKFold, PartialLabelGroupShuffleSplit
from skpartial.model_selection._groups import check_apart
from skpartial.model_selection._split import PartialLabelKFold, PartialLabelShuffleSplit
from skpartial.model_selection._threshold_search import OBJECTIVES, Objective
from skpartial.model_selection._threshold_tuning import DEFAULT_THRESHOLD, AskForScores, Tuning, scores_of

__all__ = ["TunedThresholdsCV"]


def _estimator_has(method: str) -> Callable[[Any], Any]:
    """Whether the fitted estimator, or else the parameter, has a method; raises its AttributeError if not."""
    return lambda self: getattr(getattr(self, "estimator_", self.estimator), method)


class TunedThresholdsCV(VersionedPickles, Documented, ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    r"""Classifier with its own decision threshold for every label, tuned on known entries.

    A label is predicted where its score is above its threshold. After training on few known labels, on positives only
    or on rare labels, the best threshold may be far from a probability of one half, and differs between labels. For
    every label, this class chooses the threshold that maximises a metric over the known entries of the out-of-fold
    scores of all folds together, for instance

    .. math::
        F_1(t) = \frac{2 \, TP(t)}{2 \, TP(t) + FP(t) + FN(t)}

    For metrics by name the search is exact: every cut between two neighbouring scores is tried, and the threshold is
    midway between them. Functions are called at some of the cuts. Scikit-learn's `TunedThresholdClassifierCV` does the
    same for two classes, on a grid; it refuses label matrices.

    A threshold chosen from few entries overfits them, and predicts rare labels too often. It is therefore shrunk
    towards the common threshold :math:`t` that maximises the metric over the entries of all labels together:

    .. math::
        \lambda_j t_j + (1 - \lambda_j) t, \qquad \lambda_j = \frac{m_j}{m_j + \kappa}

    where :math:`m_j` is the number of known positives or known negatives of label j, whichever is smaller, and
    :math:`\kappa` is `shrinkage`. Thresholds of probabilities are averaged in log odds.

    Parameters
    ----------
    estimator : estimator
        Classifier with `predict_proba` or `decision_function`, of shape (n, L).
    scoring : {"f1", "balanced_accuracy", "accuracy"} or callable, default="f1"
        Metric to maximise for each label. A callable takes vectors in {0, 1} of the true and predicted labels of the
        entries that count, and returns a number, like `sklearn.metrics.f1_score`; `thresholds` limits the number of
        calls. Scorers, which take an estimator, and their names are not accepted.
    unknown : {"ignore", "absent"}, default="ignore"
        Whether the metric leaves unknown entries out, or counts them as negative, for positive-only labels. "ignore"
        needs a known negative. This does not affect how `estimator` treats unknown entries.
    response_method : {"auto", "predict_proba", "decision_function"}, default="auto"
        Method whose results are compared with the thresholds; "auto" uses probabilities if available.
    cv : int, float, splitter, iterable of (train, test), "prefit" or None, default=None
        Splits for out-of-fold scores. None means 5 folds; an int is the number of folds of a
        :class:`PartialLabelKFold`; a float in (0, 1) is the size of the test part of a single
        :class:`PartialLabelShuffleSplit`. If groups are passed to `fit`, they are kept whole. "prefit" uses an
        estimator that is already fitted, and needs ``refit=False``, as in scikit-learn; tune on rows that it was not
        fitted on.
    thresholds : int or None, default=100
        Largest number of cuts per label at which a callable `scoring` is called, at least 2. As in scikit-learn, they
        are evenly spaced between the lowest and the highest score. None tries all cuts, which takes hours for many
        scores. Metrics by name always try all cuts.
    shrinkage : float, default=100.0
        Number of known positives (or negatives, if there are fewer) at which a label's own threshold has the same
        weight as the common threshold. With 0 every label only uses its own threshold, which suits many known entries,
        or a metric that is averaged over labels.
    refit : bool, default=True
        Whether to fit the final estimator on all rows. False needs a single split, or "prefit".
    n_jobs : int or None, default=None
        Number of folds to run in parallel; -1 uses all processors.
    random_state : int, RandomState instance or None, default=None
        Seed for the splits if `cv` is None, an int or a float.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    thresholds_ : ndarray of float64, shape (L,)
        A label is predicted where its score is above its threshold. Without shrinkage, if it is best to predict all
        rows positive (negative), the threshold is half the nearest gap beyond the lowest (highest) score, and may be
        outside [0, 1].
    best_scores_ : ndarray of float64, shape (L,)
        The metric at the thresholds over the out-of-fold scores; NaN for labels that were not tuned. It is an
        optimistic estimate, because the thresholds maximise it.
    tuned_ : ndarray of bool, shape (L,)
        False for labels without their own threshold: no known positive, no known negative, or all scores equal. They
        use the common threshold; without shrinkage, or if there is no common one, 0.5, or 0 for decision values.
    classes_ : ndarray of shape (L, 2), or (2,) after 1-D y
        Classes of the fitted estimator.
    label_names_ : ndarray of str, shape (L,)
        Names of the labels: from the fitted estimator, from a pipeline's last step, or else the columns of y.
    n_features_in_ : int
        Number of features, if the estimator has the attribute.
    feature_names_in_ : ndarray of str
        Names of the features, if the estimator has the attribute.

    See Also
    --------
    sklearn.model_selection.TunedThresholdClassifierCV : For two classes.

    Notes
    -----
    The thresholds are tuned for the out-of-fold estimators, but used for an estimator that is fitted on more rows.

    Examples
    --------
    >>> import numpy as np
    >>> from skpartial import PartialLabelClassifier
    >>> from skpartial.metrics import f1
    >>> from skpartial.model_selection import TunedThresholdsCV
    >>> rng = np.random.RandomState(0)
    >>> X = rng.normal(size=(400, 2))
    >>> Y = np.where(X + rng.normal(size=X.shape) > [1.0, 2.0], 1, -1)
    >>> train = np.where(rng.uniform(size=Y.shape) < 0.5, Y, 0)
    >>> plain = PartialLabelClassifier().fit(X, train)
    >>> tuned = TunedThresholdsCV(PartialLabelClassifier(), random_state=0).fit(X, train)
    >>> tuned.thresholds_.round(2)
    array([0.3 , 0.29])
    >>> bool(f1(Y, tuned.predict(X)) > f1(Y, plain.predict(X)))
    True
    """

    # A number of folds means stratified folds.
    _stratifies = True

    def __init__(
        self,
        estimator: Any,
        *,
        scoring: Objective = "f1",
        unknown: Literal["ignore", "absent"] = "ignore",
        response_method: Literal["auto", "predict_proba", "decision_function"] = "auto",
        cv: Any = None,
        thresholds: int | None = 100,
        shrinkage: float = 100.0,
        refit: bool = True,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.scoring = scoring
        self.unknown = unknown
        self.response_method = response_method
        self.cv = cv
        self.thresholds = thresholds
        self.shrinkage = shrinkage
        self.refit = refit
        self.n_jobs = n_jobs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, groups: Any = None, **params: Any) -> Self:
        """Fit the estimator and tune a threshold for every label.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n, d)
            Features.
        y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
            Labels: 1 present, -1 absent, 0 unknown. 1-D y with two classes is plain binary classification.
        groups : array-like of shape (n,), default=None
            Groups for the splitter; no group may be on both sides of a split. If `cv` is None, an int or a float, the
            splitter is then a :class:`PartialLabelGroupKFold` or a :class:`PartialLabelGroupShuffleSplit`.
        **params : dict
            Further arguments of the estimator's `fit`; arguments of length n are split like X. With metadata routing,
            also of the splitter. A `sample_weight` is used in training, not in the metric.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument is invalid, the scores do not have the shape of y, y has no known negative while unknown
            entries are left out, a split divides a group, or the labels of y are not those of a prefitted estimator.
        NotFittedError
            If cv is "prefit" and the estimator is not fitted.
        """
        with unchanged_on_failure(self):
            return self._fit(X, y, groups, params)

    def _fit(self, X: Any, y: Any, groups: Any, params: dict[str, Any]) -> Self:
        self._check_parameters()
        if groups is not None and isinstance(self.cv, str):
            raise ValueError("groups are passed, but cv='prefit' makes no splits: leave groups out.")
        target = encode_target(self, y)
        if self.unknown == "ignore" and not target.labels.has_absent:
            raise ValueError(
                "y holds no known negative (-1), so unknown='ignore' leaves no threshold to tune: over known entries "
                "alone it is best to predict all labels. Pass unknown='absent' to count entries of 0 as negative."
            )
        y = np.ravel(plain(y, "y")) if target.binary else rows_of_labels(y)
        X, y, groups = indexable(X, y, groups)
        fit_params, split_params = self._route(params, {} if groups is None else {"groups": groups})
        splits = None if isinstance(self.cv, str) else self._splits(X, y, split_params)
        if splits is None:
            check_is_fitted(self.estimator)
            self.estimator_ = self.estimator
            method, scores = scores_of(self.estimator_, X, self.response_method, binary=target.binary)
            rows = np.arange(target.labels.n_rows)
        else:
            if self.refit:
                self.estimator_ = clone(self.estimator).fit(X, y, **fit_params)
            ask = AskForScores(self.response_method, binary=target.binary, keep=not self.refit)
            answers = over_folds(ask, self.estimator, X, y, splits, fit_params, n_jobs=self.n_jobs)
            if not self.refit:
                self.estimator_ = answers[0][2]
            method = answers[0][0]
            scores = np.concatenate([answer[1] for answer in answers])
            rows = np.concatenate([test for _, test in splits])
        self._tune(target, rows, scores, method)
        self.label_names_ = _label_names(self.estimator_, target.labels)
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def _check_parameters(self) -> None:
        scorer = isinstance(self.scoring, BaseScorer)
        if scorer or not (callable(self.scoring) or (isinstance(self.scoring, str) and self.scoring in OBJECTIVES)):
            names = ", ".join(repr(name) for name in OBJECTIVES)
            instead = " A scorer takes an estimator: pass its metric function instead." if scorer else ""
            raise ValueError(
                f"scoring must be one of {names}, or a function of the true and predicted labels of one label, such as "
                f"sklearn.metrics.f1_score; got {self.scoring!r}.{instead}"
            )
        check_choice(self, "unknown", self.unknown, ("ignore", "absent"))
        check_choice(self, "response_method", self.response_method, ("auto", *DEFAULT_THRESHOLD))
        if self.thresholds is not None:
            check_whole(self, "thresholds", self.thresholds, 2, "a whole number of at least 2 or None")
        check_number(self, "shrinkage", self.shrinkage, "[0, inf)")
        if isinstance(self.cv, str):
            if self.cv != "prefit":
                raise ValueError(f"cv must be 'prefit' if it is a string, got {self.cv!r}.")
            if self.refit:
                raise ValueError("cv='prefit' does not refit the estimator, as in scikit-learn: set refit=False, too.")

    def _route(self, params: dict[str, Any], groups: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        if not get_config()["enable_metadata_routing"]:
            return params, groups
        routed = process_routing(self, "fit", **params, **groups)
        return routed.estimator.fit, routed.splitter.split

    def get_metadata_routing(self) -> MetadataRouter:
        """Routing of the arguments of `fit` to the estimator and the splitter.

        Returns
        -------
        MetadataRouter
            The routing.
        """
        router = MetadataRouter(owner=self)
        router.add(estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit"))
        # A number of folds means a splitter that takes groups if there are any.
        splitter = PartialLabelGroupKFold() if self.cv is None or isinstance(self.cv, Real) else self.cv
        router.add(splitter=splitter, method_mapping=MethodMapping().add(caller="fit", callee="split"))
        return router

    def _splits(self, X: Any, y: Any, params: dict[str, Any]) -> list[Split]:
        cv: Any = 5 if self.cv is None else self.cv
        if isinstance(cv, Real):
            number = float(cv)
            if isinstance(cv, bool) or not (number >= 2 if isinstance(cv, Integral) else 0 < number < 1):
                raise ValueError(f"cv must be a number of folds of at least 2 or a proportion in (0, 1), got {cv!r}.")
            grouped = params.get("groups") is not None
            if isinstance(cv, Integral):
                folds = PartialLabelGroupKFold if grouped else PartialLabelKFold
                cv = folds(int(cv), random_state=self.random_state)
            else:
                once = PartialLabelGroupShuffleSplit if grouped else PartialLabelShuffleSplit
                cv = once(1, test_size=number, random_state=self.random_state)
        splits: list[Split] = list(check_cv(cv).split(X, y, **params))
        check_apart(splits, params.get("groups"), cv)
        if not self.refit and len(splits) != 1:
            raise ValueError(
                f"refit=False keeps the estimator of a single split, but cv makes {len(splits)} splits: pass cv as the "
                "proportion of a test part, or set refit=True."
            )
        return splits

    def _tune(self, target: EncodedTarget, rows: NDArray[Any], scores: NDArray[np.float64], method: str) -> None:
        labels = target.labels.take(rows)
        if scores.shape != labels.shape:
            raise ValueError(
                f"{method} returns {scores.shape[1]} columns, but y has {labels.n_labels} labels: TunedThresholdsCV "
                "needs one score per row and label."
            )
        tuning = Tuning(self.scoring, self.unknown, self.thresholds, self.shrinkage)
        self.thresholds_, self.best_scores_ = tuning.thresholds(labels, scores, method)
        self.tuned_ = ~np.isnan(self.best_scores_)
        self._method = method
        self._binary = target.binary

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes of the fitted estimator."""
        return np.asarray(self.estimator_.classes_)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predicted labels.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n, d)
            Features.

        Returns
        -------
        ndarray of int64, shape (n, L), or of classes, shape (n,), after a fit on 1-D y
            1 where the score is above the threshold of the label, else 0.
        """
        check_is_fitted(self)
        present = scores_of(self.estimator_, X, self._method, binary=self._binary)[1] > self.thresholds_
        if self._binary:
            return np.asarray(self.classes_[present[:, 0].astype(np.int64)])
        return present.astype(np.int64)

    @available_if(_estimator_has("predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Probabilities of the fitted estimator, which tuning does not change.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n, d)
            Features.

        Returns
        -------
        ndarray of shape (n, L), or (n, 2) after a fit on 1-D y
            The result of the estimator.
        """
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict_proba(X))

    @available_if(_estimator_has("predict_log_proba"))
    def predict_log_proba(self, X: Any) -> NDArray[Any]:
        """Logarithms of the probabilities of the fitted estimator.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n, d)
            Features.

        Returns
        -------
        ndarray of shape (n, L), or (n, 2) after a fit on 1-D y
            The result of the estimator.
        """
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict_log_proba(X))

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X: Any) -> NDArray[Any]:
        """Decision values of the fitted estimator, which tuning does not change.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n, d)
            Features.

        Returns
        -------
        ndarray of shape (n, L), or (n,) after a fit on 1-D y
            The result of the estimator.
        """
        check_is_fitted(self)
        return np.asarray(self.estimator_.decision_function(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The fitted estimator's own score; for 1-D y the accuracy of the tuned predictions.

        Parameters
        ----------
        X : array-like, DataFrame or sparse matrix, shape (n, d)
            Features.
        y : array-like, DataFrame or sparse matrix, shape (n, L) or (n,)
            Labels.
        sample_weight : array-like of shape (n,) or (n, L), or None, default=None
            Weights of rows or entries, as accepted by the fitted estimator's `score`.

        Returns
        -------
        float
            The score. Ranking scores, such as mean average precision, do not depend on thresholds: to see the effect of
            tuning, use a metric of predicted labels, such as :func:`skpartial.metrics.f1`.
        """
        check_is_fitted(self)
        if self._binary:
            return float(accuracy_score(plain(y, "y"), self.predict(X), sample_weight=sample_weight))
        check_label_names(self.label_names_, column_names(y), "y")
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        return float(self.estimator_.score(X, y, **weights))

    def __sklearn_tags__(self) -> Tags:
        """Tags of the estimator."""
        tags: Tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.target_tags = inner.target_tags
        if inner.classifier_tags is not None:
            tags.classifier_tags = inner.classifier_tags
        tags.classifier_tags.multi_class = False
        return tags


def _label_names(estimator: Any, labels: LabelMatrix) -> NDArray[Any]:
    """Names of the labels, from the fitted estimator or else from y."""
    names = fitted_label_names(estimator)
    if names is None:
        return np.arange(labels.n_labels).astype(str).astype(object) if labels.names is None else labels.names
    check_label_names(names, labels.names, "y")
    return names
