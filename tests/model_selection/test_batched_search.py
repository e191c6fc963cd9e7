"""The batched search: what GridSearchCV finds, with what can be shared done once a fold."""

from __future__ import annotations

import pickle
import warnings
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial._base import BasePartialLabelClassifier
from skpartial.heads import AveragePooling
from skpartial.labels import drop_labels
from skpartial.losses import AssumeNegative, IgnoreUnknown, PartialBCE, WeakAssumeNegative
from skpartial.metrics import (
    f1,
    f1_macro_scorer,
    mean_average_precision_scorer,
    mean_average_precision_unknown_absent_scorer,
    roc_auc_scorer,
)
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelKFold, _together
from skpartial.model_selection._together import Evaluation
from skpartial.solvers import FullBatch, Minibatch

TIGHT = FullBatch(tol=1e-12, max_iter=1000)
FOLDS = PartialLabelKFold(3, random_state=0)
ALPHAS = {"alpha": [1e-3, 1e-2, 1e-1]}


def make_data(n=90, d=6, L=4, known=0.6, seed=0):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n, d))
    Y = np.where(X @ rng.normal(size=(d, L)) + rng.normal(size=(n, L)) > 0.3, 1, -1)
    return X, drop_labels(Y, known=known, random_state=seed)


X, Y = make_data()
ONE = (Y[:, 0] == 1).astype(int)
CLASSIFIER = PartialLabelClassifier("partial_bce", solver=TIGHT, random_state=0)


def pipeline(classifier=CLASSIFIER):
    return Pipeline([("scale", StandardScaler()), ("clf", clone(classifier))])


@contextmanager
def counted_fits():
    """Counts ordinary fits of the classifiers."""
    count = Counter()
    fit = BasePartialLabelClassifier.fit

    def counted(self, *args, **kwargs):
        count["fits"] += 1
        return fit(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BasePartialLabelClassifier, "fit", counted)
        yield count


@pytest.fixture
def tasks(monkeypatch):
    """Sees what the solvers are given."""
    calls = []
    solve = _together.solve_tasks

    def seen(tasks):
        calls.append(list(tasks))
        return solve(tasks)

    monkeypatch.setattr(_together, "solve_tasks", seen)
    return calls


def assert_same(ours, theirs, tol=1e-6):
    """All results but times are equal, in the same order."""
    assert list(ours.cv_results_) == list(theirs.cv_results_)
    for key, expected in theirs.cv_results_.items():
        found = ours.cv_results_[key]
        if key == "params":
            assert [repr(p) for p in found] == [repr(p) for p in expected]
        elif key.endswith("_time"):
            assert found.shape == expected.shape
            assert (found >= 0).all()
        elif key.startswith("param_"):
            assert [repr(value) for value in found] == [repr(value) for value in expected]
        elif key.startswith("rank_"):
            assert_array_equal(found, expected)
        else:
            assert_allclose(found, expected, atol=tol, rtol=0, err_msg=key)
    for name in ("n_splits_", "multimetric_", "best_index_", "best_score_"):
        assert hasattr(ours, name) == hasattr(theirs, name), name
        if hasattr(theirs, name):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=tol, nan_ok=True)
    assert type(ours.scorer_) is type(theirs.scorer_)
    assert hasattr(ours, "refit_time_") == hasattr(theirs, "refit_time_")
    if hasattr(theirs, "best_estimator_"):
        assert repr(ours.best_estimator_) == repr(theirs.best_estimator_)
        assert repr(ours.best_params_) == repr(theirs.best_params_)


def compare(estimator, grid, X=X, y=Y, fit_params=None, tol=1e-6, **options):
    """Both searches give the same; ours fits none but the best candidate by itself, and says nothing else."""
    options = {"cv": FOLDS} | options
    theirs = GridSearchCV(estimator, grid, **options).fit(X, y, **(fit_params or {}))
    with warnings.catch_warnings(), counted_fits() as count:
        warnings.filterwarnings("error", message=".*one by one")
        ours = BatchedGridSearchCV(estimator, grid, **options).fit(X, y, **(fit_params or {}))
    assert count["fits"] == (options.get("refit", True) is not False)
    assert_same(ours, theirs, tol)
    return ours


# ----------------------------------------------------------------------------------------------- equal to GridSearchCV


@pytest.mark.parametrize(
    "estimator, grid",
    [
        (CLASSIFIER, ALPHAS),
        (CLASSIFIER, {"loss__gamma": [-1, 1, 2], **ALPHAS}),
        (
            CLASSIFIER,
            [
                {"loss": [IgnoreUnknown(), PartialBCE(gamma=2), AssumeNegative(0.1), WeakAssumeNegative()], **ALPHAS},
                {"class_weight": [None, "balanced", [1.0, 2.0, 3.0, 4.0]]},
            ],
        ),
        (SinglePositiveClassifier(solver=TIGHT, random_state=0), {"loss": ["an", "an_ls", "wan"], **ALPHAS}),
        (
            SinglePositiveClassifier(solver=Minibatch(max_epochs=3), random_state=0),
            {"solver__learning_rate": [1e-3, 1e-2], "loss": ["an", "ll_r", "iu"], "alpha": [1e-3, 1e-1]},
        ),
        (CLASSIFIER, {"solver": [TIGHT, Minibatch(max_epochs=2)], "precision": ["auto", "float64"]}),
        (CLASSIFIER, {}),
    ],
    ids=["alpha", "gamma", "losses", "single_positive", "minibatch", "solvers", "empty"],
)
def test_results_are_those_of_grid_search(estimator, grid):
    compare(estimator, grid, return_train_score=True)


def test_float32_is_as_close_as_float32_is():
    X, Y = make_data(n=400, d=30, L=6)
    compare(
        PartialLabelClassifier("partial_bce", random_state=0),
        {"loss__gamma": [-1, 1], **ALPHAS},
        X.astype(np.float32),
        Y,
        tol=2e-3,
    )


@pytest.mark.parametrize("classifier", [CLASSIFIER, SinglePositiveClassifier(solver=TIGHT)])
def test_positive_only_labels_are_read_as_score_reads_them(classifier):
    positive = np.maximum(make_data(known=1.0)[1], 0)
    options = (
        {}
        if isinstance(classifier, SinglePositiveClassifier)
        else {"scoring": mean_average_precision_unknown_absent_scorer}
    )
    compare(classifier, {"loss": ["an", "wan"], **ALPHAS}, y=positive, **options)


@pytest.mark.parametrize(
    "grid",
    [
        {"clf__alpha": [1e-3, 1e-1]},
        {"clf__alpha": [1e-3, 1e-1], "scale__with_mean": [True, False], "clf__loss__gamma": [-1, 1]},
        {"clf__alpha": [1e-3, 1e-1], "scale": [StandardScaler(), MinMaxScaler(), "passthrough"]},
        {"clf": [PartialLabelClassifier(solver=TIGHT), SinglePositiveClassifier(solver=TIGHT)], "clf__loss": ["an"]},
    ],
)
def test_pipelines(grid):
    search = compare(pipeline(), grid, return_train_score=True)
    assert search.best_estimator_.named_steps["clf"].coef_.shape == (4, 6)


def test_a_pipeline_of_the_classifier_alone():
    compare(make_pipeline(CLASSIFIER), {"partiallabelclassifier__alpha": [1e-3, 1e-1]})


class Counting(TransformerMixin, BaseEstimator):
    """Notes how often it was fitted, and on what."""

    fitted = Counter()

    def __init__(self, factor=1.0):
        self.factor = factor

    def fit(self, X, y=None, note=None):
        Counting.fitted[self.factor, len(X), None if note is None else len(note)] += 1
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return self.factor * X


def test_earlier_steps_are_fitted_once_a_fold_and_setting():
    steps = Pipeline([("count", Counting()), ("clf", CLASSIFIER)])
    grid = {"count__factor": [1.0, 2.0], "clf__alpha": [1e-3, 1e-2, 1e-1], "clf__loss": ["iu", "an"]}
    Counting.fitted.clear()
    search = BatchedGridSearchCV(steps, grid, cv=KFold(3), refit=False).fit(X, Y, count__note=np.arange(len(X)))
    assert Counting.fitted == {(1.0, 60, 60): 3, (2.0, 60, 60): 3}
    assert len(search.cv_results_["params"]) == 12


def test_arguments_of_fit_reach_their_steps():
    weight = np.random.RandomState(0).uniform(0.1, 3, size=len(X))
    steps = Pipeline([("count", Counting()), ("clf", CLASSIFIER)])
    compare(steps, {"clf__alpha": [1e-3, 1e-1]}, fit_params={"count__note": weight, "clf__sample_weight": weight})


@pytest.mark.parametrize("shape", [(len(X),), Y.shape])
@pytest.mark.filterwarnings("ignore:.*does not support sample_weight")
def test_sample_weight(shape):
    weight = np.random.RandomState(0).uniform(0.1, 3, size=shape)
    weighted = compare(CLASSIFIER, ALPHAS, fit_params={"sample_weight": weight})
    plain = compare(CLASSIFIER, ALPHAS)
    assert not np.allclose(weighted.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"], atol=1e-6)


def names_of(estimator, X, y):
    """A scorer that looks into the estimator: it must be whole, and see X as it was passed."""
    assert list(X.columns) == list("abcdef")
    return -float(np.abs(estimator.named_steps["clf"].coef_).sum()) + estimator.named_steps["scale"].mean_[0]


@pytest.mark.parametrize(
    "scoring",
    [
        mean_average_precision_scorer,
        roc_auc_scorer,
        f1_macro_scorer,
        make_scorer(f1, average="micro"),
        {"map": mean_average_precision_scorer, "auc": roc_auc_scorer},
        {"map": mean_average_precision_scorer, "f1": f1_macro_scorer},
        lambda estimator, X, y: {"map": mean_average_precision_scorer(estimator, X, y), "one": 1.0},
    ],
    ids=["map", "auc", "f1", "micro", "stacked", "mixed", "function"],
)
def test_scorers(scoring):
    several = isinstance(scoring, dict) or getattr(scoring, "__name__", "") == "<lambda>"
    refit = "map" if several else True
    compare(pipeline(), {"clf__alpha": [1e-3, 1e-1]}, scoring=scoring, refit=refit, return_train_score=True)


def test_functions_score_the_whole_pipeline():
    frame = pd.DataFrame(X + 1, columns=list("abcdef"))
    compare(pipeline(), {"clf__alpha": [1e-3, 1e-1]}, X=frame, scoring=names_of)


@pytest.mark.parametrize("refit", [False, lambda results: len(results["params"]) - 1])
def test_refit(refit):
    search = compare(CLASSIFIER, ALPHAS, refit=refit)
    if refit:
        assert search.best_index_ == 2
        assert search.predict(X).shape == Y.shape
    else:
        assert not hasattr(search, "best_estimator_")


def test_several_scores_and_no_refit():
    search = compare(CLASSIFIER, ALPHAS, scoring={"a": roc_auc_scorer, "b": f1_macro_scorer}, refit=False)
    assert not hasattr(search, "best_index_")


@pytest.mark.parametrize(
    "X, y",
    [
        (X, ONE),
        (X, np.where(ONE, "yes", "no")),
        (pd.DataFrame(X, columns=list("abcdef")), pd.DataFrame(Y, columns=list("wxyz"))),
        (sp.csr_array(np.maximum(X, 0)), Y),
        (X, sp.csr_array(Y)),
        (X.tolist(), Y.tolist()),
        ((10 * X).astype(int), Y),
    ],
    ids=["1-D", "strings", "frames", "sparse X", "sparse y", "lists", "integers"],
)
def test_forms_of_the_data(X, y):
    cv = StratifiedKFold(3) if np.ndim(y) == 1 else FOLDS
    search = compare(CLASSIFIER, {"loss": ["iu", "an"], **ALPHAS}, X=X, y=y, cv=cv, return_train_score=True)
    if hasattr(X, "columns"):
        assert_array_equal(search.feature_names_in_, X.columns)
        assert_array_equal(search.best_estimator_.label_names_, y.columns)


def test_splitters():
    compare(CLASSIFIER, ALPHAS, cv=None)
    compare(CLASSIFIER, ALPHAS, cv=2)
    compare(CLASSIFIER, ALPHAS, cv=list(FOLDS.split(X, Y))[:1])
    compare(CLASSIFIER, ALPHAS, cv=GroupKFold(3), fit_params={"groups": np.arange(len(X)) % 7})


def test_jobs():
    compare(pipeline(), {"clf__alpha": [1e-3, 1e-1], "scale__with_std": [True, False]}, n_jobs=2)


@pytest.mark.parametrize("random_state", [7, np.random.RandomState(7), None])
def test_seeds_are_those_of_grid_search(random_state):
    classifier = PartialLabelClassifier(solver=Minibatch(max_epochs=1), random_state=random_state)
    scores = []
    for search in GridSearchCV, BatchedGridSearchCV:
        np.random.seed(3)  # noqa: NPY002
        found = search(clone(classifier), {"alpha": [1e-3, 1e-1, 10.0]}, cv=FOLDS, refit=False).fit(X, Y)
        scores.append([found.cv_results_[f"split{k}_test_score"] for k in range(3)])
    assert_allclose(*scores, atol=1e-6, rtol=0)


# ------------------------------------------------------------------------------------------------------ what is shared


def test_candidates_of_a_fold_are_solved_together(tasks):
    grid = {"loss": ["iu", "partial_bce"], **ALPHAS}
    BatchedGridSearchCV(CLASSIFIER, grid, cv=FOLDS, refit=False).fit(X, Y)
    assert [len(call) for call in tasks] == [6, 6, 6]
    for call in tasks:
        assert len({id(problem.features) for _, problem in call}) == 1
        assert len({id(problem.labels) for _, problem in call}) == 1
        assert [problem.alpha for _, problem in call] == [1e-3, 1e-3, 1e-2, 1e-2, 1e-1, 1e-1]
    assert len({id(call[0][1].features) for call in tasks}) == 3


@pytest.mark.parametrize("solver", [TIGHT, Minibatch(max_epochs=2)], ids=["full_batch", "minibatch"])
def test_candidates_of_a_fold_reach_solve_together(solver, monkeypatch):
    sizes = []
    original = type(solver).__dict__["solve_together"].__func__

    def solve_together(cls, tasks):
        sizes.append(len(tasks))
        return original(cls, tasks)

    monkeypatch.setattr(type(solver), "solve_together", classmethod(solve_together))
    classifier = clone(CLASSIFIER).set_params(solver=solver)
    BatchedGridSearchCV(classifier, {"loss__gamma": [-1, 1], **ALPHAS}, cv=FOLDS, refit=False).fit(X, Y)
    assert sizes == [6, 6, 6]


def test_features_in_another_type_or_budget_are_not_shared(tasks):
    grid = {"precision": ["float32", "float64"], **ALPHAS}
    BatchedGridSearchCV(CLASSIFIER, grid, cv=FOLDS, refit=False).fit(X, Y)
    assert [(len(call), str(call[0][1].dtype)) for call in tasks] == 3 * [(3, "torch.float32"), (3, "torch.float64")]
    tasks.clear()
    grid = {"solver__max_resident_bytes": [None, 100.0], **ALPHAS}
    BatchedGridSearchCV(CLASSIFIER, grid, cv=FOLDS, refit=False).fit(X, Y)
    kinds = [{type(problem.features).__name__ for _, problem in call} for call in tasks]
    assert kinds == 3 * [{"ResidentFeatures"}, {"StreamedFeatures"}]


def test_rows_are_validated_once_a_fold(monkeypatch):
    seen = Counter()
    for name in ("check_features", "encode_target"):
        original = getattr(_together, name)

        def counted(*args, _name=name, _original=original, **kwargs):
            seen[_name] += 1
            return _original(*args, **kwargs)

        monkeypatch.setattr(_together, name, counted)
    BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS, refit=False).fit(X, Y)
    assert seen == {"check_features": 3, "encode_target": 3}


@pytest.mark.parametrize("scoring", [None, mean_average_precision_scorer, {"a": roc_auc_scorer}])
def test_candidates_are_scored_by_one_product(scoring, monkeypatch):
    widths = []
    logits = BasePartialLabelClassifier._logits

    def seen(self, X):
        widths.append(len(self.coef_))
        return logits(self, X)

    monkeypatch.setattr(BasePartialLabelClassifier, "_logits", seen)
    BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS, scoring=scoring, refit=False).fit(X, Y)
    assert widths == [12, 12, 12]


def test_blocks_bound_the_logits(tasks, monkeypatch):
    monkeypatch.setattr(_together, "_LOGITS_BYTES", 2 * 60 * 4 * 8 + 1)
    compare(CLASSIFIER, {"alpha": [1e-4, 1e-3, 1e-2, 1e-1, 1.0]}, cv=KFold(3))
    assert [len(call) for call in tasks] == 3 * [2, 2, 1]


def test_times_are_shares(monkeypatch):
    search = BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS, refit=False).fit(X, Y)
    for name in ("mean_fit_time", "mean_score_time"):
        assert len(set(search.cv_results_[name])) == 1
        assert (search.cv_results_[name] > 0).all()


# ----------------------------------------------------------------------------------------------- errors and fallback


def failing(search, grid, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = search(CLASSIFIER, grid, cv=FOLDS, **options).fit(X, Y)
    return found, sorted((w.category.__name__, str(w.message).split("\n")[1]) for w in caught if "\n" in str(w.message))


@pytest.mark.parametrize("error_score", [np.nan, -1.0])
@pytest.mark.parametrize(
    "grid",
    [
        {"alpha": [1e-3, -1, 1e-2]},
        {"loss": ["iu", "nonsense"]},
        {"precision": ["auto", "float8"]},
        {"head": ["linear", "nonsense"]},
        {"random_state": [0, "nonsense"]},
        {"solver__max_iter": [0, 5]},
        {"class_weight": [None, [1.0]]},
    ],
)
def test_candidates_that_fail_get_the_error_score(grid, error_score):
    options = {"error_score": error_score, "return_train_score": True}
    ours, said = failing(BatchedGridSearchCV, grid, **options)
    theirs, expected = failing(GridSearchCV, grid, **options)
    assert_same(ours, theirs)
    assert said == expected
    assert any(name == FitFailedWarning.__name__ for name, _ in said)


@pytest.mark.parametrize("scoring", [{"a": roc_auc_scorer, "b": f1_macro_scorer}, lambda e, X, y: {"a": e.score(X, y)}])
def test_failures_with_several_scores(scoring):
    options = {"scoring": scoring, "refit": "a"}
    ours, _ = failing(BatchedGridSearchCV, {"alpha": [1e-3, -1]}, **options)
    theirs, _ = failing(GridSearchCV, {"alpha": [1e-3, -1]}, **options)
    assert_same(ours, theirs)


def test_failures_raise():
    with pytest.raises(ValueError, match="alpha must be 'auto' or a number of at least 0"):
        BatchedGridSearchCV(CLASSIFIER, {"alpha": [1e-3, -1]}, cv=FOLDS, error_score="raise").fit(X, Y)
    with pytest.raises(ValueError, match="All the 6 fits failed"):
        BatchedGridSearchCV(CLASSIFIER, {"alpha": [-2, -1]}, cv=FOLDS).fit(X, Y)
    with pytest.raises(ValueError, match="Invalid parameter 'nonsense'"):
        BatchedGridSearchCV(CLASSIFIER, {"nonsense": [1]}, cv=FOLDS).fit(X, Y)
    with pytest.raises(ValueError, match="requires y to be passed"):
        BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=3, error_score="raise").fit(X)


def test_scoring_that_fails():
    # Without a known absence the classifier's own score has nothing to say.
    positive = np.maximum(Y, 0)
    grid = {"loss": ["an", "wan"]}
    found = []
    for search in GridSearchCV, BatchedGridSearchCV:
        with pytest.warns(UserWarning, match="Scoring failed"), pytest.warns(UserWarning, match="non-finite"):
            found.append(search(CLASSIFIER, grid, cv=FOLDS).fit(X, positive))
    assert_same(found[1], found[0])
    assert np.isnan(found[1].cv_results_["mean_test_score"]).all()
    with pytest.raises(ValueError, match="without any known negative"):
        BatchedGridSearchCV(CLASSIFIER, grid, cv=FOLDS, error_score="raise").fit(X, positive)


def test_one_that_cannot_be_solved_leaves_the_others_together(tasks):
    grid = {"loss": ["iu", "an", "epr", "partial_bce", "wan"]}  # the third finds no row that is fully labelled
    solver = Minibatch(max_epochs=2)
    ours, said = failing(BatchedGridSearchCV, {"solver": [solver], **grid})
    theirs, expected = failing(GridSearchCV, {"solver": [solver], **grid})
    assert_same(ours, theirs)
    assert said == expected
    assert [len(call) for call in tasks[:5]] == [5, 2, 3, 1, 2]


@pytest.mark.filterwarnings("ignore:2 candidates were solved")
def test_groups_that_fail_are_solved_in_parts(monkeypatch):
    def fails(tasks):
        if len(tasks) > 1:
            raise RuntimeError("too many")
        return solve(tasks)

    solve = _together.solve_tasks
    monkeypatch.setattr(_together, "solve_tasks", fails)
    with pytest.warns(UserWarning, match="candidates were solved in smaller groups.*too many"):
        ours = BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).fit(X, Y)
    monkeypatch.undo()
    assert_same(ours, GridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).fit(X, Y))


def test_what_fails_together_is_fitted_one_by_one(monkeypatch):
    def fails(tasks):
        raise RuntimeError("not today")

    monkeypatch.setattr(_together, "solve_tasks", fails)
    with pytest.warns(UserWarning, match="3 candidates were fitted one by one on a fold.*not today"):
        ours = BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).fit(X, Y)
    assert_same(ours, GridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).fit(X, Y))


class Silent:
    """A callback."""

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context): ...


class Other(PartialLabelClassifier):
    """Has a `fit` of its own."""

    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y, sample_weight)


@pytest.mark.parametrize(
    "estimator, grid, fit_params, reason",
    [
        (CLASSIFIER, {"validation_fraction": [None, 0.3], **ALPHAS}, {}, "3 of 6 .* validation_fraction is set"),
        (clone(CLASSIFIER).set_params(warm_start=True), ALPHAS, {}, "all candidates .* warm_start is set"),
        (pipeline(clone(CLASSIFIER).set_params(verbose=1)), {"clf__alpha": [1.0]}, {}, "verbose is set"),
        (CLASSIFIER, {"verbose": [0, 1], "warm_start": [False, True]}, {}, "3 of 4 .* warm_start is set, or verbose"),
        (Other(), ALPHAS, {}, "Other is not a classifier of skpartial"),
        (clone(CLASSIFIER).set_callbacks(Silent()), {"alpha": [1.0]}, {}, "callbacks are set"),
        (CLASSIFIER, ALPHAS, {"X_val": X, "y_val": Y}, "fit is passed X_val"),
        (pipeline(), {"clf": [CLASSIFIER, OneVsRestClassifier(LogisticRegression())]}, {}, "1 of 2 .* OneVsRest"),
    ],
)
def test_what_cannot_be_batched_is_said_once(estimator, grid, fit_params, reason, capsys):
    y = np.where(make_data(known=1.0)[1] == 1, 1, 0) if "OneVsRest" in reason else Y
    options = {"cv": FOLDS, "scoring": mean_average_precision_unknown_absent_scorer}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = BatchedGridSearchCV(estimator, grid, **options).fit(X, y, **fit_params)
    said = [str(warning.message) for warning in caught if "one by one" in str(warning.message)]
    assert len(said) == 1
    with pytest.warns(UserWarning, match=reason):
        warnings.warn(said[0], UserWarning, stacklevel=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(ours, GridSearchCV(estimator, grid, **options).fit(X, y, **fit_params))


def test_maps_are_not_batched():
    maps = np.random.RandomState(0).normal(size=(len(X), 3, 2, 2))
    classifier = PartialLabelClassifier(head=AveragePooling(), solver=Minibatch(max_epochs=1), random_state=0)
    with pytest.warns(UserWarning, match="head is not linear"):
        search = BatchedGridSearchCV(classifier, {"alpha": [1e-3]}, cv=FOLDS).fit(maps, Y)
    assert_same(search, GridSearchCV(classifier, {"alpha": [1e-3]}, cv=FOLDS).fit(maps, Y))


def test_routing_keeps_candidates_apart():
    with config_context(enable_metadata_routing=True):
        classifier = clone(CLASSIFIER).set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        search = BatchedGridSearchCV(classifier, ALPHAS, cv=FOLDS)
        with pytest.warns(UserWarning, match="metadata routing is enabled"):
            search.fit(X, Y, sample_weight=np.ones(len(X)))


class Log:
    """Notes what it is told of; `depth` is how far down it goes."""

    def __init__(self, depth=None):
        self.depth, self.events = depth, []

    @property
    def max_propagation_depth(self):
        return self.depth

    def setup(self, estimator, context):
        self.events = []

    def teardown(self, estimator, context):
        self.events.append(("teardown", None, None))

    def on_fit_task_begin(self, estimator, context, *, X):
        self.events.append(("begin", context.task_name, None if X is None else len(X)))

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name, context.task_id))


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_callbacks_of_the_search_do_not_keep_candidates_apart(monkeypatch, n_jobs):
    ours, theirs = Log(depth=0), Log(depth=0)
    alone = []
    monkeypatch.setattr(Evaluation, "alone", lambda *args: alone.append(args))
    options = {"cv": FOLDS, "n_jobs": n_jobs}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search = BatchedGridSearchCV(CLASSIFIER, ALPHAS, **options).set_callbacks(ours).fit(X, Y)
    assert not alone
    reference = GridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).set_callbacks(theirs).fit(X, Y)
    assert_same(search, reference)
    # the same tasks and rows, though in another order
    assert sorted(ours.events, key=repr) == sorted(theirs.events, key=repr)
    assert ours.events[0] == ("begin", "fit", len(X))
    assert ours.events[-2:] == [("end", "fit", 0), ("teardown", None, None)]


def test_callbacks_of_the_search_see_the_last_fit():
    log = Log()
    search = BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).set_callbacks(log).fit(X, Y)
    assert log.events.count(("begin", "epoch", len(X))) == search.best_estimator_.n_iter_
    assert not hasattr(search, "_callback_fit_ctx")
    progress = BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).set_callbacks(ProgressBar()).fit(X, Y)
    assert progress.best_params_ == search.best_params_


def test_callbacks_are_told_of_a_failure():
    log = Log(depth=0)
    search = BatchedGridSearchCV(CLASSIFIER, {"alpha": [-1.0]}, cv=FOLDS, error_score="raise").set_callbacks(log)
    with pytest.raises(ValueError, match="alpha"):
        search.fit(X, Y)
    assert log.events[-1] == ("teardown", None, None)
    assert not hasattr(search, "cv_results_")


# -------------------------------------------------------------------------------------------------- as an estimator is


@parametrize_with_checks([BatchedGridSearchCV(PartialLabelClassifier(), {"alpha": [1e-3, 1e-1]}, cv=2)])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_parameters_and_state():
    search = BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS)
    assert search.get_params(deep=False) == GridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS).get_params(deep=False)
    assert repr(search).startswith("BatchedGridSearchCV(")
    with pytest.raises(NotFittedError):
        check_is_fitted(search)
    copied = pickle.loads(pickle.dumps(clone(search).fit(X, Y)))
    check_is_fitted(copied)
    assert_array_equal(copied.predict(X), search.fit(X, Y).predict(X))
    assert copied.score(X, Y) == search.score(X, Y)
    assert copied.n_features_in_ == 6
    assert_array_equal(copied.classes_, search.best_estimator_.classes_)


def test_what_is_printed(capsys):
    BatchedGridSearchCV(CLASSIFIER, ALPHAS, cv=FOLDS, verbose=2, refit=False).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Fitting 3 folds for each of 3 candidates, totalling 9 fits, 9 together"
    assert lines[1:] == 3 * ["[CV] 3 candidates fitted together and scored"]
