"""Out-of-fold predictions: equal to folds written by hand, and label matrices reach `fit` as they are."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from sklearn import config_context, model_selection
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.metrics import mean_average_precision_scorer
from skpartial.model_selection import PartialLabelKFold, cross_val_predict

METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]


class Recorder(ClassifierMixin, BaseEstimator):
    """Answers, for every label, the sums over present, absent and unknown entries of the first feature, a row number.

    The sums tell which entries it was fitted on as what.
    """

    def fit(self, X, y, sample_weight=None):
        y = y.toarray() if sp.issparse(y) else np.asarray(y)
        weight = np.asarray(X)[:, 0] if sample_weight is None else sample_weight
        self.sums_ = np.concatenate([weight @ (y == value) for value in (1, -1, 0)])
        self.classes_ = np.tile([0, 1], (y.shape[1], 1))
        return self

    def predict(self, X):
        return np.tile(self.sums_, (len(X), 1))

    predict_proba = decision_function = predict


def make_data(n=90, n_labels=4, known=0.6, seed=0):
    rng = np.random.RandomState(seed)
    X = rng.normal(size=(n, 5))
    Y = np.where(X @ rng.normal(size=(5, n_labels)) + rng.normal(size=(n, n_labels)) > 0, 1, -1)
    Y[rng.uniform(size=Y.shape) > known] = 0
    return X, Y


X, Y = make_data()


def by_hand(estimator, X, y, splits, method):
    answers = np.full((len(X), y.shape[1]), -99.0)
    for train, test in splits:
        fitted = estimator().fit(X[train], y[train])
        answers[test] = getattr(fitted, method)(X[test])
    return answers


def plain():
    return PartialLabelClassifier(random_state=0)


def pipeline():
    return make_pipeline(StandardScaler(), plain())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("estimator", [plain, pipeline])
def test_equals_folds_by_hand(estimator, method):
    splits = list(KFold(3, shuffle=True, random_state=1).split(X))
    expected = by_hand(estimator, X, Y, splits, method)
    found = cross_val_predict(estimator(), X, Y, cv=splits, method=method)
    assert_array_equal(found, expected)
    if method == "predict":
        assert found.dtype == np.int64
    # scikit-learn's own function is right only where y goes past it, as an argument of fit
    past_it = model_selection.cross_val_predict(estimator(), X, None, params={"y": Y}, cv=splits, method=method)
    assert_array_equal(found, past_it)


@pytest.mark.parametrize("cv, splitter", [(None, KFold(5)), (3, KFold(3))])
def test_default_folds_are_those_of_scikit_learn(cv, splitter):
    found = cross_val_predict(plain(), X, Y, cv=cv, method="decision_function")
    assert_array_equal(found, by_hand(plain, X, Y, splitter.split(X), "decision_function"))


@pytest.mark.parametrize(
    "convert",
    [sp.csr_array, sp.coo_matrix, sp.lil_matrix, np.ndarray.tolist, lambda Y: pd.DataFrame(Y, columns=list("abcd"))],
    ids=["csr", "coo", "lil", "list", "frame"],
)
def test_every_form_of_y(convert):
    expected = by_hand(plain, X, Y, KFold(5).split(X), "predict_proba")
    assert_array_equal(cross_val_predict(plain(), X, convert(Y), method="predict_proba"), expected)


def test_forms_of_X():
    expected = cross_val_predict(plain(), X, Y, method="predict_proba")
    for form in (pd.DataFrame(X), sp.coo_array(X), X.tolist()):
        # not bit by bit: sums over rows are taken in another order
        found = cross_val_predict(plain(), form, Y, method="predict_proba")
        np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_scikit_learn_turns_unknown_into_present_and_this_does_not():
    rng = np.random.RandomState(0)
    X = rng.normal(size=(200, 3))
    # No presence is known, and half of the entries are unknown.
    Y = -(rng.uniform(size=(200, 2)) < 0.5).astype(int)
    estimator = PartialLabelClassifier(loss="an", random_state=0)
    safe = cross_val_predict(estimator, X, Y, method="predict_proba")
    corrupted = model_selection.cross_val_predict(estimator, X, Y, cv=KFold(5), method="predict_proba")
    assert safe.max() < 0.01
    assert corrupted.mean() > 0.4  # it was fitted on 0 for absent and 1 for unknown

    counted = cross_val_predict(Recorder(), np.ones((200, 1)), Y, method="predict_proba")
    assert (counted[:, :2] == 0).all()
    wrong = model_selection.cross_val_predict(Recorder(), np.ones((200, 1)), Y, cv=KFold(5), method="predict")
    assert (wrong[:, :2] == 0).all()  # only methods that answer scores are hit, which makes it harder to notice


@given(
    Y=arrays(np.int8, st.tuples(st.integers(4, 15), st.integers(1, 4)), elements=st.sampled_from([-1, 0, 1])),
    method=st.sampled_from(["predict", "predict_proba", "decision_function"]),
)
@settings(max_examples=40, deadline=None)
def test_fit_sees_every_entry_as_it_is(Y, method):
    n = len(Y)
    X = 2.0 ** np.arange(n)[:, None]  # sums of these name their terms
    # An array of one column is a vector of classes; a sparse one is a label matrix whatever it holds.
    form = Y if Y.shape[1] > 1 else sp.csr_array(Y)
    found = cross_val_predict(Recorder(), X, form, cv=KFold(4), method=method)
    for train, test in KFold(4).split(X):
        expected = np.concatenate([X[train, 0] @ (Y[train] == value) for value in (1, -1, 0)])
        assert_array_equal(found[test], np.tile(expected, (len(test), 1)))


def test_grid_search_inside_and_two_jobs():
    search = GridSearchCV(pipeline(), {"partiallabelclassifier__alpha": [1e-3, 10.0]}, cv=2)
    splits = list(PartialLabelKFold(3, random_state=0).split(X, Y))
    expected = np.empty(Y.shape)
    for train, test in splits:
        fitted = GridSearchCV(pipeline(), search.param_grid, cv=2, scoring=mean_average_precision_scorer)
        expected[test] = fitted.fit(X[train], Y[train]).predict_proba(X[test])
    search.set_params(scoring=mean_average_precision_scorer)
    found = cross_val_predict(
        search, X, Y, cv=PartialLabelKFold(3, random_state=0), method="predict_proba", n_jobs=2, pre_dispatch="all"
    )
    assert_array_equal(found, expected)


def test_the_estimator_is_not_fitted():
    estimator = plain()
    cross_val_predict(estimator, X, Y)
    assert not hasattr(estimator, "coef_")


def test_parameters_of_fit_are_split():
    weight = 2.0 ** np.arange(12)
    Y = np.tile([[1, -1, 0]], (12, 1))
    found = cross_val_predict(Recorder(), np.ones((12, 1)), Y, cv=3, params={"sample_weight": weight})
    for train, test in KFold(3).split(Y):
        assert_array_equal(found[test][:, 0], np.full(4, weight[train].sum()))


def test_groups():
    groups = np.arange(12) % 3
    X, Y = 2.0 ** np.arange(12)[:, None], np.ones((12, 2), dtype=int)
    found = cross_val_predict(Recorder(), X, Y, cv=GroupKFold(3), groups=groups)
    assert_array_equal(found[:, 0], [X[groups != group].sum() for group in groups])
    with config_context(enable_metadata_routing=True):
        weight = np.arange(12.0)
        estimator = Recorder().set_fit_request(sample_weight=True)
        params = {"groups": groups, "sample_weight": weight}
        routed = cross_val_predict(estimator, X, Y, cv=GroupKFold(3), params=params)
        assert_array_equal(routed[:, 0], [weight[groups != group].sum() for group in groups])
        with pytest.raises(ValueError, match="pass groups in params"):
            cross_val_predict(Recorder(), X, Y, cv=GroupKFold(3), groups=groups)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_vector_y_is_as_in_scikit_learn(method):
    y = np.where(X[:, 0] > 0, "yes", "no")
    expected = model_selection.cross_val_predict(LogisticRegression(), X, y, method=method)
    assert_array_equal(cross_val_predict(LogisticRegression(), X, y, method=method), expected)
    ours = cross_val_predict(plain(), X, y.tolist(), method=method)
    assert ours.shape == expected.shape
    if method == "predict":
        assert np.mean(ours == expected) > 0.95


def test_answers_that_are_lists_or_sparse():
    Y = np.where(X[:, :2] > 0, 1, -1)
    forest = RandomForestClassifier(n_estimators=3, random_state=0)
    splits = list(KFold(3).split(X))
    found = cross_val_predict(forest, X, Y, cv=3, method="predict_proba")
    assert isinstance(found, list)
    for label in range(2):
        for train, test in splits:
            assert_array_equal(found[label][test], forest.fit(X[train], Y[train]).predict_proba(X[test])[label])

    class SparseRecorder(Recorder):
        def predict(self, X):
            return sp.csr_array(super().predict(X))

    dense = cross_val_predict(Recorder(), X, Y, cv=3)
    sparse = cross_val_predict(SparseRecorder(), X, Y, cv=3)
    assert sp.issparse(sparse)
    assert_array_equal(sparse.toarray(), dense)


def test_answers_that_do_not_fit_together():
    Y = np.ones((12, 2), dtype=int)
    Y[:4, 1] = -1  # the first fold holds all the absences
    forest = RandomForestClassifier(n_estimators=2, random_state=0)
    with pytest.raises(ValueError, match="rows of different shapes"):
        cross_val_predict(forest, np.arange(12.0)[:, None], Y, cv=3, method="predict_proba")


@pytest.mark.parametrize("cv", [ShuffleSplit(3, random_state=0), [(np.arange(5), np.arange(5, 10))]])
def test_every_row_needs_one_prediction(cv):
    with pytest.raises(ValueError, match="every row exactly once"):
        cross_val_predict(plain(), X, Y, cv=cv)
