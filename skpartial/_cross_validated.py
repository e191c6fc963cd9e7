"""Classifiers that choose alpha, the strength of the penalty, by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from typing_extensions import override

from skpartial._alpha import choose_alpha, scored_folds
from skpartial._base import BasePartialLabelClassifier
from skpartial._checks import check_number, check_whole, wrong_value
from skpartial._chunks import read_chunks
from skpartial._docstrings import CLASSIFIER_ATTRIBUTES, CV_ATTRIBUTES, CV_PARAMETERS, PARAMETERS_BUT_ALPHA, fill
from skpartial._fit import FitPlan
from skpartial._inputs import EncodedTarget, encode_target, rows_of_labels
from skpartial._partial_label import PartialLabelClassifier
from skpartial._processes import ALONE, fitting_processes
from skpartial._rows import Rows
from skpartial._single_positive import SinglePositiveClassifier
from skpartial._task import check_input, check_parameters
from skpartial._unchanged import unchanged_on_failure
from skpartial._warnings import warn
from skpartial.exceptions import AmbiguousLabelsWarning, UnfittableLabelsWarning
from skpartial.heads import Head
from skpartial.labels._forms import plain
from skpartial.losses import Loss
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelGroupKFold, PartialLabelKFold
from skpartial.model_selection._groups import check_apart
from skpartial.model_selection._positions import splits_as_positions
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Solver
from skpartial.thresholds import Threshold

__all__ = ["PartialLabelClassifierCV", "SinglePositiveClassifierCV"]

Split = tuple[NDArray[Any], NDArray[Any]]

# Relative gap at which fits on folds stop, if the user names no solver. In 44 of 45 cases (five data sets, 3% and 10%
# of the entries known and single positives, three seeds) the choice is the same as at a gap of 1e-5. Mean scores change
# by up to .003 with 10% known and with single positives, and by up to .01 with 3%, where they are least informative.
_GAP_ON_FOLDS = 1e-3

# The default penalties extend this many powers of ten below and above "auto".
_DECADES = 2

# Overridden in the candidates: only the fit on all rows is saved, shown and continued.
_OF_THE_LAST_FIT = {"checkpoint_dir": None, "warm_start": False, "verbose": 0}


class _Data(NamedTuple):
    """Data to fit and score candidates on, in a form that can be sliced by rows."""

    X: Any
    y: Any
    target: EncodedTarget


class _AlphaByCrossValidation(BasePartialLabelClassifier):
    """Chooses alpha by cross-validation, and is then the classifier with that alpha.

    `alpha` is not a parameter here: the attribute stays at "auto", and `_chosen_alpha` replaces it.
    """

    alphas: Any
    cv: Any
    scoring: Any

    _classifier: ClassVar[type[BasePartialLabelClassifier]]

    @override
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        label_prior: Any = None,
        groups: Any = None,
    ) -> Self:
        """Choose alpha by cross-validation, and train with it on all rows.

        Parameters
        ----------
        X, y, sample_weight, label_prior
            As in `PartialLabelClassifier.fit`. Weights are used in training and in scores, as in `GridSearchCV`.
        X_val, y_val : like X and y, default=None
            Held-out rows to choose the epoch of the fit on all rows; not used to choose alpha.
        groups : array-like of shape (n,) or None, default=None
            Group of each row; no group is on both sides of a split.

        Returns
        -------
        self
            The fitted estimator.

        Raises
        ------
        ValueError
            If an argument has the wrong shape or values, or a split divides a group.

        Warns
        -----
        UserWarning
            If no fold can be scored, so that alpha is the value of "auto"; or if the penalties cannot be fitted
            together, which is slower.
        """
        with unchanged_on_failure(self), read_chunks(X, y, X_val, y_val, images=self.backbone is not None) as read:
            X, y, X_val, y_val = read
            self._choose(X, y, {"sample_weight": sample_weight, "label_prior": label_prior}, groups)
            return super().fit(X, y, sample_weight, X_val=X_val, y_val=y_val, label_prior=label_prior)

    @property
    def partial_fit(self) -> Any:
        """Raises AttributeError, so that `hasattr` is False: the choice of alpha needs all rows at once."""
        raise AttributeError(
            f"{type(self).__name__} chooses alpha by cross-validation, which needs all rows at once: use fit, or "
            f"{self._classifier.__name__}(alpha=...).partial_fit."
        )

    @override
    def _chosen_alpha(self) -> float | None:
        return getattr(self, "_best_alpha", None)

    @override
    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.backbone is not None:
            raise ValueError(
                f"{type(self).__name__} takes features, not images: with a backbone, search over alpha with "
                f"GridSearchCV({self._classifier.__name__}(backbone=...), ...)."
            )
        what = "a whole number of at least 1, or a sequence of 'auto' and numbers of at least 0"
        if isinstance(self.alphas, Integral):
            check_whole(self, "alphas", self.alphas, 1, what)
        elif np.ndim(self.alphas) != 1 or not len(self.alphas):
            raise wrong_value(self, "alphas", what, self.alphas)
        else:
            for alpha in self.alphas:
                if not (isinstance(alpha, str) and alpha == "auto"):
                    check_number(self, "alphas", alpha, "[0, inf)", what)
        if isinstance(self.cv, Integral):
            check_whole(self, "cv", self.cv, 2, "a number of folds of at least 2, a splitter or splits")
        if self.scoring is not None and not isinstance(self.scoring, str) and not callable(self.scoring):
            raise wrong_value(self, "scoring", "None or a single scorer, because one score chooses alpha", self.scoring)

    def _choose(self, X: Any, y: Any, fit_params: dict[str, Any], groups: Any) -> None:
        """Set the attributes of the search, and the penalty to use."""
        check_parameters(self)
        goes_on = self.warm_start and hasattr(self, "n_iter_")
        checked = check_input(self, None, X, reset=not goes_on)
        with warnings.catch_warnings():
            # The fit on all rows gives the warnings about y.
            warnings.simplefilter("ignore")
            target = encode_target(self, y, matrix=goes_on and not self._binary)
        rows = Rows.check(checked, target, fit_params["sample_weight"], fit_params["label_prior"]).rescaled()
        candidate = self._candidate()
        stage = FitPlan.make(candidate, rows, seed=0, warns=False).stages[0]
        auto = stage.problem.alpha
        if isinstance(candidate.solver, str) and isinstance(stage.solver, FullBatch):
            candidate.solver = FullBatch(tol=_GAP_ON_FOLDS)
        if isinstance(self.alphas, Integral):
            n = int(self.alphas)
            steps = np.linspace(-_DECADES, _DECADES, n) if n > 1 else np.zeros(1)
            alphas: list[Any] = (auto * 10.0**steps).tolist()
        else:
            alphas = [alpha if isinstance(alpha, str) else float(alpha) for alpha in self.alphas]
        numbers = np.array([auto if isinstance(alpha, str) else alpha for alpha in alphas])
        X, y = indexable(X, np.ravel(plain(y, "y")) if target.binary else rows_of_labels(y))
        data = _Data(X, y, target)
        given = {name: value for name, value in fit_params.items() if value is not None}
        counted = None if rows.row_weight is None else rows.row_weight.numpy() > 0
        scores = self._scores_of(alphas, candidate, data, given, self._splits(data, groups), counted)
        best = choose_alpha(numbers, scores, auto)
        if best is None:
            why = (
                "a held-out part of y needs a label with a known positive and a known negative, and 1-D y needs both "
                "classes in each training part"
            )
            if counted is not None:
                why += "; rows of weight 0 do not count"
            if self.scoring is not None:
                why = f"scoring={self.scoring!r} returned no number; {why}"
            warn(f"{type(self).__name__} cannot score any fold, so alpha is the value of 'auto', {auto:.3g}: {why}.")
        self.alphas_, self.scores_ = numbers, scores
        self.best_score_ = float("nan") if best is None else float(scores[best][scored_folds(scores)].mean())
        self._best_alpha = auto if best is None else float(numbers[best])

    def _candidate(self) -> BasePartialLabelClassifier:
        """The classifier to try, with alpha still to be set."""
        own = {"alphas", "cv", "scoring"}
        parameters = {name: value for name, value in self.get_params(deep=False).items() if name not in own}
        return self._classifier(**clone(parameters, safe=False) | _OF_THE_LAST_FIT)

    def _splits(self, data: _Data, groups: Any) -> list[Split]:
        cv: Any = 5 if self.cv is None else self.cv
        if isinstance(cv, Integral):
            folds = PartialLabelKFold if groups is None else PartialLabelGroupKFold
            # Processes that fit together need the same folds.
            random_state = self.random_state if fitting_processes() is ALONE else self._draw_seed()
            cv = folds(int(cv), random_state=random_state)
        elif isinstance(cv, Iterable) and not hasattr(cv, "split") and not isinstance(cv, str):
            cv = splits_as_positions(cv, data.target.labels.n_rows)
        splits: list[Split] = list(check_cv(cv).split(data.X, data.y, groups))
        check_apart(splits, groups, cv)
        return splits

    def _scores_of(
        self,
        alphas: Sequence[Any],
        candidate: BasePartialLabelClassifier,
        data: _Data,
        fit_params: dict[str, Any],
        splits: list[Split],
        counted: NDArray[np.bool_] | None,
    ) -> NDArray[np.float64]:
        """The score of every alpha on every fold, NaN for folds that cannot be scored; `counted` rows have a weight."""
        scores = np.full((len(alphas), len(splits)), np.nan)
        usable = [self._can_be_scored(data.target, *_counted(split, counted)) for split in splits]
        can_be_scored = np.array(usable, dtype=bool)
        if not can_be_scored.any():
            return scores
        search = BatchedGridSearchCV(
            candidate,
            {"alpha": list(alphas)},
            scoring=self.scoring,
            cv=[split for split, can_be in zip(splits, usable) if can_be],
            refit=False,
        )
        # All arguments are passed on: metadata routing is not needed.
        with config_context(enable_metadata_routing=False), warnings.catch_warnings():
            for category in (AmbiguousLabelsWarning, UnfittableLabelsWarning, ConvergenceWarning):
                warnings.simplefilter("ignore", category)
            # Documented, and the same in every fold.
            warnings.filterwarnings("ignore", ".*does not support sample_weight")
            results = search.fit(data.X, data.y, **fit_params).cv_results_
        if "split0_test_score" not in results:
            raise wrong_value(self, "scoring", "a scorer that returns one number, not several", self.scoring)
        per_fold = [results[f"split{fold}_test_score"] for fold in range(search.n_splits_)]
        scores[:, can_be_scored] = np.transpose(per_fold)
        return scores

    def _can_be_scored(self, target: EncodedTarget, train: NDArray[Any], test: NDArray[Any]) -> bool:
        """Whether a fold can be fitted and scored by the classifier's own score; other scorers do their own checks."""
        if not len(train) or not len(test):
            return False
        if target.binary:
            return len(np.unique(target.labels.take(train).toarray())) == 2
        if self.scoring is not None:
            return True
        labels = target.labels.take(test)
        try:
            self._scorer(labels)(np.zeros(labels.shape))
        except ValueError:
            return False
        return True


def _counted(split: Split, counted: NDArray[np.bool_] | None) -> Split:
    """The parts of a split without the rows that do not count; None stands for rows that all count."""
    train, test = split
    return split if counted is None else (train[counted[train]], test[counted[test]])


@fill(
    cv_parameters=CV_PARAMETERS,
    parameters=PARAMETERS_BUT_ALPHA,
    attributes=CLASSIFIER_ATTRIBUTES,
    cv_attributes=CV_ATTRIBUTES,
)
class PartialLabelClassifierCV(_AlphaByCrossValidation, PartialLabelClassifier):
    r""":class:`~skpartial.PartialLabelClassifier` that chooses its penalty by cross-validation.

    All penalties are fitted together on each fold. Among the penalties whose mean score over folds is within one
    standard error of the best, the one nearest to the value of ``alpha="auto"`` is chosen: if few entries are known the
    scores are noisy, and the choice stays near "auto". Let :math:`s_{ak}` be the score of penalty a on fold k of K, and
    b the penalty with the best mean score. A penalty is within one standard error if

    .. math:: \frac{1}{K} \sum_k d_{ak} \le \frac{1}{\sqrt{K}} \operatorname{sd}_k(d_{ak}),
        \qquad d_{ak} = s_{bk} - s_{ak}

    Parameters
    ----------
    {cv_parameters}
    loss : str or Loss, default="iu"
        What is minimised, and what an unknown entry means; see :mod:`skpartial.losses`.
    {parameters}

    Attributes
    ----------
    {cv_attributes}
    {attributes}

    See Also
    --------
    PartialLabelClassifier : With a given alpha.
    skpartial.model_selection.BatchedGridSearchCV : For parameters other than alpha.

    Notes
    -----
    Images raise an error: use `GridSearchCV` for them. `checkpoint_dir`, `warm_start`, `verbose` and callbacks apply to
    the fit on all rows only. Ten penalties on five folds take about 12 to 23 times as long as one fit. If `solver` is a
    string, the full-batch solver stops at a relative gap of 1e-3 on folds, which is accurate enough for scores; the fit
    on all rows has the usual tolerance. ``solver=FullBatch()`` uses the usual tolerance everywhere.

    Examples
    --------
    >>> from skpartial import PartialLabelClassifierCV
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import drop_labels
    >>> scenes = make_digit_scenes(300, random_state=0)
    >>> Y = drop_labels(scenes.target, known=0.3, random_state=0)
    >>> clf = PartialLabelClassifierCV(5, cv=3, random_state=0).fit(scenes.data, Y)
    >>> clf.scores_.shape
    (5, 3)
    >>> clf.alpha_ in clf.alphas_
    True
    """

    _classifier = PartialLabelClassifier

    def __init__(
        self,
        alphas: Any = 10,
        *,
        cv: Any = None,
        scoring: Any = None,
        loss: str | Loss = "iu",
        backbone: Any = None,
        head: str | Head = "linear",
        relabeling: Relabeling | None = None,
        regularizer: Regularizer | None = None,
        solver: str | Solver = "auto",
        class_weight: Any = None,
        validation_fraction: float | None = None,
        warm_start: bool = False,
        device: Any = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        checkpoint_dir: str | None = None,
        store_state: bool | Literal["auto"] = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            loss,
            backbone=backbone,
            head=head,
            relabeling=relabeling,
            regularizer=regularizer,
            solver=solver,
            class_weight=class_weight,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            device=device,
            precision=precision,
            n_jobs=n_jobs,
            checkpoint_dir=checkpoint_dir,
            store_state=store_state,
            random_state=random_state,
            verbose=verbose,
        )
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring


@fill(
    cv_parameters=CV_PARAMETERS,
    parameters=PARAMETERS_BUT_ALPHA,
    attributes=CLASSIFIER_ATTRIBUTES,
    cv_attributes=CV_ATTRIBUTES,
)
class SinglePositiveClassifierCV(_AlphaByCrossValidation, SinglePositiveClassifier):
    """:class:`~skpartial.SinglePositiveClassifier` that chooses its penalty by cross-validation.

    As in :class:`PartialLabelClassifierCV`. The score treats unknown entries as negative, so alpha is chosen by how
    well the known positives of held-out rows are found; no complete labels are needed.

    Parameters
    ----------
    {cv_parameters}
    loss : str or Loss, default="an"
        What is minimised, and what an unknown entry means; see :mod:`skpartial.losses`.
    {parameters}
    threshold : float in (0, 1), "auto" or a rule of skpartial.thresholds, default="auto"
        Lowest fitted probability at which a label is predicted, as in :class:`SinglePositiveClassifier`.

    Attributes
    ----------
    {cv_attributes}
    {attributes}
    threshold_ : float or ndarray of shape (L,)
        The threshold used; an array if each label has its own.

    See Also
    --------
    SinglePositiveClassifier : With a given alpha.
    PartialLabelClassifierCV : For labels with known positives and known negatives.

    Examples
    --------
    >>> from skpartial import SinglePositiveClassifierCV
    >>> from skpartial.datasets import make_digit_scenes
    >>> from skpartial.labels import keep_single_positive
    >>> scenes = make_digit_scenes(300, random_state=0)
    >>> seen = keep_single_positive(scenes.target, random_state=0)
    >>> clf = SinglePositiveClassifierCV([1e-3, "auto", 10.0], cv=3, random_state=0).fit(scenes.data, seen)
    >>> clf.scores_.shape
    (3, 3)
    >>> clf.alpha_ < 10
    True
    """

    _classifier = SinglePositiveClassifier

    def __init__(
        self,
        alphas: Any = 10,
        *,
        cv: Any = None,
        scoring: Any = None,
        loss: str | Loss = "an",
        backbone: Any = None,
        head: str | Head = "linear",
        relabeling: Relabeling | None = None,
        regularizer: Regularizer | None = None,
        solver: str | Solver = "auto",
        class_weight: Any = None,
        validation_fraction: float | None = None,
        warm_start: bool = False,
        device: Any = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        checkpoint_dir: str | None = None,
        store_state: bool | Literal["auto"] = "auto",
        random_state: Any = None,
        verbose: int = 0,
        threshold: float | Literal["auto"] | Threshold = "auto",
    ) -> None:
        super().__init__(
            loss,
            backbone=backbone,
            head=head,
            relabeling=relabeling,
            regularizer=regularizer,
            solver=solver,
            class_weight=class_weight,
            validation_fraction=validation_fraction,
            warm_start=warm_start,
            device=device,
            precision=precision,
            n_jobs=n_jobs,
            checkpoint_dir=checkpoint_dir,
            store_state=store_state,
            random_state=random_state,
            verbose=verbose,
            threshold=threshold,
        )
        self.alphas = alphas
        self.cv = cv
        self.scoring = scoring
