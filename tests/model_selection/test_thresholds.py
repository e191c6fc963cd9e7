"""Thresholds: the search finds what brute force finds, and nothing but known out-of-fold scores decides."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.special import logit
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, fbeta_score, make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.metrics import f1, f1_macro_scorer
from skpartial.model_selection import PartialLabelKFold, PartialLabelShuffleSplit, TunedThresholdsCV, cross_val_predict
from skpartial.model_selection._threshold_search import best_threshold


def counts(y_true, y_pred):
    y_true, y_pred = np.asarray(y_true) == 1, np.asarray(y_pred) == 1
    return np.array([[np.sum((y_true == i) & (y_pred == j)) for j in (0, 1)] for i in (0, 1)])


def f1_of(y_true, y_pred):
    (_, false_present), (missed, right) = counts(y_true, y_pred)
    return 2 * right / (2 * right + false_present + missed)


def balanced_accuracy_of(y_true, y_pred):
    table = counts(y_true, y_pred)
    return np.mean(np.diag(table) / table.sum(axis=1))


def accuracy_of(y_true, y_pred):
    table = counts(y_true, y_pred)
    return np.trace(table) / table.sum()


METRICS = {"f1": f1_of, "balanced_accuracy": balanced_accuracy_of, "accuracy": accuracy_of}


class Given(ClassifierMixin, BaseEstimator):
    """Answers its features as scores: what is tuned on is then known exactly."""

    def fit(self, X, y, sample_weight=None):
        y = np.asarray(y)
        self.n_rows_ = len(y)
        self.weight_ = None if sample_weight is None else float(np.sum(sample_weight))
        self.classes_ = np.tile([0, 1], (y.shape[1], 1))
        return self

    def decision_function(self, X):
        return np.asarray(X)

    def score(self, X, y):
        return 0.25


class GivenProbabilities(Given):
    def predict_proba(self, X):
        return np.asarray(X)


def make_data(n=300, n_labels=4, known=0.4, seed=0):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n, 5))
    offset = np.linspace(0, 2, n_labels)
    full = np.where(X @ rng.normal(size=(5, n_labels)) / 2 + rng.normal(size=(n, n_labels)) > offset, 1, -1)
    return X, np.where(rng.uniform(size=full.shape) < known, full, 0), full


X, Y, FULL = make_data()


def plain():
    return PartialLabelClassifier(random_state=0)


def brute_force(scores, present, metric):
    """The best value over thresholds between any two scores, and beyond."""
    levels = np.unique(scores)
    thresholds = np.append(np.nextafter(levels[0], -np.inf), levels)
    return max(metric(present, scores > threshold) for threshold in thresholds)


# ------------------------------------------------------------------------------------------------------ the search


@pytest.mark.parametrize(
    "name, metric", [("f1", f1_score), ("balanced_accuracy", balanced_accuracy_score), ("accuracy", accuracy_score)]
)
def test_metrics_mean_what_they_mean_in_scikit_learn(name, metric):
    rng = np.random.RandomState(0)
    for _ in range(20):
        y_true, y_pred = np.append([0, 1], rng.randint(2, size=8)), rng.randint(2, size=10)
        assert METRICS[name](y_true, y_pred) == pytest.approx(metric(y_true, y_pred))


few_scores = st.sampled_from([-1.5, -0.25, 0.0, 0.1, 0.5, 0.5000001, 0.9, 3.0])
any_scores = st.floats(-1e300, 1e300)


@given(
    entries=st.lists(st.tuples(few_scores, st.booleans()), min_size=2, max_size=25)
    | st.lists(st.tuples(any_scores, st.booleans()), min_size=2, max_size=25),
    objective=st.sampled_from(sorted(METRICS)),
)
@settings(max_examples=150, deadline=None)
def test_search_equals_brute_force(entries, objective):
    scores = np.array([score for score, _ in entries])
    present = np.array([sign for _, sign in entries])
    found = best_threshold(scores, present, objective, default=0.5)
    if present.all() or not present.any() or len(set(scores)) == 1:
        assert found is None
        return
    metric = METRICS[objective]
    assert found.value == pytest.approx(brute_force(scores, present, metric), abs=1e-12)
    # the threshold does what it promises
    assert metric(present, scores > found.threshold) == pytest.approx(found.value, abs=1e-12)
    # a callable is no other search
    named = best_threshold(scores, present, metric, default=0.5)
    assert named.value == pytest.approx(found.value, abs=1e-12)


def test_search_lies_midway_and_nearest_to_the_default():
    scores = np.array([0.1, 0.2, 0.6, 0.8])
    assert best_threshold(scores, np.array([0, 0, 1, 1]) > 0, "f1", default=0.5).threshold == pytest.approx(0.4)
    assert best_threshold(scores[[2, 0, 3, 1]], np.array([1, 0, 1, 0]) > 0, "f1", default=0.5).threshold == (
        pytest.approx(0.4)
    )
    # 3 of 4 right below 0.2, and above 0.6
    undecided = np.array([0, 1, 0, 1]) > 0
    assert best_threshold(scores, undecided, "accuracy", default=0.5).threshold == pytest.approx(0.7)
    assert best_threshold(scores, undecided, "accuracy", default=0.1).threshold == pytest.approx(0.15)
    # best for all and for none: half a gap beyond
    assert best_threshold(scores, np.array([1, 1, 1, 0]) > 0, "f1", default=0.5).threshold == pytest.approx(0.05)
    assert best_threshold(scores, np.array([0, 0, 1, 0]) > 0, "accuracy", default=0.9).threshold == pytest.approx(0.9)


def test_search_between_neighbouring_floats():
    for low in (0.5, 1.0, -1.0, 5e-324, -5e-324, 0.0):
        high = np.nextafter(low, np.inf)
        for present, predicted in [([0, 1], [0, 1]), ([1, 0], [1, 1])]:
            scores = np.array([low, high])
            found = best_threshold(scores, np.array(present) > 0, "f1", default=0.5)
            assert_array_equal(scores > found.threshold, predicted)


def test_search_refuses_nan():
    with pytest.raises(ValueError, match="returned NaN for some threshold"):
        best_threshold(np.array([0.1, 0.2]), np.array([True, False]), lambda y_true, y_pred: np.nan, default=0.5)


# --------------------------------------------------------------------------------------------------- the estimator


@pytest.mark.parametrize("scoring", sorted(METRICS))
@pytest.mark.parametrize("response_method", ["predict_proba", "decision_function"])
def test_thresholds_are_the_best_of_out_of_fold_scores(scoring, response_method):
    settings_ = {"scoring": scoring, "response_method": response_method, "random_state": 3}
    tuned = TunedThresholdsCV(plain(), shrinkage=0.0, cv=4, **settings_).fit(X, Y)
    cv = PartialLabelKFold(4, random_state=3)
    scores = cross_val_predict(plain(), X, Y, cv=cv, method=response_method)
    metric = METRICS[scoring]
    gains = []
    for label in range(Y.shape[1]):
        known = Y[:, label] != 0
        present = Y[known, label] == 1
        best = brute_force(scores[known, label], present, metric)
        assert tuned.best_scores_[label] == pytest.approx(best, abs=1e-12)
        assert metric(present, scores[known, label] > tuned.thresholds_[label]) == pytest.approx(best, abs=1e-12)
        gains.append(best - metric(present, scores[known, label] > (0.5 if response_method == "predict_proba" else 0)))
    assert min(gains) >= 0
    assert max(gains) > 0
    assert tuned.tuned_.all()
    whole = plain().fit(X, Y)
    assert_array_equal(tuned.predict_proba(X), whole.predict_proba(X))
    assert_array_equal(tuned.predict_log_proba(X), whole.predict_log_proba(X))
    assert_array_equal(tuned.decision_function(X), whole.decision_function(X))
    assert_array_equal(tuned.predict(X), getattr(whole, response_method)(X) > tuned.thresholds_)
    assert tuned.predict(X).dtype == np.int64
    assert tuned.score(X, Y) == whole.score(X, Y)
    assert_array_equal(tuned.classes_, whole.classes_)
    assert tuned.n_features_in_ == 5


def test_tuning_raises_f1_of_new_rows():
    gains = []
    half = slice(0, 750), slice(750, None)
    for seed in range(1, 4):
        X, _, full = make_data(n=1500, seed=seed)
        train = np.where(np.random.RandomState(0).uniform(size=full.shape) < 0.6, full, 0)
        tuned = TunedThresholdsCV(plain(), random_state=0).fit(X[half[0]], train[half[0]])
        untuned = plain().fit(X[half[0]], train[half[0]])
        gains.append(f1(full[half[1]], tuned.predict(X[half[1]])) - f1(full[half[1]], untuned.predict(X[half[1]])))
    assert min(gains) > 0.02


@given(seed=st.integers(0, 1000), unknown=st.floats(0.1, 0.9))
@settings(max_examples=25, deadline=None)
def test_unknown_entries_do_not_matter(seed, unknown):
    rng = np.random.RandomState(seed)
    scores = rng.uniform(size=(30, 3))
    Y = np.where(rng.uniform(size=scores.shape) < unknown, 0, rng.choice([-1, 1], size=scores.shape))
    Y[0, 0] = -1  # without any absence there is nothing to tune
    changed = np.where(Y == 0, rng.uniform(-5, 5, size=scores.shape), scores)
    first, second = (
        TunedThresholdsCV(GivenProbabilities().fit(S, Y), cv="prefit", refit=False).fit(S, Y) for S in (scores, changed)
    )
    assert_array_equal(first.thresholds_, second.thresholds_)
    assert_array_equal(first.best_scores_, second.best_scores_)
    # unless they are to count as absent, and then they are just that
    absent, as_absent = (
        TunedThresholdsCV(GivenProbabilities().fit(changed, y), cv="prefit", refit=False, unknown=rule).fit(changed, y)
        for y, rule in ((np.where(Y == 1, 1, -1), "ignore"), (Y, "absent"))
    )
    assert_array_equal(absent.thresholds_, as_absent.thresholds_)
    assert_array_equal(absent.best_scores_, as_absent.best_scores_)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_labels_that_cannot_be_tuned_keep_the_default():
    y = Y.copy()
    y[:, 1] = 0
    y[:, 2] = np.maximum(y[:, 2], 0)
    y[:, 3] = np.minimum(y[:, 3], 0)
    tuned = TunedThresholdsCV(plain(), shrinkage=0.0, random_state=0).fit(X, y)
    assert_array_equal(tuned.tuned_, [True, False, False, False])
    assert_array_equal(tuned.thresholds_[1:], 0.5)
    assert_array_equal(np.isnan(tuned.best_scores_), ~tuned.tuned_)
    assert_array_equal(tuned.predict(X)[:, 1:], plain().fit(X, y).predict(X)[:, 1:])
    by_decision = TunedThresholdsCV(plain(), shrinkage=0.0, response_method="decision_function", random_state=0).fit(
        X, y
    )
    assert_array_equal(by_decision.thresholds_[1:], 0.0)
    constant = np.ones((8, 1))
    y = np.array([[1], [-1], [0], [1]] * 2)
    model = TunedThresholdsCV(Given().fit(constant, y), cv="prefit", refit=False).fit(constant, pd.DataFrame(y))
    assert_array_equal(model.tuned_, [False])
    assert_array_equal(model.thresholds_, [0.0])


# Two thirds of the rows have no presence.
@pytest.mark.filterwarnings("ignore:.* rows of y have no known label")
def test_positive_only_labels_are_tuned_as_absent():
    y = np.maximum(Y, 0)
    settings_ = {"unknown": "absent", "random_state": 0, "shrinkage": 0.0}
    tuned = TunedThresholdsCV(SinglePositiveClassifier(random_state=0), **settings_).fit(X, y)
    assert tuned.tuned_.all()
    scores = cross_val_predict(
        SinglePositiveClassifier(random_state=0),
        X,
        y,
        cv=PartialLabelKFold(random_state=0),
        method="predict_proba",
    )
    best = [brute_force(scores[:, label], y[:, label] == 1, f1_of) for label in range(4)]
    np.testing.assert_allclose(tuned.best_scores_, best, atol=1e-12)
    for convert in (np.asarray, sp.csr_array, pd.DataFrame):
        with pytest.raises(ValueError, match=r"y holds no known negative .*Pass unknown='absent'"):
            TunedThresholdsCV(SinglePositiveClassifier(random_state=0), random_state=0).fit(X, convert(y))


@pytest.mark.parametrize("convert", [sp.csr_array, sp.coo_array, np.ndarray.tolist, pd.DataFrame])
def test_every_form_of_y(convert):
    expected = TunedThresholdsCV(plain(), random_state=0).fit(X, Y)
    found = TunedThresholdsCV(plain(), random_state=0).fit(X, convert(Y))
    assert_array_equal(found.thresholds_, expected.thresholds_)
    assert_array_equal(found.predict(X), expected.predict(X))


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
@pytest.mark.parametrize("response_method", ["predict_proba", "decision_function"])
def test_one_label_of_which_a_fold_holds_absences_only(response_method):
    # A column of -1 and 0 could pass for two classes; here it must not, or 0 would be learned as present.
    y = np.repeat([[-1], [0], [1]], [20, 60, 1], axis=0)
    tuned = TunedThresholdsCV(plain(), cv=3, response_method=response_method, random_state=0)
    with pytest.raises(ValueError, match=r"y is an array of one column.*pass a DataFrame of one column"):
        tuned.fit(X[:81], y)
    found = tuned.fit(X[:81], sp.csr_array(y))
    frame = TunedThresholdsCV(plain(), cv=3, response_method=response_method, random_state=0).fit(
        X[:81], pd.DataFrame(y)
    )
    assert found.predict(X).shape == (300, 1)
    assert_array_equal(found.thresholds_, frame.thresholds_)


def test_names_of_features():
    frame = pd.DataFrame(X, columns=list("vwxyz"))
    tuned = TunedThresholdsCV(plain(), random_state=0).fit(frame, Y)
    assert_array_equal(tuned.feature_names_in_, list("vwxyz"))
    assert not hasattr(tuned.fit(X, Y), "feature_names_in_")


def test_names_of_labels():
    frame = pd.DataFrame(Y, columns=list("abcd"))
    pipeline = make_pipeline(StandardScaler(), plain())
    search = GridSearchCV(pipeline, {"partiallabelclassifier__alpha": [1e-2]}, cv=2)
    for estimator in (plain(), pipeline, search):
        tuned = TunedThresholdsCV(estimator, random_state=0).fit(X, frame)
        assert_array_equal(tuned.label_names_, list("abcd"))
        # what was fitted with names has them, whatever it is tuned on
        again = TunedThresholdsCV(tuned.estimator_, cv="prefit", refit=False)
        assert_array_equal(again.fit(X, Y).label_names_, list("abcd"))
        with pytest.raises(ValueError, match="labels of y must be in the same order"):
            again.fit(X, frame[list("abdc")])
        assert_array_equal(TunedThresholdsCV(FrozenEstimator(tuned.estimator_)).fit(X, Y).label_names_, list("abcd"))
    assert_array_equal(TunedThresholdsCV(plain(), random_state=0).fit(X, Y).label_names_, ["0", "1", "2", "3"])
    assert_array_equal(TunedThresholdsCV(plain(), random_state=0).fit(X, frame[["b"]]).label_names_, ["b"])
    assert_array_equal(TunedThresholdsCV(Given(), cv=2).fit(frame + 0.5, frame).label_names_, list("abcd"))


def test_a_frozen_estimator_needs_no_refit():
    fitted = plain().fit(X[:150], Y[:150])
    prefit = TunedThresholdsCV(fitted, cv="prefit", refit=False).fit(X[150:], Y[150:])
    frozen = TunedThresholdsCV(FrozenEstimator(fitted), random_state=0).fit(X[150:], Y[150:])
    np.testing.assert_allclose(frozen.thresholds_, prefit.thresholds_)
    assert_array_equal(frozen.predict(X), prefit.predict(X))


def test_vector_y():
    y = np.where(X[:, 0] + X[:, 1] > 1.3, "yes", "no")
    for estimator in (plain(), LogisticRegression()):
        tuned = TunedThresholdsCV(estimator, random_state=0).fit(X, y)
        assert tuned.thresholds_.shape == (1,)
        predicted = tuned.predict(X)
        assert_array_equal(predicted, np.where(tuned.predict_proba(X)[:, 1] > tuned.thresholds_[0], "yes", "no"))
        assert tuned.score(X, y) == np.mean(predicted == y)
        decided = TunedThresholdsCV(estimator, response_method="decision_function", random_state=0).fit(X, y)
        assert_array_equal(decided.predict(X) == "yes", decided.decision_function(X) > decided.thresholds_[0])


def test_callable_scoring():
    def f2(y_true, y_pred):
        assert set(np.unique(y_true)) == {0, 1}
        return fbeta_score(y_true, y_pred, beta=2)

    X, Y, _ = make_data(n=80, n_labels=2, known=0.5)
    scores = cross_val_predict(plain(), X, Y, cv=PartialLabelKFold(random_state=0), method="predict_proba")
    tuned = TunedThresholdsCV(plain(), scoring=f2, shrinkage=0.0, random_state=0).fit(X, Y)
    for label in range(2):
        known = Y[:, label] != 0
        best = brute_force(scores[known, label], Y[known, label] == 1, f2)
        assert tuned.best_scores_[label] == pytest.approx(best, abs=1e-12)


def test_a_function_is_called_for_evenly_spaced_cuts():
    rng = np.random.RandomState(0)
    scores = rng.beta(0.3, 3, size=(20_000, 3)) * [1, 1, 10] - [0, 5, 0]
    y = np.where(rng.uniform(size=scores.shape) < scores - scores.min(axis=0), 1, -1)
    calls = []

    def accuracy(y_true, y_pred):
        calls.append(int(y_pred.sum()))
        return np.mean(y_true == y_pred)

    exact = TunedThresholdsCV(Given(), scoring="accuracy", cv="prefit", refit=False, shrinkage=0.0)
    exact.set_params(estimator=Given().fit(scores, y)).fit(scores, y)
    few = clone(exact).set_params(scoring=accuracy, estimator=exact.estimator).fit(scores, y)
    assert len(calls) <= 3 * 100
    # Everything present, nothing present, and between them the scores that exceed each of a grid.
    grid = np.linspace(scores[:, 0].min(), scores[:, 0].max(), 99)
    above = {20_000, 0, *((scores[:, 0] >= value).sum() for value in grid)}
    assert set(calls[: len(above)]) == above
    assert (few.best_scores_ <= exact.best_scores_).all()
    assert (few.best_scores_ > exact.best_scores_ - 0.01).all()
    for label in range(3):  # the threshold is midway between two scores, and what it predicts has that value
        predicted = scores[:, label] > few.thresholds_[label]
        assert np.mean((y[:, label] == 1) == predicted) == few.best_scores_[label]
    calls.clear()
    few.set_params(thresholds=7).fit(scores, y)
    assert len(calls) <= 3 * 7
    rows = slice(0, 90)  # no more cuts than that: the search is exact
    few.set_params(thresholds=100).fit(scores[rows], y[rows])
    assert_array_equal(few.thresholds_, exact.fit(scores[rows], y[rows]).thresholds_)
    few.set_params(thresholds=None).fit(scores[:500], y[:500])
    assert_array_equal(few.thresholds_, exact.fit(scores[:500], y[:500]).thresholds_)


@pytest.mark.parametrize("n_candidates", [2, 3, 100])
def test_few_cuts_of_any_scores(n_candidates):
    # As wide as floats are, and as close; where two cuts are left, they are the outer ones.
    wide = np.array([-1e308, -1.0, 0.0, np.nextafter(0.0, 1.0), 1e308])
    for scores in (wide, np.repeat(wide, 40), 1.0 + np.arange(200) * np.finfo(float).eps):
        present = np.arange(len(scores)) % 2 == 1
        found = best_threshold(scores, present, accuracy_of, default=0.0, n_candidates=n_candidates)
        assert np.isfinite(found.threshold)
        assert found.value == accuracy_of(present, scores > found.threshold)


def test_a_single_split():
    ((train, test),) = PartialLabelShuffleSplit(1, test_size=0.3, random_state=0).split(X, Y)
    part = plain().fit(X[train], Y[train])
    expected = TunedThresholdsCV(part, cv="prefit", refit=False).fit(X[test], Y[test])
    assert expected.estimator_ is part
    kept = TunedThresholdsCV(plain(), cv=0.3, refit=False, random_state=0).fit(X, Y)
    refitted = TunedThresholdsCV(plain(), cv=[(train, test)]).fit(X, Y)
    for tuned in (kept, refitted):
        assert_array_equal(tuned.thresholds_, expected.thresholds_)
    assert_array_equal(kept.predict_proba(X), part.predict_proba(X))
    assert_array_equal(refitted.predict_proba(X), plain().fit(X, Y).predict_proba(X))


def test_default_folds_are_five_stratified_ones():
    expected = TunedThresholdsCV(plain(), cv=PartialLabelKFold(5, random_state=7)).fit(X, Y)
    assert_array_equal(TunedThresholdsCV(plain(), random_state=7).fit(X, Y).thresholds_, expected.thresholds_)
    other = TunedThresholdsCV(plain(), random_state=8).fit(X, Y)
    assert not np.array_equal(other.thresholds_, expected.thresholds_)


def test_inside_the_tools_of_scikit_learn():
    pipeline = make_pipeline(StandardScaler(), plain())
    tuned = TunedThresholdsCV(pipeline, cv=3, random_state=0)
    grid = {"estimator__partiallabelclassifier__alpha": [1e-3, 1.0], "scoring": ["f1", "accuracy"]}
    cv = PartialLabelKFold(3, random_state=0)
    search = GridSearchCV(tuned, grid, cv=cv, scoring=f1_macro_scorer, n_jobs=2).fit(X, Y)
    assert search.best_params_["scoring"] == "f1"
    best = clone(search.best_estimator_)
    assert cross_val_score(best, X, Y, cv=cv, scoring=f1_macro_scorer).mean() == pytest.approx(search.best_score_)
    parallel = clone(best).set_params(n_jobs=2).fit(X, Y)
    assert_array_equal(parallel.thresholds_, search.best_estimator_.thresholds_)
    again = pickle.loads(pickle.dumps(parallel))
    assert_array_equal(again.predict(X), parallel.predict(X))
    assert repr(TunedThresholdsCV(plain())) == "TunedThresholdsCV(estimator=PartialLabelClassifier(random_state=0))"


def test_parameters_of_fit():
    scores = np.random.RandomState(0).uniform(size=(12, 2))
    y = np.tile([[1, -1], [-1, 1]], (6, 1))
    weight = np.arange(12.0)
    kept = TunedThresholdsCV(Given(), cv=0.5, refit=False, random_state=0)
    kept.fit(scores, y, sample_weight=weight)
    assert kept.estimator_.n_rows_ == 6
    ((train, _),) = PartialLabelShuffleSplit(1, test_size=0.5, random_state=0).split(y, y)
    assert kept.estimator_.weight_ == weight[train].sum()
    assert kept.score(scores, y) == 0.25
    with config_context(enable_metadata_routing=True):
        groups = np.arange(12) % 3
        estimator = Given().set_fit_request(sample_weight=True)
        routed = TunedThresholdsCV(estimator, cv=GroupKFold(3)).fit(scores, y, sample_weight=weight, groups=groups)
        assert routed.estimator_.weight_ == weight.sum()


@pytest.mark.filterwarnings(
    "ignore::skpartial.exceptions.UnfittableLabelsWarning", "ignore::skpartial.exceptions.AmbiguousLabelsWarning"
)
@parametrize_with_checks(
    # The checks pass matrices of 0 and 1, which hold nothing to tune by where 0 is left out.
    [TunedThresholdsCV(plain(), unknown="absent", random_state=0)],
    expected_failed_checks=lambda estimator: {
        "check_classifiers_train": "predict is not the sign of decision_function: that is what tuning is for"
    },
    xfail_strict=True,
)
def test_contract_of_scikit_learn(estimator, check):
    check(estimator)


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"scoring": "f1_macro"}, "scoring must be one of 'f1', 'balanced_accuracy', 'accuracy', or a function"),
        ({"scoring": ["f1"]}, "scoring must be one of .*got \\['f1'\\]"),
        ({"scoring": f1_macro_scorer}, "scoring must be .*scorer takes an estimator: pass its metric function"),
        ({"scoring": make_scorer(f1_score)}, "scorer takes an estimator: pass its metric function"),
        ({"unknown": "present"}, "unknown must be"),
        ({"response_method": "predict"}, "response_method must be"),
        ({"cv": "fitted"}, "cv must be 'prefit' if it is a string"),
        ({"cv": "prefit"}, "as in scikit-learn: set refit=False"),
        ({"cv": 1.5}, "cv must be a number of folds"),
        ({"cv": 1}, "cv must be a number of folds"),
        ({"cv": True}, "cv must be a number of folds"),
        ({"refit": False}, "cv makes 5"),
        ({"thresholds": 1}, "thresholds must be a whole number of at least 2 or None, got 1"),
        ({"thresholds": 10.0}, "thresholds must be a whole number of at least 2 or None, got 10.0"),
    ],
)
def test_errors(parameters, message):
    with pytest.raises(ValueError, match=message):
        TunedThresholdsCV(plain(), **parameters).fit(X, Y)


def test_errors_of_estimators():
    with pytest.raises(NotFittedError):
        TunedThresholdsCV(plain(), cv="prefit", refit=False).fit(X, Y)
    with pytest.raises(NotFittedError):
        TunedThresholdsCV(plain()).predict(X)
    assert not hasattr(TunedThresholdsCV(plain()), "classes_")
    assert not hasattr(TunedThresholdsCV(Given()), "predict_proba")
    with pytest.raises(ValueError, match="returns a list"):
        TunedThresholdsCV(MultiOutputClassifier(LogisticRegression())).fit(X, FULL)
    with pytest.raises(ValueError, match="returns 5 columns, but y has 4 labels"):
        TunedThresholdsCV(Given()).fit(X, Y)
    with pytest.raises(ValueError, match="returns NaN or infinity"):
        TunedThresholdsCV(Given()).fit(np.full((300, 4), np.inf), Y)
    with pytest.raises(ValueError, match="y holds 3"):
        TunedThresholdsCV(plain()).fit(X, np.full((300, 2), 3))


# ------------------------------------------------------------------------------------------------------ shrinkage


@pytest.mark.parametrize("response_method", ["predict_proba", "decision_function"])
def test_thresholds_are_drawn_to_the_common_one_by_what_is_known(response_method):
    settings_ = {"response_method": response_method, "random_state": 0}
    own = TunedThresholdsCV(plain(), shrinkage=0.0, **settings_).fit(X, Y)
    alike = TunedThresholdsCV(plain(), shrinkage=1e12, **settings_).fit(X, Y)
    common = alike.thresholds_[0]
    np.testing.assert_allclose(alike.thresholds_, common)
    # The common one is that of all entries together.
    splits = PartialLabelKFold(5, random_state=0).split(X, Y)
    out_of_fold = np.empty(Y.shape)
    for train, test in splits:
        out_of_fold[test] = getattr(plain().fit(X[train], Y[train]), response_method)(X[test])
    best = best_threshold(out_of_fold[Y != 0], Y[Y != 0] == 1, "f1", default=0.5)
    assert f1_score(Y[Y != 0] == 1, out_of_fold[Y != 0] > common) == pytest.approx(best.value)
    tuned = TunedThresholdsCV(plain(), shrinkage=20.0, **settings_).fit(X, Y)
    fewer = np.minimum((Y == 1).sum(0), (Y == -1).sum(0))
    share = fewer / (fewer + 20)
    scale = logit if response_method == "predict_proba" else np.asarray
    expected = share * scale(own.thresholds_) + (1 - share) * scale(common)
    np.testing.assert_allclose(scale(tuned.thresholds_), expected)
    for j, value in enumerate(tuned.best_scores_):
        known = Y[:, j] != 0
        assert value == pytest.approx(f1_score(Y[known, j] == 1, out_of_fold[known, j] > tuned.thresholds_[j]))


def test_shrinkage_keeps_rare_labels_from_being_called_everywhere():
    """Labels that X says nothing of, of which two or three presences are known, at scores that chance gave."""
    rng = np.random.RandomState(0)
    scores = rng.uniform(size=(400, 30))
    frequent = rng.uniform(size=(400, 1)) < scores[:, :1]
    rare = np.where(rng.uniform(size=(400, 29)) < 0.006, 1, -1)
    rare[:2] = 1
    y = np.column_stack([np.where(frequent, 1, -1), rare])
    fits = [
        TunedThresholdsCV(GivenProbabilities().fit(scores, y), cv="prefit", refit=False, shrinkage=kappa).fit(scores, y)
        for kappa in (0.0, 100.0)
    ]
    own, drawn = (tuned.predict(rng.uniform(size=(400, 30)))[:, 1:].sum(axis=0) for tuned in fits)
    assert own.std() > 3 * drawn.std()


def test_labels_without_a_threshold_of_their_own_take_the_common_one():
    y = Y.copy()
    y[:, 1] = np.minimum(y[:, 1], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tuned = TunedThresholdsCV(plain(), random_state=0, shrinkage=1e12).fit(X, y)
    assert not tuned.tuned_[1]
    assert tuned.thresholds_[1] == pytest.approx(tuned.thresholds_[0])
    # One label shares with none.
    alone = TunedThresholdsCV(plain(), random_state=0).fit(X, FULL[:, 0])
    bare = TunedThresholdsCV(plain(), random_state=0, shrinkage=0.0).fit(X, FULL[:, 0])
    assert_array_equal(alone.thresholds_, bare.thresholds_)
