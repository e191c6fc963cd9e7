"""Scorers inside scikit-learn's model selection."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier, metrics

SCORERS = {name: getattr(metrics, name) for name in metrics.__all__ if name.endswith("_scorer")}


class KnownLeastSquares(ClassifierMixin, BaseEstimator):
    """Ridge regression of the known entries of each label; small enough to say what the scores must be."""

    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def fit(self, X, y):
        gram = self.alpha * np.eye(X.shape[1])
        known = [y[:, j] != 0 for j in range(y.shape[1])]
        self.coef_ = np.stack([np.linalg.solve(X[k].T @ X[k] + gram, X[k].T @ y[k, j]) for j, k in enumerate(known)])
        self.classes_ = np.tile([0, 1], (y.shape[1], 1))
        return self

    def decision_function(self, X):
        return X @ self.coef_.T

    def predict(self, X):
        return (self.decision_function(X) > 0).astype(np.int64)


class OnlyProbabilities(KnownLeastSquares):
    def predict_proba(self, X):
        return 1 / (1 + np.exp(-(X @ self.coef_.T)))

    decision_function = property()


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 6))
    y = np.where(X @ rng.standard_normal((6, 5)) + rng.standard_normal((120, 5)) > 0.3, 1, -1)
    y[rng.random(y.shape) < 0.4] = 0
    return X, y


# What each scorer must answer, from the metric called by hand on decision values and on predictions.
BY_HAND = {
    "mean_average_precision_scorer": lambda y, s, p, **o: metrics.mean_average_precision(y, s, **o),
    "roc_auc_scorer": lambda y, s, p, **o: metrics.mean_roc_auc(y, s, **o),
    "label_ranking_loss_scorer": lambda y, s, p, **o: -metrics.label_ranking_loss(y, s, **o),
    "precision_macro_scorer": lambda y, s, p, **o: metrics.precision(y, p, average="macro", **o),
    "precision_micro_scorer": lambda y, s, p, **o: metrics.precision(y, p, average="micro", **o),
    "recall_macro_scorer": lambda y, s, p, **o: metrics.recall(y, p, average="macro", **o),
    "recall_micro_scorer": lambda y, s, p, **o: metrics.recall(y, p, average="micro", **o),
    "f1_macro_scorer": lambda y, s, p, **o: metrics.f1(y, p, average="macro", **o),
    "f1_micro_scorer": lambda y, s, p, **o: metrics.f1(y, p, average="micro", **o),
    "exact_match_scorer": lambda y, s, p, **o: metrics.exact_match(y, p, **o),
    "hamming_loss_scorer": lambda y, s, p, **o: -metrics.hamming_loss(y, p, **o),
}
for k in (1, 3, 5):
    BY_HAND[f"precision_at_{k}_scorer"] = lambda y, s, p, k=k, **o: metrics.precision_at_k(y, s, k, **o)
    BY_HAND[f"recall_at_{k}_scorer"] = lambda y, s, p, k=k, **o: metrics.recall_at_k(y, s, k, **o)
BY_HAND |= {
    name.replace("_scorer", "_unknown_absent_scorer"): functools.partial(by_hand, unknown="absent")
    for name, by_hand in BY_HAND.items()
}


def test_every_scorer_in_cross_validation(problem):
    X, y = problem
    assert set(BY_HAND) == set(SCORERS)
    found = cross_validate(make_pipeline(StandardScaler(), KnownLeastSquares()), X, y, cv=KFold(3), scoring=SCORERS)
    for fold, (train, test) in enumerate(KFold(3).split(X)):
        model = make_pipeline(StandardScaler(), KnownLeastSquares()).fit(X[train], y[train])
        scores, predicted = model.decision_function(X[test]), model.predict(X[test])
        for name, by_hand in BY_HAND.items():
            assert found[f"test_{name}"][fold] == pytest.approx(by_hand(y[test], scores, predicted), rel=1e-12)


@pytest.mark.parametrize("name", ["mean_average_precision_scorer", "f1_micro_scorer", "hamming_loss_scorer"])
def test_grid_search_finds_what_the_scores_say(problem, name):
    X, y = problem
    search = GridSearchCV(
        KnownLeastSquares(), {"alpha": [1e-3, 10.0, 1e6]}, scoring=SCORERS[name], cv=KFold(3), error_score="raise"
    ).fit(X, y)
    assert search.best_index_ == np.argmax(search.cv_results_["mean_test_score"])
    assert len(set(search.cv_results_["mean_test_score"])) > 1
    clone(search)


def test_grid_search_in_two_processes(problem):
    X, y = problem
    search = GridSearchCV(
        PartialLabelClassifier(),
        {"alpha": [1e-3, 1.0]},
        scoring=SCORERS,
        refit="f1_macro_scorer",
        cv=KFold(2),
        n_jobs=2,
    ).fit(X, y)
    assert search.n_features_in_ == 6
    for name in SCORERS:
        assert np.isfinite(search.cv_results_[f"mean_test_{name}"]).all()


def test_probabilities_serve_where_there_is_no_decision_function(problem):
    X, y = problem
    model, other = OnlyProbabilities().fit(X, y), KnownLeastSquares().fit(X, y)
    scorer = metrics.mean_average_precision_scorer
    assert scorer(model, X, y) == pytest.approx(scorer(other, X, y), rel=1e-12)


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_scorers_pickle_and_clone(problem, name):
    X, y = problem
    model = KnownLeastSquares().fit(X, y)
    expected = SCORERS[name](model, X, y)
    assert pickle.loads(pickle.dumps(SCORERS[name]))(model, X, y) == expected
    assert clone(SCORERS[name], safe=False)(model, X, y) == expected


def test_positive_only_labels_say_what_to_do(problem):
    X, y = problem
    model = KnownLeastSquares().fit(X, y)
    positive_only = np.maximum(y, 0)
    for name, scorer in SCORERS.items():
        if name.endswith("_unknown_absent_scorer"):
            # 0 read as absent is what -1 says
            complete = SCORERS[name.replace("_unknown_absent", "")](model, X, 2 * positive_only - 1)
            assert scorer(model, X, positive_only) == pytest.approx(complete, rel=1e-12)
        else:
            with pytest.raises(ValueError, match='unknown="absent"'):
                scorer(model, X, positive_only)


@pytest.mark.parametrize("name", ["score", "binary", *SCORERS])
def test_other_numbers_of_rows_are_told_as_in_fit(problem, name):
    X, y = problem
    y = y[:, 0] > 0 if name == "binary" else y
    with pytest.raises(ValueError) as in_fit:
        PartialLabelClassifier().fit(X, y[:5])
    clf = PartialLabelClassifier(alpha=0.1).fit(X, y)
    with pytest.raises(ValueError, match="X has 120 rows, but y has 5") as in_score:
        SCORERS[name](clf, X, y[:5]) if name in SCORERS else clf.score(X, y[:5])
    assert str(in_score.value) == str(in_fit.value)
