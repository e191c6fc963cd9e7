"""Squared error in closed form: against ridge regressions, against fits without a row, and by what must not matter."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.base import clone
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.features._matrix import ResidentFeatures, SparseFeatures, StreamedFeatures
from skpartial.labels import keep_single_positive
from skpartial.losses import AssumeNegative, Block, IgnoreUnknown, LargeLoss, PartialBCE, WeakAssumeNegative
from skpartial.model_selection import BatchedGridSearchCV
from skpartial.solvers import FullBatch, Minibatch
from skpartial.solvers.convex import _squared
from skpartial.solvers.convex._recalibration import log_odds_map
from skpartial.solvers.convex._squared import leave_one_out

LOSSES = [
    IgnoreUnknown(surrogate="squared"),
    PartialBCE(surrogate="squared"),
    AssumeNegative(0.05, surrogate="squared"),
    WeakAssumeNegative(surrogate="squared"),
]
SHAPES = [(120, 20), (50, 90), (150, 100)]


def data(n=120, d=20, n_labels=4, known=0.6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.3, 2, size=d) + 1.5
    logits = (X - 1.5) @ rng.normal(size=(d, n_labels)) / d**0.5 - np.linspace(0, 0.7, n_labels)
    complete = np.where(rng.logistic(size=logits.shape) < 2 * logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < known, complete, 0)


def rule(loss, Y):
    """Targets and weights of entries."""
    target, weight = loss.targets(Block(torch.tensor(Y), dtype=torch.float64))
    return target.numpy(), np.ones(Y.shape) if weight is None else np.broadcast_to(weight.numpy(), Y.shape)


def ridges(X, Y, loss, alpha, weights=None):
    """Weights and intercepts of scikit-learn's regressions on -2 and 2, under the penalty in its units."""
    target, w = rule(loss, Y)
    sample = np.ones(len(X)) if weights is None else weights / weights.mean()
    found = [
        Ridge(alpha=4 * len(X) * alpha, solver="cholesky").fit(X, 4 * t - 2, sample_weight=s)
        for t, s in zip(target.T, (w * sample[:, None]).T)
    ]
    return np.array([ridge.coef_ for ridge in found]), np.array([ridge.intercept_ for ridge in found])


def by_products(monkeypatch):
    """Let no label have a factor of its own."""
    monkeypatch.setattr(_squared, "_groups_to_factorize", lambda *args: [])


@pytest.fixture
def uncalibrated(monkeypatch):
    """Logits in the units of the targets."""
    monkeypatch.setattr(_squared, "log_odds_map", lambda x, s, a: (torch.ones(len(x)), torch.zeros(len(x))))


def check_ridges(clf, coef, intercept, rtol=1e-8):
    np.testing.assert_allclose(clf.coef_, coef, rtol=0, atol=rtol * np.abs(coef).max())
    np.testing.assert_allclose(clf.intercept_, intercept, rtol=0, atol=rtol * (1 + np.abs(intercept).max()))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_optimum_is_that_of_ridge(loss, shape, weighted, uncalibrated):
    X, Y = data(*shape)
    weights = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    if weighted:
        weights[:5] = 0
    clf = PartialLabelClassifier(loss, alpha=0.03).fit(X, Y, sample_weight=weights)
    check_ridges(clf, *ridges(X, Y, loss, 0.03, weights))
    assert clf.n_iter_ == 1


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_label_has_a_penalty_of_its_own(shape, monkeypatch):
    X, Y = data(*shape, n_labels=6, known=1.0)
    alphas = np.geomspace(1, 1e-3, 6)
    init = _squared.SquaredProblem.__init__

    def scaled(self, *args):
        init(self, *args)
        self.alpha = torch.tensor(alphas)

    alone = [PartialLabelClassifier(LOSSES[0], alpha=alpha).fit(X, Y) for alpha in alphas]
    monkeypatch.setattr(_squared.SquaredProblem, "__init__", scaled)
    together = PartialLabelClassifier(LOSSES[0], alpha=1.0).fit(X, Y)
    for j, clf in enumerate(alone):
        np.testing.assert_allclose(together.coef_[j], clf.coef_[j], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(together.intercept_[j], clf.intercept_[j], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_optimum_by_products(loss, shape, monkeypatch, uncalibrated):
    """What is too large for factors is left to conjugate gradients."""
    by_products(monkeypatch)
    X, Y = data(*shape)
    clf = PartialLabelClassifier(loss, alpha=0.03, solver=FullBatch(tol=1e-13)).fit(X, Y)
    check_ridges(clf, *ridges(X, Y, loss, 0.03), rtol=1e-4)


def brute_force(X, Y, loss, alpha):
    """Scores of every row by a ridge regression without it."""
    target, weight = rule(loss, Y)
    scores = np.empty(Y.shape)
    for i in range(len(X)):
        rest = np.arange(len(X)) != i
        for j in range(Y.shape[1]):
            ridge = Ridge(alpha=4 * len(X) * alpha, solver="cholesky")
            ridge.fit(X[rest], 4 * target[rest, j] - 2, sample_weight=weight[rest, j])
            scores[i, j] = ridge.predict(X[i : i + 1])[0]
    return scores


@pytest.mark.parametrize("n_alphas", [2, 6])
@pytest.mark.parametrize("shape", [(40, 6), (25, 40)], ids=str)
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_leave_one_out_is_that_of_fits_without_the_row(make_problem, loss, shape, n_alphas):
    X, Y = data(*shape, n_labels=3)
    alphas = np.geomspace(1e-3, 1, n_alphas).tolist()
    task = make_problem(ResidentFeatures(torch.tensor(X)), Y, loss)
    found = {}
    for part in leave_one_out(task, alphas):
        for label, alpha, theta, scores in zip(part.labels.tolist(), part.alpha.tolist(), part.theta, part.scores):
            assert (label, alpha) not in found
            found[label, alpha] = scores.numpy()
            np.testing.assert_allclose(theta[:-1], ridges(X, Y, loss, alpha)[0][label], rtol=1e-7, atol=1e-9)
    assert len(found) == 3 * n_alphas
    for alpha in (alphas[0], alphas[-1]):
        expected = brute_force(X, Y, loss, alpha)
        for j in range(3):
            np.testing.assert_allclose(found[j, alpha], expected[:, j], rtol=1e-6, atol=1e-8)


def test_leave_one_out_is_that_of_ridge_cv(make_problem):
    X, Y = data(known=1.0)
    alphas = [1e-3, 1e-2, 1e-1]
    task = make_problem(ResidentFeatures(torch.tensor(X)), Y, IgnoreUnknown())
    ridge = RidgeCV(alphas=4 * len(X) * np.array(alphas), store_cv_results=True).fit(X, 2 * Y)
    found = np.empty((len(alphas), *Y.shape))
    for part in leave_one_out(task, alphas):
        for label, alpha, scores in zip(part.labels.tolist(), part.alpha.tolist(), part.scores):
            found[alphas.index(alpha), :, label] = scores
    np.testing.assert_allclose(np.square(found - 2 * Y), np.moveaxis(ridge.cv_results_, 2, 0), rtol=1e-6)


def test_leave_one_out_refuses_what_looks_at_logits(make_problem):
    X, Y = data()
    with pytest.raises(ValueError, match="Rows cannot be left out of fits of LargeLoss"):
        leave_one_out(make_problem(ResidentFeatures(torch.tensor(X)), Y, LargeLoss()), [0.1])


def test_leave_one_out_refuses_what_does_not_fit(make_problem, monkeypatch, uncalibrated):
    X, Y = data()
    monkeypatch.setattr(_squared, "_MAX_ENTRIES", 10)
    with pytest.raises(ValueError, match=r"X of shape \(120, 20\) takes too much memory: use folds"):
        leave_one_out(make_problem(ResidentFeatures(torch.tensor(X)), Y, IgnoreUnknown()), [0.1])
    # A fit goes another way.
    fitted = PartialLabelClassifier(IgnoreUnknown(surrogate="squared"), alpha=0.03, solver=FullBatch(tol=1e-13)).fit(
        X, Y
    )
    check_ridges(fitted, *ridges(X, Y, IgnoreUnknown(), 0.03), rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_slopes_are_about_the_same_by_typical_rows(loss, monkeypatch):
    """Where no label has a factor its leverages are those of a typical one, scaled."""
    X, Y = data(400, 25)
    exact = PartialLabelClassifier(loss, alpha=0.01).fit(X, Y)
    by_products(monkeypatch)
    about = PartialLabelClassifier(loss, alpha=0.01, solver=FullBatch(tol=1e-10)).fit(X, Y)
    sizes = [np.linalg.norm(clf.coef_, axis=1) for clf in (exact, about)]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=0.06)
    monkeypatch.setattr(_squared, "_average_gram", lambda *args: None)
    trained = PartialLabelClassifier(loss, alpha=0.01, solver=FullBatch(tol=1e-10)).fit(X, Y)
    off = [np.abs(np.linalg.norm(clf.coef_, axis=1) / sizes[0] - 1).max() for clf in (about, trained)]
    assert off[0] < 0.5 * off[1]


# ---------------------------------------------------------------------------------------------------- recalibration


def cross_entropy(parameters, scores, s, target):
    x = parameters[0] * scores + parameters[1]
    return (s * (np.logaddexp(0, x) - target * x)).sum()


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.1, 8), st.floats(-3, 3))
def test_the_map_minimises_cross_entropy(seed, scale, offset):
    rng = np.random.default_rng(seed)
    scores = scale * rng.normal(size=80) + offset
    present = np.where(rng.logistic(size=80) < (scores - offset) / scale - 1, 0.95, 0.05)
    s = rng.uniform(0, 1, 80)
    share = (s * present).sum() / s.sum()
    up, down = 1 / (80 * share + 2), 1 / (80 * (1 - share) + 2)
    target = present * (1 - up - down) + down
    standard = (scores - offset) / scale
    best = minimize(cross_entropy, [1.0, 0.0], args=(standard, s, target), bounds=[(1e-3, None), (None, None)])
    found = log_odds_map(*(torch.tensor(each)[None] for each in (scores, s, s * present)))
    reached = cross_entropy([float(each) for each in found], scores, s, target)
    assert reached == pytest.approx(best.fun, abs=2e-3)


def test_slope_of_scores_that_are_all_right_or_all_wrong():
    """The more rows, the surer; and never negative."""
    slopes = []
    for times in (1, 10, 100):
        scores = torch.tensor([[2.0, 1.5, -1.0, -2.0]]).repeat(1, times)
        s, present = torch.ones_like(scores), (scores > 0).float()
        slopes.append(float(log_odds_map(scores, s, present)[0]))
        assert 0 < float(log_odds_map(-scores, s, present)[0]) < 0.02
    assert 0.5 < slopes[0] < slopes[1] < slopes[2] < 20


def test_labels_without_information_get_their_share():
    """Whether scores are all equal, or say nothing of the targets."""
    for scores in (torch.full((1, 100), -1.7), torch.tensor([[1.0, -1.0]]).repeat(1, 50)):
        present = torch.zeros(1, 100)
        present[0, :10] = 1
        slope, intercept = log_odds_map(scores, torch.ones(1, 100), present)
        share = torch.sigmoid(slope[:, None] * scores + intercept[:, None]).mean()
        assert float(share) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("known", [0.3, 1.0])
def test_predictions_agree_and_scores_keep_their_order(known):
    X, Y = data(known=known)
    clf = PartialLabelClassifier(IgnoreUnknown(surrogate="squared"), alpha=0.01).fit(X, Y)
    coef, intercept = ridges(X, Y, IgnoreUnknown(), 0.01)
    raw, decision = X @ coef.T + intercept, clf.decision_function(X)
    for of_label, ridge in zip(decision.T, raw.T):
        slope, _ = np.polyfit(ridge, of_label, 1)
        assert slope > 0
        assert np.corrcoef(ridge, of_label)[0, 1] == pytest.approx(1)
    np.testing.assert_array_equal(clf.predict(X), decision > 0)
    np.testing.assert_array_equal(clf.predict_proba(X) > 0.5, decision > 0)
    np.testing.assert_allclose(clf.predict_proba(X), expit(decision))


def test_rare_labels_are_told_apart():
    """Differences between labels do not drown what distinguishes the rows of a rare label."""
    rng = np.random.default_rng(0)
    n_labels = 300
    own = np.arange(3000) % n_labels
    X = rng.normal(size=(n_labels, 40))[own] + 0.5 * rng.normal(size=(3000, 40))
    Y = np.eye(n_labels, dtype=np.int8)[own]
    clf = SinglePositiveClassifier(AssumeNegative(surrogate="squared"), threshold=0.5).fit(X[:2700], Y[:2700])
    scores = clf.decision_function(X[2700:])
    rank = (scores > scores[np.arange(300), own[2700:]][:, None]).sum(1)
    # With a slope per label and no intercept, a third of them.
    assert (rank < 10).mean() > 0.9


def test_probabilities_are_calibrated():
    """On fresh rows, where those of the training scores would be too certain."""
    X, Y = data(3000, 100, known=1.0, seed=3)
    train, test = slice(0, 300), slice(300, None)
    clf = PartialLabelClassifier(IgnoreUnknown(surrogate="squared"), alpha=1e-3).fit(X[train], Y[train])

    def cross_entropy(factor):
        x = factor * clf.decision_function(X[test])
        return np.logaddexp(0, -Y[test] * x).mean()

    assert cross_entropy(1) < min(cross_entropy(0.7), cross_entropy(1.5))


# ---------------------------------------------------------------------------------------------- what must not matter


def test_integer_weights_are_repetitions():
    """Of the optimum; a row that is left out is another thing where it comes twice, so that slopes differ a little."""
    X, Y = data(300)
    counts = np.random.default_rng(0).integers(0, 3, len(X))
    loss = AssumeNegative(surrogate="squared")
    weighted = SinglePositiveClassifier(loss, alpha=0.02, threshold=0.5).fit(X, Y, sample_weight=counts)
    repeated = SinglePositiveClassifier(loss, alpha=0.02, threshold=0.5).fit(X.repeat(counts, 0), Y.repeat(counts, 0))
    slope = (weighted.coef_ * repeated.coef_).sum(1) / np.square(repeated.coef_).sum(1)
    np.testing.assert_allclose(weighted.coef_, slope[:, None] * repeated.coef_, rtol=1e-7)
    assert ((slope > 0.5) & (slope < 1)).all()
    kept = SinglePositiveClassifier(loss, alpha=0.02, threshold=0.5).fit(
        X[counts > 0], Y[counts > 0], sample_weight=counts[counts > 0]
    )
    np.testing.assert_allclose(weighted.coef_, kept.coef_, rtol=1e-8)
    np.testing.assert_allclose(weighted.predict_proba(X), kept.predict_proba(X), rtol=1e-8)


def test_weights_of_entries():
    X, Y = data()
    weights = np.random.default_rng(1).uniform(0.5, 2, Y.shape)
    clf = PartialLabelClassifier(IgnoreUnknown(surrogate="squared"), alpha=0.02).fit(X, Y, sample_weight=weights)
    for j in range(Y.shape[1]):
        w = np.where(Y[:, j] != 0, weights[:, j], 0) * Y.size / weights.sum()
        ridge = Ridge(alpha=4 * len(X) * 0.02).fit(X, 2 * Y[:, j], sample_weight=w)
        ratio = clf.coef_[j] / ridge.coef_
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_sparse_and_dense(loss, dtype):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((150, 40)) < 0.3, rng.normal(size=(150, 40)), 0).astype(dtype)
    Y = np.where(X[:, :3] + rng.normal(scale=0.3, size=(150, 3)) > 0, 1, rng.choice([-1, 0], size=(150, 3)))
    dense = PartialLabelClassifier(loss, alpha=0.01).fit(X, Y)
    for form in (sp.csr_array, sp.csc_array):
        sparse = PartialLabelClassifier(loss, alpha=0.01).fit(form(X), Y)
        np.testing.assert_allclose(sparse.coef_, dense.coef_, rtol=1e-4, atol=1e-6)
    assert dense.coef_.dtype == dtype


def test_streamed_features(make_problem):
    X, Y = data(100, 12)
    X32 = X.astype(np.float32)
    for loss in LOSSES:
        found = []
        for features in (
            ResidentFeatures(torch.tensor(X32)),
            StreamedFeatures(X32, torch.float32, torch.device("cpu"), 600),
            SparseFeatures(sp.csr_array(X32), torch.float32),
        ):
            found.append(FullBatch(tol=1e-9).solve(make_problem(features, Y, loss, alpha=0.02)).parameters)
        for other in found[1:]:
            np.testing.assert_allclose(other["weight"], found[0]["weight"], rtol=0.05, atol=1e-4)


def test_columns_far_from_zero_in_float32():
    X, Y = data(known=1.0)
    loss = AssumeNegative(surrogate="squared")
    near = PartialLabelClassifier(loss, alpha=0.02).fit(X.astype(np.float32), Y)
    far = PartialLabelClassifier(loss, alpha=0.02).fit((X + 100).astype(np.float32), Y)
    np.testing.assert_allclose(far.coef_, near.coef_, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("shape", [(120, 20), (50, 90)], ids=str)
def test_no_penalty(shape, uncalibrated):
    """The solution of least norm, where there are many."""
    X, Y = data(*shape, known=1.0)
    X = np.c_[X, X[:, :2]]
    clf = PartialLabelClassifier(IgnoreUnknown(surrogate="squared"), alpha=0.0).fit(X, Y)
    centered = X - X.mean(0)
    coef = np.linalg.lstsq(centered, 2.0 * Y, rcond=1e-10)[0].T
    check_ridges(clf, coef, 2 * Y.mean(0) - coef @ X.mean(0), rtol=1e-6)


def test_inputs_are_left_alone():
    X, Y = data()
    before = X.copy(), Y.copy()
    for loss in LOSSES:
        PartialLabelClassifier(loss, alpha=0.01).fit(X, Y)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_clone_and_pickle():
    X, Y = data()
    clf = PartialLabelClassifier(PartialBCE(surrogate="squared"), alpha=0.01)
    assert clone(clf).get_params()["loss__surrogate"] == "squared"
    fitted = clone(clf).fit(X, Y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(X), fitted.predict_proba(X))


def test_labels_with_one_sign_keep_their_prior():
    X, Y = data()
    Y[:, 1] = np.abs(Y[:, 1])
    loss = IgnoreUnknown(surrogate="squared")
    with pytest.warns(UserWarning, match="1 of 4 labels cannot be fitted"):
        clf = PartialLabelClassifier(loss, alpha=0.01).fit(X, Y)
    with pytest.warns(UserWarning, match="1 of 4 labels cannot be fitted"):
        logistic = PartialLabelClassifier(IgnoreUnknown(), alpha=0.01).fit(X, Y)
    assert not clf.coef_[1].any()
    assert clf.intercept_[1] == pytest.approx(logistic.intercept_[1])


# ------------------------------------------------------------------------------------------- searches, rounds, batches


def test_grid_search_side_by_side():
    X, Y = data(known=0.8)
    grid = {
        "loss": [AssumeNegative(), AssumeNegative(surrogate="squared"), IgnoreUnknown(surrogate="squared")],
        "alpha": [1e-3, 1e-2, 1e-1],
    }
    searches = [
        kind(PartialLabelClassifier(), grid, cv=KFold(2)).fit(X, Y) for kind in (BatchedGridSearchCV, GridSearchCV)
    ]
    one, other = (search.cv_results_["mean_test_score"] for search in searches)
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert len(np.unique(one)) > 5


def test_one_gram_matrix_serves_all_candidates(monkeypatch):
    """Of a fold, whatever their penalties and smoothings."""
    X, Y = data(known=1.0)
    made = []
    init = _squared.Gram.__init__

    def counted(self, *args):
        made.append(1)
        init(self, *args)

    monkeypatch.setattr(_squared.Gram, "__init__", counted)
    grid = {"alpha": [1e-3, 1e-2, 1e-1], "loss__label_smoothing": [0.0, 0.1]}
    clf = PartialLabelClassifier(AssumeNegative(surrogate="squared"))
    BatchedGridSearchCV(clf, grid, cv=2, refit=False).fit(X, Y)
    assert len(made) == 2


@pytest.mark.parametrize("scheme", ["reject", "correct", "correct_permanently"])
def test_rounds_of_large_loss(scheme):
    X, Y = data(200, 10, known=1.0)
    seen = keep_single_positive(Y[(Y == 1).any(1)], random_state=0)
    X = X[(Y == 1).any(1)]
    clf = SinglePositiveClassifier(LargeLoss(scheme, delta=0.02, surrogate="squared"), alpha=0.01).fit(X, seen)
    plain = SinglePositiveClassifier(AssumeNegative(surrogate="squared"), alpha=0.01, threshold=0.5).fit(X, seen)
    assert [record["epoch"] for record in clf.history_][-1] == 5
    # Fewer absences are assumed, or more presences.
    assert clf.predict_proba(X).sum() > plain.predict_proba(X).sum()


def test_minibatches_come_to_the_same_optimum():
    """In its own units: logits are not recalibrated while there may be more steps."""
    X, Y = data(d=5)
    loss = PartialBCE(surrogate="squared")
    solver = Minibatch(learning_rate=0.2, max_epochs=150, batch_size=60, schedule="cosine")
    clf = PartialLabelClassifier(loss, alpha=0.1, solver=solver, random_state=0).fit(X, Y)
    coef, intercept = ridges(X, Y, loss, 0.1)
    np.testing.assert_allclose(clf.coef_, coef, atol=0.01)
    np.testing.assert_allclose(clf.intercept_, intercept, atol=0.02)


def test_partial_fit_starts_from_the_best_intercepts():
    X, Y = data()
    loss = AssumeNegative(surrogate="squared")
    clf = PartialLabelClassifier(loss, alpha=0.0, solver=Minibatch(learning_rate=1e-9)).partial_fit(X, Y)
    np.testing.assert_allclose(clf.intercept_, 2 * np.where(Y == 1, 1, -1).mean(0), rtol=1e-4)


def test_eps_has_no_meaning():
    X, Y = data()
    with pytest.raises(ValueError, match="eps is a constant inside the logarithm of cross-entropy"):
        PartialLabelClassifier(IgnoreUnknown(eps=1e-5, surrogate="squared"), alpha=0.01).fit(X, Y)
    with pytest.raises(ValueError, match="surrogate must be 'logistic' or 'squared', got 'hinge'"):
        PartialLabelClassifier(IgnoreUnknown(surrogate="hinge"), alpha=0.01).fit(X, Y)
