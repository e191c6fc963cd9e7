"""Classifiers that choose alpha by cross-validation."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from skpartial import (
    PartialLabelClassifier,
    PartialLabelClassifierCV,
    SinglePositiveClassifier,
    SinglePositiveClassifierCV,
)
from skpartial._cross_validated import choose_alpha
from skpartial.datasets import make_digit_scenes
from skpartial.exceptions import AmbiguousLabelsWarning
from skpartial.labels import drop_labels
from skpartial.losses import AssumeNegative
from skpartial.metrics import roc_auc_scorer
from skpartial.model_selection import BatchedGridSearchCV, PartialLabelGroupKFold, PartialLabelKFold
from skpartial.solvers import FullBatch, Minibatch
from skpartial.solvers.convex import _solve

PAIRS = [(PartialLabelClassifierCV, PartialLabelClassifier), (SinglePositiveClassifierCV, SinglePositiveClassifier)]
ALPHAS = [1e-3, 0.1, 10.0, 1000.0]
TIGHT = FullBatch(tol=1e-8, max_iter=1000)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.AmbiguousLabelsWarning")
@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
@pytest.mark.filterwarnings("ignore:.* cannot score any fold")  # in checks whose y holds no -1
@parametrize_with_checks([Classifier(3, cv=2) for Classifier, _ in PAIRS])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def by_hand(alphas, scores, auto):
    """The one-standard-error rule, fold by fold."""
    folds = range(len(scores[0]))
    means = [sum(row) / len(row) for row in scores]
    best = scores[means.index(max(means))]
    stays = []
    for alpha, row in zip(alphas, scores):
        differences = [best[k] - row[k] for k in folds]
        mean = sum(differences) / len(differences)
        variance = sum((d - mean) ** 2 for d in differences) / (len(differences) - 1)
        if mean <= (variance / len(differences)) ** 0.5:
            stays.append(alpha)
    return min(stays, key=lambda alpha: abs(np.log10(alpha / auto)))


@pytest.mark.parametrize(("Classifier", "Plain"), PAIRS)
@pytest.mark.parametrize("scoring", [None, roc_auc_scorer])
def test_choice_is_that_of_a_grid_search_and_one_standard_error(partial_data, Classifier, Plain, scoring):
    X, Y = partial_data
    if Plain is SinglePositiveClassifier:
        if scoring is not None:
            pytest.skip("the scorer over known entries has nothing to say")
        Y = np.where(Y == 1, 1, 0)
    folds = PartialLabelKFold(4, random_state=3)
    clf = Classifier(ALPHAS, cv=folds, scoring=scoring, solver=TIGHT, random_state=0).fit(X, Y)
    grid = GridSearchCV(Plain(solver=TIGHT), {"alpha": ALPHAS}, cv=folds, scoring=scoring, refit=False)
    results = grid.fit(X, Y).cv_results_
    expected = np.array([results[f"split{k}_test_score"] for k in range(4)]).T
    np.testing.assert_allclose(clf.scores_, expected, atol=1e-3)
    plain = Plain(solver=TIGHT).fit(X, Y)
    assert clf.alpha_ == by_hand(ALPHAS, clf.scores_.tolist(), plain.alpha_)
    assert clf.best_score_ == clf.scores_.mean(axis=1)[ALPHAS.index(clf.alpha_)]
    # The fitted object is the classifier with it.
    again = Plain(solver=TIGHT, alpha=clf.alpha_, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(clf.coef_, again.coef_)
    np.testing.assert_array_equal(clf.predict_proba(X), again.predict_proba(X))
    np.testing.assert_array_equal(clf.predict(X), again.predict(X))
    assert clf.score(X, Y) == again.score(X, Y)
    assert isinstance(clf, Plain)


@pytest.mark.parametrize(
    ("n_features", "known", "route"), [(200, 0.1, "_follow_path"), (80, 0.2, "GatheredColumns"), (20, 0.2, "Matrix")]
)
def test_paths_end_where_separate_fits_do(n_features, known, route, monkeypatch):
    """By bases of the rows of each label, by rows that penalties share, and by factors of all."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, n_features))
    Y = np.where(X[:, :6] + rng.normal(size=(400, 6)) > 0.3, 1, -1)
    Y = np.where(rng.random(Y.shape) < known, Y, 0)
    together, found, taken = True, {}, []

    def keep(estimator, X, y):
        found[together, estimator.alpha] = np.c_[estimator.coef_, estimator.intercept_]
        return 0.0

    original = getattr(_solve, route)
    monkeypatch.setattr(_solve, route, lambda *args: taken.append(args) or original(*args))
    search = {"scoring": keep, "cv": [(np.arange(400), np.arange(9))], "refit": False}
    classifier = PartialLabelClassifier(solver=TIGHT)
    BatchedGridSearchCV(classifier, {"alpha": [0.1, 10.0, 1e-3, 1.0]}, **search).fit(X, Y)
    assert len(taken) == 1
    together = False
    GridSearchCV(classifier, {"alpha": [0.1, 10.0, 1e-3, 1.0]}, **search).fit(X, Y)
    for alpha in (0.1, 10.0, 1e-3, 1.0):
        size = np.linalg.norm(found[False, alpha])
        assert np.linalg.norm(found[True, alpha] - found[False, alpha]) < 1e-3 * size


def test_fits_of_folds_are_as_exact_as_asked_for(partial_data):
    """A tolerance that is given holds on folds, too; without one it is loose there, and never in the last fit."""
    X, Y = partial_data
    seen = {}

    def tolerance(estimator, X, y):
        seen.setdefault(case, set()).add(getattr(estimator.solver, "tol", estimator.solver))
        return estimator.score(X, y)

    for case in ("auto", "full_batch", "minibatch", FullBatch(tol=1e-4)):
        clf = PartialLabelClassifierCV([1e-2, 1.0], cv=2, scoring=tolerance, solver=case, random_state=0).fit(X, Y)
        plain = PartialLabelClassifier(alpha=clf.alpha_, solver=case, random_state=0).fit(X, Y)
        np.testing.assert_array_equal(clf.coef_, plain.coef_)
        assert clf.solver is case
    assert list(seen.values()) == [{1e-3}, {1e-3}, {"minibatch"}, {1e-4}]


def test_the_rule():
    rng = np.random.default_rng(0)
    for seed in range(200):
        alphas = 10.0 ** rng.uniform(-4, 4, size=6)
        scores = rng.normal(size=(6, 5)) + rng.normal(size=5)
        scores[seed % 6] += rng.uniform(0, 2)
        assert alphas[choose_alpha(alphas, scores, 1.0)] == by_hand(alphas, scores.tolist(), 1.0)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # Clearly better everywhere: the best, however far.
        ([[0.9, 0.8], [0.5, 0.4], [0.1, 0.0]], 0),
        # Better on one fold, worse on the other: as near as can be.
        ([[0.9, 0.1], [0.2, 0.7], [0.0, 0.0]], 1),
        # What folds have in common does not count: .02 behind on both of two very different folds is behind.
        ([[0.92, 0.12], [0.90, 0.10], [0.0, 0.0]], 0),
        # Folds without scores are left out.
        ([[np.nan, 0.9, 0.8], [0.9, 0.5, 0.4], [0.0, 0.1, 0.0]], 0),
        # One fold has no spread: the best.
        ([[0.1], [0.2], [0.3]], 2),
        ([[np.nan], [np.nan], [np.nan]], None),
    ],
)
def test_the_rule_in_small_cases(scores, expected):
    assert choose_alpha(np.array([0.01, 1.0, 100.0]), np.array(scores), 1.0) == expected


def test_the_better_of_two_as_near_and_a_penalty_of_zero():
    assert choose_alpha(np.array([0.1, 10.0]), np.array([[0.5, 0.6], [0.7, 0.5]]), 1.0) == 1
    assert choose_alpha(np.array([0.0, 1.0]), np.array([[0.9, 0.9], [0.1, 0.1]]), 1.0) == 0


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_number_of_penalties_lies_around_auto(partial_data, scale):
    X, Y = partial_data
    X = X * scale
    auto = PartialLabelClassifier().fit(X, Y).alpha_
    clf = PartialLabelClassifierCV(5, cv=2, random_state=0).fit(X, Y)
    np.testing.assert_allclose(clf.alphas_ / auto, [1e-2, 1e-1, 1, 10, 100])
    np.testing.assert_allclose(PartialLabelClassifierCV(1, cv=2).fit(X, Y).alphas_, [auto])
    assert clf.scores_.shape == (5, 2)


def test_auto_among_given_penalties(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV(["auto", 1e6], cv=3, random_state=0).fit(X, Y)
    plain = PartialLabelClassifier().fit(X, Y)
    assert clf.alphas_.tolist() == [plain.alpha_, 1e6]
    assert clf.alpha_ == plain.alpha_
    # On a fold it is what suits the rows there.
    folds = PartialLabelKFold(3, random_state=0)
    np.testing.assert_allclose(clf.scores_[0], cross_val_score(PartialLabelClassifier(), X, Y, cv=folds), atol=1e-3)


def test_default_folds_are_five_and_stratified(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV(ALPHAS, random_state=5).fit(X, Y)
    given = PartialLabelClassifierCV(ALPHAS, cv=PartialLabelKFold(5, random_state=5)).fit(X, Y)
    np.testing.assert_array_equal(clf.scores_, given.scores_)


def test_classes(partial_data):
    X, _ = partial_data
    y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    clf = PartialLabelClassifierCV(ALPHAS, random_state=0).fit(X, y)
    assert clf.scores_.shape == (4, 5)
    assert set(clf.predict(X)) == {"yes", "no"}
    assert clf.score(X, y) > 0.9


def test_weights_and_priors_reach_all_fits(partial_data):
    X, Y = partial_data
    weights = np.random.default_rng(1).integers(0, 4, size=len(X)).astype(float)
    clf = PartialLabelClassifierCV(ALPHAS, cv=3, random_state=0, solver=TIGHT).fit(X, Y, sample_weight=weights)
    plain = PartialLabelClassifier(alpha=clf.alpha_, solver=TIGHT).fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(clf.coef_, plain.coef_)
    (train, test), *_ = PartialLabelKFold(3, random_state=0).split(X, Y)
    fold = PartialLabelClassifier(alpha=0.1, solver=TIGHT).fit(X[train], Y[train], sample_weight=weights[train])
    weighted = {"sample_weight": weights[test]}
    assert clf.scores_[1, 0] == pytest.approx(fold.score(X[test], Y[test], **weighted), abs=1e-3)
    unweighted = PartialLabelClassifier(alpha=0.1, solver=TIGHT).fit(X[train], Y[train])
    assert abs(unweighted.score(X[test], Y[test], **weighted) - clf.scores_[1, 0]) > 1e-3
    with pytest.raises(ValueError, match="label_prior is used by neither"):
        PartialLabelClassifierCV(ALPHAS).fit(X, Y, label_prior=np.full(Y.shape, 0.5))


def test_groups_stay_whole(partial_data):
    X, Y = partial_data
    groups = np.arange(len(X)) // 4
    clf = PartialLabelClassifierCV(ALPHAS, cv=3, random_state=0).fit(X, Y, groups=groups)
    folds = list(PartialLabelGroupKFold(3, random_state=0).split(X, Y, groups))
    np.testing.assert_array_equal(clf.scores_, PartialLabelClassifierCV(ALPHAS, cv=folds).fit(X, Y).scores_)
    with pytest.raises(ValueError, match="PartialLabelKFold does not use groups"):
        PartialLabelClassifierCV(ALPHAS, cv=PartialLabelKFold(3)).fit(X, Y, groups=groups)


def test_folds_that_cannot_be_scored_are_left_out(partial_data):
    X, Y = partial_data
    Y = Y.copy()
    Y[80:][Y[80:] == -1] = 0
    splits = [
        (np.arange(40, 120), np.arange(40)),
        (np.r_[0:40, 80:120], np.arange(40, 80)),
        (np.arange(80), np.r_[80:120]),
    ]
    clf = PartialLabelClassifierCV(ALPHAS, cv=splits).fit(X, Y)
    assert np.isnan(clf.scores_).all(axis=0).tolist() == [False, False, True]
    both = PartialLabelClassifierCV(ALPHAS, cv=splits[:2]).fit(X, Y)
    assert (clf.alpha_, clf.best_score_) == (both.alpha_, both.best_score_)


def test_without_any_score_alpha_is_auto(partial_data):
    X, Y = partial_data
    seen = np.where(Y == 1, 1, 0)
    clf = PartialLabelClassifierCV(ALPHAS, loss=AssumeNegative())
    with pytest.warns(UserWarning, match="cannot score any fold, so alpha is the value of 'auto'"):
        clf.fit(X, seen)
    plain = PartialLabelClassifier(AssumeNegative()).fit(X, seen)
    assert clf.alpha_ == plain.alpha_
    assert np.isnan(clf.best_score_)
    np.testing.assert_array_equal(clf.coef_, plain.coef_)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        PartialLabelClassifierCV(ALPHAS).fit(X, seen)
    assert [warning.category for warning in caught].count(AmbiguousLabelsWarning) == 1


def test_a_warning_of_a_fold_is_not_told_for_each(partial_data):
    X, Y = partial_data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        PartialLabelClassifierCV(ALPHAS, solver=FullBatch(max_iter=1), random_state=0).fit(X, Y)
    assert [warning.category for warning in caught] == [ConvergenceWarning]
    assert caught[0].filename == __file__


@pytest.mark.parametrize(("Classifier", "Plain"), PAIRS)
def test_parameters_are_those_of_the_classifier_but_alpha(Classifier, Plain):
    own, plain = Classifier().get_params(deep=False), Plain().get_params(deep=False)
    assert own.keys() - plain.keys() == {"alphas", "cv", "scoring"}
    assert plain.keys() - own.keys() == {"alpha"}
    assert {name: own[name] for name in plain if name != "alpha"} == {k: v for k, v in plain.items() if k != "alpha"}
    with pytest.raises(ValueError, match="Invalid parameter 'alpha'"):
        Classifier().set_params(alpha=1.0)


def test_clone_pickle_and_nested_parameters(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV(ALPHAS, cv=2, loss="partial_bce", random_state=0).set_params(loss__gamma=3)
    copied = clone(clf)
    assert repr(copied) == repr(clf)
    clf.fit(X, Y)
    assert not hasattr(copied, "alpha_")
    loaded = pickle.loads(pickle.dumps(clf))
    assert loaded.alpha_ == clf.alpha_
    np.testing.assert_array_equal(loaded.decision_function(X), clf.decision_function(X))
    np.testing.assert_array_equal(copied.fit(X, Y).coef_, clf.coef_)
    assert clf.loss.gamma == 3
    scores = cross_val_score(clf, X, Y, cv=2, error_score="raise")
    assert ((scores > 0) & (scores < 1)).all()


def test_each_fit_chooses_anew(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV([1e-3], cv=2, warm_start=True, random_state=0).fit(X, Y)
    assert clf.set_params(alphas=[7.0]).fit(X, Y).alpha_ == 7.0


def test_minibatches(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV([1e-3, 1e3], cv=2, solver=Minibatch(max_epochs=5), random_state=0).fit(X, Y)
    assert clf.alpha_ == 1e-3


def test_refusals(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV()
    assert not hasattr(clf, "partial_fit")
    with pytest.raises(AttributeError, match="needs all rows at once: use fit, or PartialLabelClassifier"):
        clf.partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"takes features, not images: .* GridSearchCV\(SinglePositiveClassifier\("):
        SinglePositiveClassifierCV(backbone="resnet18").fit(X, Y)
    for alphas in (0, True, 2.5, "partial_bce", [], [1.0, -1.0], [1.0, "scale"], None):
        with pytest.raises(ValueError, match="alphas must be a whole number"):
            PartialLabelClassifierCV(alphas).fit(X, Y)
    with pytest.raises(ValueError, match="cv must be a number of folds of at least 2"):
        PartialLabelClassifierCV(cv=1).fit(X, Y)


def test_a_failed_fit_leaves_all_as_it_was(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifierCV(ALPHAS, cv=2, random_state=0).fit(X, Y)
    before = dict(vars(clf))
    with pytest.raises(ValueError, match="X has 2 features"):
        clf.fit(X[::-1], Y, X_val=X[:, :2], y_val=Y)
    assert vars(clf).keys() == before.keys()
    assert all(vars(clf)[name] is value for name, value in before.items())


def test_forms_of_data_and_metadata_routing(partial_data):
    X, Y = partial_data
    expected = PartialLabelClassifierCV(ALPHAS, cv=2, random_state=0).fit(X, Y)
    frames = pd.DataFrame(X).add_prefix("f"), pd.DataFrame(Y, columns=list("abcde"))
    for X_in, Y_in in [frames, (sp.csr_array(X), sp.csr_array(Y)), (torch.as_tensor(X), Y)]:
        clf = PartialLabelClassifierCV(ALPHAS, cv=2, random_state=0).fit(X_in, Y_in)
        np.testing.assert_allclose(clf.scores_, expected.scores_, atol=1e-3)
        assert clf.alpha_ == expected.alpha_
    weights = np.linspace(0.5, 2, len(X))
    weighted = PartialLabelClassifierCV(ALPHAS, cv=2, random_state=0).fit(X, Y, sample_weight=weights)
    with config_context(enable_metadata_routing=True):
        routed = PartialLabelClassifierCV(ALPHAS, cv=2, random_state=0).fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(routed.scores_, weighted.scores_)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
def test_the_choice_is_stable_where_little_is_known():
    scenes = make_digit_scenes(2000, random_state=0)
    chosen, best = [], []
    for seed in range(5):
        Y = drop_labels(scenes.target, known=0.03, by="entry", random_state=seed)
        clf = PartialLabelClassifierCV(9, random_state=seed).fit(scenes.data, Y)
        chosen.append(np.log10(clf.alpha_))
        best.append(np.log10(clf.alphas_[np.nanmean(clf.scores_, axis=1).argmax()]))
    assert np.std(chosen) < np.std(best)


def test_folds_without_weight_are_skipped(partial_data):
    X, Y = partial_data
    weights = np.ones(len(X))
    weights[: len(X) // 2] = 0
    for given in (weights, np.repeat(weights[:, None], Y.shape[1], axis=1)):
        clf = PartialLabelClassifierCV(ALPHAS, cv=KFold(4)).fit(X, Y, sample_weight=given)
        assert np.isnan(clf.scores_).any(axis=0).tolist() == [True, True, False, False]
        assert clf.best_score_ == pytest.approx(clf.scores_[clf.alphas_ == clf.alpha_, 2:].mean())
    with pytest.warns(UserWarning, match="cannot score any fold.*; rows of weight 0 do not count") as caught:
        clf = PartialLabelClassifierCV(ALPHAS, cv=KFold(2)).fit(X, Y, sample_weight=weights)
    assert len(caught) == 1
    assert np.isnan(clf.scores_).all()


@pytest.mark.parametrize(
    "scoring", [[roc_auc_scorer], (roc_auc_scorer,), {"area": roc_auc_scorer}, ["accuracy", "f1_macro"]]
)
def test_one_score_chooses(partial_data, scoring):
    clf = PartialLabelClassifierCV(ALPHAS, scoring=scoring)
    with pytest.raises(ValueError, match="scoring must be None or a single scorer, because one score chooses alpha"):
        clf.fit(*partial_data)


def test_scorers_return_one_number(partial_data):
    clf = PartialLabelClassifierCV(ALPHAS, cv=2, scoring=lambda estimator, X, y: {"a": 0.5, "b": 0.3})
    with pytest.raises(ValueError, match="scoring must be a scorer that returns one number, not several"):
        clf.fit(*partial_data)


@pytest.mark.parametrize(
    "split", [([0, 1], [10**6]), ([-(10**6)], [0]), ([0, 1],), ([0.5], [1]), 3, ([True], [False]), ([0], [1], [2])]
)
def test_splits_are_pairs_of_positions(partial_data, split):
    clf = PartialLabelClassifierCV(ALPHAS, cv=[(np.arange(60), np.arange(60, 120)), split])
    with pytest.raises(ValueError, match=r"Split 1 of cv must be a pair \(train, test\) of positions"):
        clf.fit(*partial_data)


def test_splits_may_be_masks_or_count_from_the_end(partial_data):
    X, Y = partial_data
    n = len(X)
    forms = [
        (np.arange(n) < 100, np.arange(n) >= 100),
        (range(100), range(100, n)),
        (range(-n, 100 - n), range(100 - n, 0)),
    ]
    first, *others = (PartialLabelClassifierCV(ALPHAS, cv=[split]).fit(X, Y).scores_ for split in forms)
    for other in others:
        np.testing.assert_array_equal(other, first)
