"""Joint fitting and scoring of the candidates of a search on one fold."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from skpartial import heads
from skpartial._base import BasePartialLabelClassifier
from skpartial._fit import FitPlan
from skpartial._inputs import check_features, encode_target
from skpartial._rows import Rows
from skpartial._sklearn_compat import (
    BaseScorer,
    MultimetricScorer,
    PassthroughScorer,
    check_method_params,
    fit_and_score,
    has_callbacks,
    metric_of,
    num_samples,
    response_of,
    safe_split,
    score,
    score_predictions,
    scorers_of,
)
from skpartial._task import features_options
from skpartial._warnings import warn
from skpartial.features._choice import as_features
from skpartial.metrics import mean_average_precision, mean_roc_auc
from skpartial.solvers import Solver
from skpartial.solvers._base import solve_tasks
from skpartial.training._problem import Problem, Solution

__all__ = ["Evaluation", "configured", "last_step", "reason_against"]

# Candidates are trained and scored in groups whose logits take at most this many bytes.
_LOGITS_BYTES = 512 << 20

_STACKED_METRICS = (mean_average_precision, mean_roc_auc)


def configured(base: Any, parameters: dict[str, Any]) -> Any:
    """A clone with these parameters, which are cloned, too, as in scikit-learn's searches."""
    return clone(base).set_params(**clone(parameters, safe=False))


def last_step(estimator: Any) -> Any:
    """The last step of a pipeline; any other estimator itself."""
    return estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator


def reason_against(estimator: Any, fit_params: dict[str, Any]) -> str | None:
    """The reason why a candidate cannot be fitted together with others; None if it can."""
    last = last_step(estimator)
    own, rest = _of_last_step(estimator, fit_params)
    if type(estimator) is not Pipeline and last is not estimator:
        return f"{type(estimator).__name__} is not scikit-learn's own Pipeline"
    if getattr(type(last), "fit", None) is not BasePartialLabelClassifier.fit:
        return f"{type(last).__name__} is not a classifier of skpartial"
    for name in ("backbone", "relabeling", "validation_fraction", "checkpoint_dir", "warm_start", "verbose"):
        if getattr(last, name) not in (None, False, 0):
            return f"{name} is set"
    if last.regularizer is not None and getattr(last.regularizer, "refines", False):
        return "the regularizer refines a head that is first trained without it"
    if not isinstance(heads.get(last.head), heads.Linear):
        return "the head is not linear"
    steps = [step for _, step in estimator.steps] if last is not estimator else [estimator]
    if any(has_callbacks(step) for step in (estimator, *steps)):
        return "callbacks are set"
    strange = [name for name in own if name not in ("sample_weight", "label_prior")]
    strange += rest if len(steps) == 1 else ()
    return f"fit is passed {strange[0]}" if strange else None


def _of_last_step(estimator: Any, fit_params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of `fit` for the last step, and for the other steps."""
    if not isinstance(estimator, Pipeline):
        return fit_params, {}
    prefix = f"{estimator.steps[-1][0]}__"
    own = {key.removeprefix(prefix): value for key, value in fit_params.items() if key.startswith(prefix)}
    return own, {key: value for key, value in fit_params.items() if not key.startswith(prefix)}


@dataclass
class _Fit:
    """A candidate while it is fitted.

    Parameters
    ----------
    index : int
        Index of the candidate.
    whole : estimator
        The candidate with its earlier steps.
    """

    index: int
    whole: Any

    @property
    def last(self) -> BasePartialLabelClassifier:
        """The last step, which is fitted together with those of other candidates."""
        classifier: BasePartialLabelClassifier = last_step(self.whole)
        return classifier


class _Fold:
    """The rows of a fold after the earlier steps, for candidates that share these steps."""

    def __init__(
        self, whole: Any, X: Any, y: Any, train: NDArray[Any], test: NDArray[Any], fit_params: dict[str, Any]
    ) -> None:
        self.X_train, self.y_train = safe_split(whole, X, y, train)
        self.X_test, self.y_test = safe_split(whole, X, y, test, train)
        own, rest = _of_last_step(whole, check_method_params(X, params=fit_params, indices=train))
        self.earlier: Pipeline | None = None
        features = self.X_train
        if isinstance(whole, Pipeline) and len(whole.steps) > 1:
            self.earlier = whole[:-1]
            features = self.earlier.fit_transform(self.X_train, self.y_train, **rest)
        self.first = last_step(whole)
        checked = check_features(self.first, features, reset=True)
        target = encode_target(self.first, self.y_train)
        self.rows = Rows.check(checked, target, own.get("sample_weight"), own.get("label_prior")).rescaled()

    def transformed(self, X: Any) -> Any:
        """X after the earlier steps."""
        return X if self.earlier is None else self.earlier.transform(X)

    def adopt(self, fit: _Fit) -> None:
        """Pass the shared fitted steps and validated data to a candidate."""
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.first, name):
                setattr(fit.last, name, getattr(self.first, name))
        if self.earlier is not None:
            fit.whole.steps[:-1] = self.earlier.steps


@dataclass(frozen=True)
class Evaluation:
    """Fits and scores the candidates of a search on a fold.

    Parameters
    ----------
    base : estimator
        Estimator that is cloned for the candidates.
    X, y : indexable of the same length
        All rows.
    scorer : callable
        As in scikit-learn's searches: one scorer, several combined, or a function.
    fit_params, score_params : dict
        Further arguments.
    return_train_score : bool
        Whether to score the training rows, too.
    error_score : float or "raise"
        Score of a candidate that cannot be fitted or scored.
    verbose : int
        Above 1, print the fits.
    """

    base: Any
    X: Any
    y: Any
    scorer: Any
    fit_params: dict[str, Any]
    score_params: dict[str, Any]
    return_train_score: bool
    error_score: Any
    verbose: int

    def __call__(
        self,
        train: NDArray[Any],
        test: NDArray[Any],
        candidates: Sequence[dict[str, Any]],
        seeds: Sequence[int | None],
    ) -> list[dict[str, Any]]:
        """Fit and score candidates on a fold: together, or alone if they have no seed."""
        known = [seed for seed in seeds if seed is not None]
        if len(known) < len(candidates):
            return [self.alone(train, test, parameters) for parameters in candidates]
        return self.together(train, test, candidates, known)

    def alone(self, train: NDArray[Any], test: NDArray[Any], parameters: dict[str, Any]) -> dict[str, Any]:
        """Fit and score one candidate like GridSearchCV."""
        found: dict[str, Any] = fit_and_score(
            clone(self.base),
            self.X,
            self.y,
            train=train,
            test=test,
            parameters=parameters,
            scorer=self.scorer,
            fit_params=self.fit_params,
            score_params=self.score_params,
            return_train_score=self.return_train_score,
            return_n_test_samples=True,
            return_times=True,
            error_score=self.error_score,
            verbose=self.verbose,
        )
        return found

    def together(
        self, train: NDArray[Any], test: NDArray[Any], candidates: Sequence[dict[str, Any]], seeds: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Fit and score candidates that only differ in their last steps.

        A candidate that fails is fitted again alone, so that its error is reported as in GridSearchCV.

        Parameters
        ----------
        train, test : ndarray of int
            The rows of the fold.
        candidates : sequence of dict
            Parameters of the candidates.
        seeds : sequence of int
            Seeds of the candidates.

        Returns
        -------
        list of dict
            The results that `alone` would return.
        """
        start = time.perf_counter()
        found: dict[int, dict[str, Any]] = {}
        errors: dict[int, Exception] = {}
        try:
            fits = [_Fit(i, configured(self.base, parameters)) for i, parameters in enumerate(candidates)]
            fold = _Fold(fits[0].whole, self.X, self.y, train, test, self.fit_params)
            shared = (time.perf_counter() - start) / len(fits)
            ranks = all(_ranks(scorer) for scorer in _scorers(self.scorer).values()) and not fold.rows.target.binary
            for rows, block in _blocks(fold, fits, errors):
                start = time.perf_counter()
                fitted = _fit_block(fold, rows, block, seeds, errors, decides=not ranks)
                fit_time = shared + (time.perf_counter() - start) / max(1, len(fitted))
                found.update(self._scored(fold, fitted, fit_time, train, test))
                for fit in block:
                    fit.whole = None  # It may hold data for every row.
        except Exception as error:
            errors |= {i: error for i in range(len(candidates)) if i not in errors}
        left = [i for i in range(len(candidates)) if i not in found]
        found.update((i, self.alone(train, test, candidates[i])) for i in left)
        rescued = [i for i in left if found[i]["fit_error"] is None]
        if rescued:
            warn(
                f"{len(rescued)} candidates were fitted one by one on a fold, as fitting them together failed: "
                f"{errors[rescued[0]]!r}.",
            )
        if self.verbose > 1:
            print(f"[CV] {len(found) - len(left)} candidates fitted together and scored")
        return [found[i] for i in range(len(candidates))]

    def _scored(
        self, fold: _Fold, fits: list[_Fit], fit_time: float, train: NDArray[Any], test: NDArray[Any]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Results of fitted candidates, by index."""
        if not fits:
            return
        start = time.perf_counter()
        test_scores = self._scores(fold, fits, fold.X_test, fold.y_test, test)
        score_time = (time.perf_counter() - start) / len(fits)
        scores = {"test_scores": test_scores}
        if self.return_train_score:
            scores["train_scores"] = self._scores(fold, fits, fold.X_train, fold.y_train, train)
        for i, fit in enumerate(fits):
            found = {
                "fit_error": None,
                "n_test_samples": num_samples(fold.X_test),
                "fit_time": fit_time,
                "score_time": score_time,
            }
            yield fit.index, found | {name: values[i] for name, values in scores.items()}

    def _scores(self, fold: _Fold, fits: list[_Fit], X: Any, y: Any, rows: NDArray[Any]) -> list[Any]:
        """Scores of fitted candidates on some rows, stacked if the scorers allow it."""
        params = check_method_params(self.X, params=self.score_params, indices=rows)
        scorers = list(_scorers(self.scorer).values())
        models: list[Any] = [fit.whole for fit in fits]
        # Scorers only need predictions, so the earlier steps are not repeated for each scorer.
        if all(isinstance(scorer, BaseScorer | PassthroughScorer) for scorer in scorers):
            with suppress(Exception):  # reported below, for each candidate
                X = fold.transformed(X)
                models = [fit.last for fit in fits]
                if not params and all(_is_stackable(scorer, models[0]) for scorer in scorers):
                    return _stacked_scores(self.scorer, models, X, y)
        return [score(model, X, y, self.scorer, params, self.error_score) for model in models]


def _blocks(fold: _Fold, fits: list[_Fit], errors: dict[int, Exception]) -> Iterator[tuple[Rows, list[_Fit]]]:
    """Groups of candidates that share features and are scored at once, with their training rows."""
    groups: dict[Any, list[_Fit]] = {}
    for fit in fits:
        try:
            options = features_options(fit.last, fold.rows.X)
        except Exception as error:
            errors[fit.index] = error
        else:
            groups.setdefault((type(fit.last), *options.items()), []).append(fit)
    for (_, *options), members in groups.items():
        rows = replace(fold.rows, X=as_features(fold.rows.X, **dict(options)))
        n_rows = max(rows.X.n_rows, num_samples(fold.X_test))
        size = max(1, _LOGITS_BYTES // (n_rows * rows.target.labels.n_labels * rows.X.dtype.itemsize))
        for i in range(0, len(members), size):
            yield rows, members[i : i + size]


def _fit_block(
    fold: _Fold, rows: Rows, fits: list[_Fit], seeds: Sequence[int], errors: dict[int, Exception], *, decides: bool
) -> list[_Fit]:
    """Fit candidates together; candidates that fail are left out.

    If only rankings within labels are scored, decision thresholds are not estimated.
    """
    prepared = []
    for fit in fits:
        try:
            plan = FitPlan.make(fit.last, rows, seed=seeds[fit.index])
        except Exception as error:
            errors[fit.index] = error
        else:
            prepared.append((fit, plan))
    fitted = []
    # One stage each: there is no network, and no head that is trained twice.
    stages = [stage for _, plan in prepared for stage in plan.stages]
    for (fit, plan), solution in zip(prepared, _solve([(stage.solver, stage.problem) for stage in stages])):
        if isinstance(solution, Exception):
            errors[fit.index] = solution
            continue
        fold.adopt(fit)
        shift = fit.last._find_shift(replace(plan, rows=fold.rows), solution) if decides else 0.0
        plan.accept(solution, shift=shift)
        fitted.append(fit)
    return fitted


def _solve(tasks: list[tuple[Solver, Problem]]) -> list[Solution | Exception]:
    """Solve together; after a failure in smaller groups, until the failing tasks are found."""
    try:
        return list(solve_tasks(tasks))
    except Exception as error:
        if len(tasks) == 1:
            return [error]
        half = len(tasks) // 2
        found = _solve(tasks[:half]) + _solve(tasks[half:])
        if not any(isinstance(solution, Exception) for solution in found):
            warn(
                f"{len(tasks)} candidates were solved in smaller groups, as solving them together failed: {error!r}.",
            )
        return found


def _scorers(scorer: Any) -> dict[str, Any]:
    """The scorers in a scorer, by name."""
    return scorers_of(scorer) if isinstance(scorer, MultimetricScorer) else {"score": scorer}


def _is_stackable(scorer: Any, fitted: BasePartialLabelClassifier) -> bool:
    """Whether the logits of all candidates can be scored at once."""
    if isinstance(scorer, PassthroughScorer):
        return type(fitted).score is BasePartialLabelClassifier.score
    return _ranks(scorer) and not fitted._binary


def _ranks(scorer: Any) -> bool:
    """Whether a scorer only depends on rankings within labels."""
    if isinstance(scorer, PassthroughScorer):
        return True
    return (
        isinstance(scorer, BaseScorer)
        and metric_of(scorer) in _STACKED_METRICS
        and response_of(scorer) == "decision_function"
    )


def _stacked_scores(scorer: Any, fitted: list[BasePartialLabelClassifier], X: Any, y: Any) -> list[Any]:
    """Scores of every candidate by a stackable scorer, with one product with X."""
    stack = copy.copy(fitted[0])
    stack.coef_ = np.concatenate([model.coef_ for model in fitted])
    stack.intercept_ = np.concatenate([model.intercept_ for model in fitted])
    logits = stack._logits(X)
    logits = logits.reshape(len(logits), len(fitted), -1).swapaxes(0, 1)
    scores = {}
    for name, one in _scorers(scorer).items():
        if isinstance(one, PassthroughScorer):
            scores[name] = fitted[0]._score_logits(logits, y).tolist()
        else:
            scores[name] = score_predictions(one, y, logits).tolist()
    if isinstance(scorer, MultimetricScorer):
        return [dict(zip(scores, values)) for values in zip(*scores.values())]
    return list(scores["score"])
