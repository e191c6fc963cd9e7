"""One convex round on hard data: the returned coefficients against those of scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.features import _scaled
from skpartial.features._matrix import ResidentFeatures
from skpartial.features._moments import moments
from skpartial.features._scaled import ScaledColumns
from skpartial.losses import AssumeNegative, PartialBCE
from skpartial.solvers import FullBatch
from skpartial.solvers.convex import _rows, _solve

TIGHT = FullBatch(tol=1e-11)


def wide(n, d, n_labels=4, known=0.5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 3, size=d) + 0.3
    logits = X @ rng.normal(size=(d, n_labels)) / d**0.5 - 0.3
    complete = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < known, complete, 0)


def objectives(X, Y, coef, intercept, alpha):
    """Objective of each label of IgnoreUnknown at these coefficients, in float64."""
    logits = X.astype(np.float64) @ coef.T.astype(np.float64) + intercept
    loss = np.where(Y != 0, np.logaddexp(0, -Y * logits), 0).mean(axis=0)
    return loss + alpha / 2 * np.square(coef.astype(np.float64)).sum(axis=1)


def optimum(X, Y, alpha):
    """Optimal objectives by scikit-learn; standardised inside, which the penalty is translated for."""
    best = []
    for labels in Y.T:
        rows = labels != 0
        newton = LogisticRegression(C=1 / (alpha * len(X)), solver="newton-cholesky", tol=1e-12, max_iter=1000)
        mean = X.mean(axis=0)
        newton.fit(X[rows] - mean, labels[rows])
        coef = newton.coef_
        best.append(objectives(X - mean, labels[:, None], coef, newton.intercept_, alpha)[0])
    return np.array(best)


def left_to_gain(X, Y, clf, alpha, sizes):
    """Relative gaps of all labels close to their optima, by a step of Newton's method in columns of one size."""
    d, logits = X.shape[1], X @ clf.coef_.T.astype(np.float64) + clf.intercept_
    inner, theta = np.c_[X / sizes, np.ones(len(X))], np.c_[clf.coef_ * sizes, clf.intercept_]
    penalty = np.r_[alpha / sizes**2 * np.ones(d), 0]
    found = []
    for labels, x, coordinates in zip(Y.T, logits.T, theta):
        wrong = np.where(labels != 0, 1 / (1 + np.exp(labels * x)), 0)
        gradient = inner.T @ (-labels * wrong) / len(X) + penalty * coordinates
        hessian = (inner.T * (wrong * (1 - wrong) / len(X))) @ inner + np.diag(penalty)
        found.append(0.5 * gradient @ np.linalg.solve(hessian, gradient))
    return np.array(found) / objectives(X, Y, clf.coef_, clf.intercept_, alpha)


@pytest.mark.parametrize(
    "n, d, known",
    [
        (60, 100, 0.5),
        (60, 12, 0.5),  # few features
        (100, 400, 0.3),  # few rows
        (600, 800, 1.0),
        (600, 70, 0.3),
    ],
)
@pytest.mark.parametrize("alpha", [1e-3, 1e-1])
def test_equals_logistic_regression(n, d, known, alpha):
    X, Y = wide(n, d, n_labels=2, known=known)
    clf = PartialLabelClassifier("iu", alpha=alpha, solver=TIGHT).fit(X, Y)
    for j in range(Y.shape[1]):
        rows = Y[:, j] != 0
        peer = LogisticRegression(C=1 / (alpha * n), tol=1e-9, max_iter=20_000).fit(X[rows], Y[rows, j])
        np.testing.assert_allclose(clf.coef_[j], peer.coef_[0], atol=3e-4)
        np.testing.assert_allclose(clf.intercept_[j], peer.intercept_[0], atol=3e-3)


def hard(kind):
    """Features more than 64 wide, so that Newton's exact steps are not taken, and labels that depend on them."""
    rng = np.random.default_rng(0)
    n, d = (300, 90) if kind != "more features than rows" else (80, 200)
    X = rng.normal(size=(n, d))
    if kind == "a heavy row":
        X[0] *= 1e5
    elif kind == "heavy tails":
        X = np.clip(rng.standard_cauchy(size=(n, d)), -1e3, 1e3)
    elif kind == "an id column":
        X[:, 0] = 1e6 + np.arange(n)
    elif kind == "an offset":
        X += 1e3
    elif kind == "repeated columns":
        X[:, 45:] = X[:, :45]
    elif kind == "units":
        X *= 10.0 ** rng.integers(-4, 5, size=d)
    Z = StandardScaler().fit_transform(X)
    logits = Z @ rng.normal(size=(d, 3)) / d**0.5
    complete = np.where(logits + rng.logistic(size=logits.shape) > 0, 1, -1)
    return X, np.where(rng.random(complete.shape) < 0.7, complete, 0)


KINDS = ["plain", "a heavy row", "heavy tails", "an id column", "an offset", "repeated columns", "units"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [1e-4, 1e-2])
@pytest.mark.parametrize("kind", [*KINDS, "more features than rows"])
def test_hard_data_converges_or_says_so(kind, alpha, dtype):
    """The true relative gap of the returned coefficients is that of the tolerance, else there is a warning."""
    X, Y = hard(kind)
    X = X.astype(dtype).astype(np.float64)  # the same problem for both
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = PartialLabelClassifier("iu", alpha=alpha, solver=FullBatch(tol=1e-5)).fit(X.astype(dtype), Y)
    gap = objectives(X, Y, clf.coef_, clf.intercept_, alpha) / optimum(X, Y, alpha) - 1
    warned = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    assert gap.max() < 1e-4 or warned
    if kind in ("plain", "repeated columns", "more features than rows") or dtype == np.float64:
        assert not warned


def misleading(kind, seed):
    """Rows of which a label, or most of the rows, say little of how its objective is curved."""
    rng = np.random.default_rng(seed)
    n, d = (1000, 90) if kind != "a heavy row" else (400, 100)
    X = rng.normal(size=(n, 12)) @ rng.normal(size=(12, d)) / 2 + rng.normal(size=(n, d))
    logits = X @ rng.normal(size=(d, 4)) / d**0.5 - 0.5
    Y = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    first = np.arange(n) < n // 2
    if kind == "a heavy row":
        X[7] *= 1e4
        return X, Y
    if kind == "spread otherwise":
        X[first, : d // 2] *= 0.02
        X[~first, d // 2 :] *= 0.02
    else:
        direction = rng.normal(size=d)
        X[first] += {"apart": 2, "far apart": 10}[kind] * direction
    # Two sources of annotations.
    Y[first, :2] = 0
    Y[~first, 2:] = 0
    return X, Y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["apart", "far apart", "spread otherwise", "a heavy row"])
def test_what_steps_have_learned_is_not_relied_on(kind, seed, dtype):
    """Where models of the curvature go wrong, the gap is known all the same."""
    X, Y = misleading(kind, seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = PartialLabelClassifier("iu", alpha=1e-3).fit(X.astype(dtype), Y)
    gap = objectives(X, Y, clf.coef_, clf.intercept_, 1e-3) / optimum(X, Y, 1e-3) - 1
    warned = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    assert gap.max() < 5e-5 or warned
    assert clf.n_iter_ < 60
    if dtype == np.float64:
        assert not warned


@pytest.mark.parametrize("noise, alpha", [(1e-4, 1e-8), (1e-3, 1e-6)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_differences_of_columns_that_are_nearly_alike(noise, alpha, dtype):
    """What can be gained by them is in directions of next to no curvature, which steps along the others do not meet."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 80))[:, np.arange(240) % 80] + noise * rng.normal(size=(1000, 240))
    X = X.astype(np.float32).astype(np.float64)
    Y = np.where(X @ rng.normal(size=(240, 2)) / 10 + rng.logistic(size=(1000, 2)) > [0, 2], 1, -1)
    clf = PartialLabelClassifier("iu", alpha=alpha).fit(X.astype(dtype), Y)
    gap = objectives(X, Y, clf.coef_, clf.intercept_, alpha) / optimum(X, Y, alpha) - 1
    assert gap.max() < 5e-5  # the gap is estimated


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [1e-4, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("n, d", [(40, 200), (12, 100)])
def test_labels_that_are_all_but_certain(n, d, alpha, dtype):
    """Separable, with a penalty so small that probabilities round to 1; the objective is of the size of the penalty."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)).astype(np.float32).astype(np.float64)
    Y = np.where(X @ rng.normal(size=(d, 3)) > 0, 1, -1)
    clf = PartialLabelClassifier("iu", alpha=alpha).fit(X.astype(dtype), Y)
    found, best = objectives(X, Y, clf.coef_, clf.intercept_, alpha), optimum(X, Y, alpha)
    assert (found / best - 1).max() < 2e-5
    assert clf.n_iter_ < 40
    assert clf.history_[-1]["objective"] == pytest.approx(found.mean(), rel=1e-4)


@pytest.mark.parametrize("known", ["all rows", "few rows", "a small part of the rows"])
def test_float32_that_cannot_hold_the_answer_is_told(known):
    """Offsets of 1e6 times the spread: no float32 intercept is exact enough."""
    if known == "all rows":
        X, Y = hard("plain")
    elif known == "few rows":
        X, Y = wide(400, 500, known=0.1)
    else:
        X, Y = wide(2000, 70, known=0.05)
    far = (X + 1e6).astype(np.float32)
    with pytest.warns(ConvergenceWarning, match="as close to their optimum as float32 allows"):
        PartialLabelClassifier("iu", alpha=1e-4).fit(far, Y)


def test_float64_that_cannot_hold_the_answer_is_told():
    """And is not advised."""
    X, Y = hard("plain")
    with pytest.warns(ConvergenceWarning, match="as float64 allows") as caught:
        PartialLabelClassifier("iu", alpha=1e-4).fit(X + 1e14, Y)
    assert "in float64" not in str(caught[0].message)


def test_steps_run_out():
    X, Y = wide(300, 90, known=0.9)
    with pytest.warns(ConvergenceWarning, match="did not converge in max_iter=3 steps"):
        clf = PartialLabelClassifier("iu", alpha=1e-4, solver=FullBatch(max_iter=3)).fit(X, Y)
    assert clf.n_iter_ == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", ["iu", PartialBCE(gamma=-1)], ids=repr)
def test_labels_of_few_rows_in_their_own_basis(monkeypatch, dtype, loss):
    """Together with labels of many rows, in groups of any size, cold and warm, with rows that repeat each other."""
    X, Y = wide(400, 500, known=0.9)
    X += 20
    X[60:80] = X[:20]
    Y[80:, [0, 2]] = 0
    X = X.astype(dtype)
    weights = np.random.default_rng(1).random(Y.shape)
    clf = PartialLabelClassifier(loss, alpha=0.01, warm_start=True).fit(X, Y, sample_weight=weights)
    # Labels that wait for the others are reported from where they start.
    assert (np.diff([record["objective"] for record in clf.history_]) <= 1e-6).all()
    monkeypatch.setattr(_rows, "_GROUP_ENTRIES", 1)
    single = PartialLabelClassifier(loss, alpha=0.01).fit(X, Y, sample_weight=weights)
    monkeypatch.setattr(_rows, "_PRODUCTS", 0)
    plain = PartialLabelClassifier(loss, alpha=0.01, precision="float64", solver=TIGHT)
    plain.fit(X, Y, sample_weight=weights)
    monkeypatch.undo()
    scale = np.abs(plain.coef_).max()
    for fitted in (clf, single):
        np.testing.assert_allclose(fitted.coef_[[0, 2]], plain.coef_[[0, 2]], atol=5e-3 * scale)
    steps = clf.n_iter_
    assert clf.fit(X, Y, sample_weight=weights).n_iter_ < steps


@pytest.mark.parametrize("size, dtype", [(1e3, np.float32), (1e4, np.float32), (1e6, np.float64), (1e8, np.float64)])
def test_a_column_that_takes_the_digits_of_products_of_rows(size, dtype):
    """Labels of few rows are then solved by the columns, and end as close to their optimum as others."""
    X, Y = wide(400, 300, known=0.1)
    X = X.astype(np.float32).astype(np.float64)
    X[:, 7] = np.float32(size) * np.random.default_rng(1).normal(size=400).astype(np.float32)
    clf = PartialLabelClassifier("iu", alpha=1e-3).fit(X.astype(dtype), Y)  # a warning would be an error
    sizes = np.where(np.arange(300) == 7, size, 1)
    assert (left_to_gain(X, Y, clf, 1e-3, sizes) < 5e-5).all()


@pytest.mark.parametrize("alpha, dtype", [(1e-3, np.float64), (1e-6, np.float32), (1e-9, np.float64)])
def test_columns_of_all_sizes(alpha, dtype):
    """Where conjugate gradients are slow the rule's own model, which is asked as well, tells more of what is left."""
    rng = np.random.default_rng(1)
    sizes = np.logspace(-3, 3, 150)
    X = (rng.normal(size=(4000, 150)) * sizes).astype(np.float32).astype(np.float64)
    logits = X @ rng.normal(size=(150, 6)) / 150**0.5
    Y = np.where(logits + 0.5 * rng.logistic(size=(4000, 6)) > 0, 1, -1) * (rng.random((4000, 6)) < 0.02)
    clf = PartialLabelClassifier("iu", alpha=alpha).fit(X.astype(dtype), Y)
    assert (left_to_gain(X, Y, clf, alpha, sizes) < 2e-5).all()


@pytest.mark.parametrize("n, d", [(40, 200), (30, 512), (200, 10)])
def test_labels_that_have_arrived_wait_for_the_others(n, d):
    """At the end of their digits, where slopes are rounding and have any sign."""
    X, Y = wide(n, d, n_labels=12, known=1.0)
    X = X.astype(np.float32)
    Y[:5], Y[5:10] = 1, -1
    clf = PartialLabelClassifier("iu", alpha=1e-5, warm_start=True).fit(X, Y)
    for _ in range(3):
        Y[10:, 0] *= -1
        clf.fit(X, Y)
    found = objectives(X, Y, clf.coef_, clf.intercept_, 1e-5)
    np.testing.assert_allclose(found, optimum(X.astype(np.float64), Y, 1e-5), rtol=2e-5)


def test_labels_do_not_depend_on_each_other():
    X, Y = wide(300, 90, known=0.9)
    Y[30:, [0, 2]] = 0
    together = PartialLabelClassifier("iu", alpha=0.01, solver=TIGHT).fit(X, Y)
    for j in range(4):
        alone = PartialLabelClassifier("iu", alpha=0.01, solver=TIGHT).fit(X, sp.csr_array(Y[:, [j]]))
        np.testing.assert_allclose(together.coef_[j], alone.coef_[0], atol=1e-5)
        np.testing.assert_allclose(together.intercept_[j], alone.intercept_[0], atol=1e-5)


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_rows_that_nothing_is_known_of_are_left_out(monkeypatch, form):
    X, Y = wide(300, 90, known=0.9)
    Y[::2] = 0
    Y[:, 0] = 1  # nothing can be fitted to that
    shapes = []

    def recorded(features, *args, **kwargs):
        shapes.append(features.n_rows)
        return moments(features, *args, **kwargs)

    monkeypatch.setattr(_groundwork, "moments", recorded)
    fits = []
    for limit in (0.9, 0.0):
        monkeypatch.setattr(_convex, "_ROWS_WORTH_TAKING", limit)
        fits.append(PartialLabelClassifier("iu", alpha=0.01, solver=TIGHT).fit(form(X), Y))
    assert shapes == [150, 300]
    np.testing.assert_allclose(fits[0].coef_, fits[1].coef_, atol=1e-5)
    assert fits[0].history_[-1]["objective"] == pytest.approx(fits[1].history_[-1]["objective"], rel=1e-9)


@pytest.mark.parametrize("loss", [PartialBCE(gamma=-1), AssumeNegative(label_smoothing=0.1)], ids=repr)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_exact_steps_and_quasi_newton_agree(monkeypatch, loss, form):
    X, Y = wide(200, 30)
    weights = np.random.default_rng(1).random(Y.shape)
    fits = []
    for limit in (64, 0):
        monkeypatch.setattr(_convex, "_EXACT_FEATURES", limit)
        clf = PartialLabelClassifier(loss, alpha=0.01, solver=TIGHT)
        fits.append(clf.fit(form(X), Y, sample_weight=weights))
    assert fits[0].n_iter_ < fits[1].n_iter_
    np.testing.assert_allclose(fits[0].coef_, fits[1].coef_, atol=1e-5)
    np.testing.assert_allclose(fits[0].history_[-1]["objective"], fits[1].history_[-1]["objective"], rtol=1e-9)


def test_few_features_are_solved_to_the_limit_of_float64():
    """Whatever tol is, in float32 as well: the gradient at the coefficients vanishes."""
    X, Y = wide(200, 10, n_labels=2, known=0.8)
    clf = PartialLabelClassifier("iu", alpha=0.01, solver=FullBatch(tol=0.1)).fit(X, Y)
    logits = X @ clf.coef_.T + clf.intercept_
    residual = np.where(Y != 0, -Y / (1 + np.exp(Y * logits)), 0) / len(X)
    np.testing.assert_allclose(residual.T @ X + 0.01 * clf.coef_, 0, atol=1e-12)
    single = PartialLabelClassifier("iu", alpha=0.01, solver=FullBatch(tol=0.1)).fit(X.astype(np.float32), Y)
    np.testing.assert_allclose(single.coef_, clf.coef_, rtol=1e-5, atol=1e-6)


def test_the_sketch_saves_steps(monkeypatch):
    """Correlated features: without the sketch, L-BFGS takes several times as many steps."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 100)) * np.geomspace(1, 1e-2, 100) @ rng.normal(size=(100, 100))
    Y = np.where(X @ rng.normal(size=(100, 3)) > rng.logistic(size=(400, 3)), 1, -1)
    steps = []
    for rank in (64, 1):
        monkeypatch.setattr(_convex, "_RANKS", (rank, rank))
        steps.append(PartialLabelClassifier("iu", alpha=1e-3).fit(X, Y).n_iter_)
    assert 2 * steps[0] < steps[1]


def test_standardised_features_are_those_of_a_copy():
    X = torch.tensor(np.random.default_rng(0).normal(size=(50, 7)) * 3 + 20)
    center, unit = X.mean(0), 1 / X.std(0)
    features = ScaledColumns(ResidentFeatures(X), center, unit)
    copy = (X - center) * unit
    weights, scores = torch.randn(3, 7).double(), torch.randn(3, 50).double()
    torch.testing.assert_close(features.forward(weights), weights @ copy.T)
    torch.testing.assert_close(features.backward(scores), scores @ copy)
    torch.testing.assert_close(torch.cat([block for _, block in features.blocks()]), copy)
    torch.testing.assert_close(features.batch(torch.tensor([3, 1])), copy[[3, 1]])


def test_long_rows_count_for_less_in_moments():
    X = torch.ones(101, 2, dtype=torch.float64)
    X[0] *= 1e6
    found = moments(ResidentFeatures(X), None)
    assert float((found.mean.square() + found.variance).max()) < 1.2
    assert float(found.row_weight.sum()) == pytest.approx(1)


def test_hard_columns_reach_the_tolerance():
    """Columns of units a million times apart, unscaled, as in a table."""
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(400, 8))
    Y = np.where(Z @ rng.normal(size=(8, 3)) / 2 + rng.logistic(size=(400, 3)) > 0, 1, -1)
    X = np.column_stack(
        [np.exp(11 + Z[:, 0]), 2000 + np.round(10 * Z[:, 1]), 45 + 15 * Z[:, 2], Z[:, 3:], Z[:, 4] * 1e-3]
    )
    for alpha in (0.0, 1e-6, 1e-4):
        best = PartialLabelClassifier("iu", alpha=alpha, solver=FullBatch(tol=1e-11, max_iter=300)).fit(X, Y)
        clf = PartialLabelClassifier("iu", alpha=alpha).fit(X, Y)
        assert clf.history_[-1]["objective"] <= best.history_[-1]["objective"] * (1 + 1e-4)


class TestNarrowProducts:
    """Products of few digits, between products in full."""

    @pytest.fixture
    def narrow(self, monkeypatch):
        """As on a processor with fast products in bfloat16; returns how often narrow and full products were made."""
        monkeypatch.setattr(_scaled, "has_fast_bfloat16", lambda device: True)
        monkeypatch.setattr(_scaled, "_NARROW_ENTRIES", 0)
        counts = {"NarrowFeatures": 0, "ResidentFeatures": 0}
        for name in counts:
            kind = getattr(_scaled, name)

            def forward(self, weights, name=name, products=kind.forward, **out):
                counts[name] += 1
                return products(self, weights, **out)

            monkeypatch.setattr(kind, "forward", forward)
        return counts

    @pytest.mark.parametrize("alpha", [1e-3, 1e-2])
    def test_same_optimum_with_few_products_in_full(self, narrow, monkeypatch, alpha):
        X, Y = wide(700, 300, n_labels=6)
        X = X.astype(np.float32)
        clf = PartialLabelClassifier("iu", alpha=alpha).fit(X, Y)
        assert 2 * narrow["ResidentFeatures"] < narrow["NarrowFeatures"]
        gap = objectives(X, Y, clf.coef_, clf.intercept_, alpha) / optimum(X.astype(np.float64), Y, alpha) - 1
        assert gap.max() < 1e-5
        steps = clf.n_iter_
        monkeypatch.setattr(_scaled, "has_fast_bfloat16", lambda device: False)
        full = PartialLabelClassifier("iu", alpha=alpha).fit(X, Y)
        assert steps <= 1.3 * full.n_iter_ + 2
        np.testing.assert_allclose(clf.coef_, full.coef_, atol=0.01)

    @pytest.mark.parametrize("kind", ["offset", "heavy tails", "a heavy row", "units"])
    def test_hard_data(self, narrow, kind):
        X, Y = wide(500, 120, n_labels=3, seed=3)
        rng = np.random.default_rng(1)
        if kind == "offset":
            X += 100 * rng.normal(size=120)
        elif kind == "heavy tails":
            X *= np.exp(rng.normal(size=(500, 1)) * 1.5)
        elif kind == "a heavy row":
            X[7] *= 1e4
        else:
            X *= np.geomspace(1e-2, 1e2, 120)
        X = X.astype(np.float32)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clf = PartialLabelClassifier("iu", alpha=1e-3).fit(X, Y)
        assert narrow["NarrowFeatures"] > 0
        gap = objectives(X, Y, clf.coef_, clf.intercept_, 1e-3) / optimum(X.astype(np.float64), Y, 1e-3) - 1
        assert gap.max() < 1e-4 or any(issubclass(warning.category, ConvergenceWarning) for warning in caught)

    @pytest.mark.shared_data
    @pytest.mark.parametrize("name", ["ucmerced_resnet50", "scene", "yeast", "corel5k"])
    @pytest.mark.parametrize("known", [1.0, 0.3])
    def test_real_features(self, narrow, shared_data, name, known):
        """Objectives against float64, dense throughout."""
        with np.load(shared_data / "features" / f"{name}.npz") as file:
            packed = "n_labels" in file
            Y = np.unpackbits(file["Y"], axis=1)[:, : int(file["n_labels"])] if packed else file["Y"]
            if "X" in file:
                X = file["X"].astype(np.float32)
            else:
                parts = tuple(file[f"X_{part}"] for part in ("data", "indices", "indptr"))
                X = sp.csr_array(parts, shape=file["X_shape"]).toarray().astype(np.float32)
        frequent = np.argsort(-Y.sum(axis=0), kind="stable")[:20]
        Y = np.where(Y[:, frequent] > 0, 1, -1)
        Y = np.where(np.random.default_rng(0).random(Y.shape) < known, Y, 0)
        alpha = 1e-3
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clf = PartialLabelClassifier("iu", alpha=alpha).fit(X, Y)
            best = PartialLabelClassifier("iu", alpha=alpha, precision="float64", solver=TIGHT).fit(X, Y)
        assert narrow["NarrowFeatures"] > 0
        optimal = objectives(X, Y, best.coef_, best.intercept_, alpha)
        gap = objectives(X, Y, clf.coef_, clf.intercept_, alpha) / optimal - 1
        assert gap.mean() < 1e-5
        assert gap.max() < 5e-5

    def test_float64_stays_in_full(self, narrow):
        X, Y = wide(200, 100)
        PartialLabelClassifier("iu", alpha=1e-2).fit(X, Y)
        assert narrow["NarrowFeatures"] == 0

    def test_what_strays_is_given_up(self, narrow, monkeypatch):
        """Products that are wrong by a half do not lead astray."""
        X, Y = wide(400, 150)
        X = X.astype(np.float32)
        backward, calls = _scaled.NarrowFeatures.backward, []

        def wrong(self, scores):
            calls.append(1)
            return backward(self, scores) * (0.5 + torch.rand(len(scores), 1))

        monkeypatch.setattr(_scaled.NarrowFeatures, "backward", wrong)
        clf = PartialLabelClassifier("iu", alpha=1e-2).fit(X, Y)
        gap = objectives(X, Y, clf.coef_, clf.intercept_, 1e-2) / optimum(X.astype(np.float64), Y, 1e-2) - 1
        # The gap is estimated: by full products alone it comes to 0.9e-5 here.
        assert gap.max() < 2e-5
        assert len(calls) < clf.n_iter_


@pytest.mark.parametrize("dtype, alpha", [(np.float64, 1e-3), (np.float32, 1e-3), (np.float64, 0.0)])
def test_labels_known_in_a_small_part_of_many_rows(monkeypatch, dtype, alpha):
    """By products with the rows of each, in groups, beside labels that all rows speak of."""
    X, Y = wide(3000, 80, n_labels=6, known=0.15, seed=5)
    full = wide(3000, 80, n_labels=6, known=1.0, seed=5)[1]
    Y[:, 2] = full[:, 2]
    X = (X + 3).astype(dtype)
    weights = np.random.default_rng(1).random(3000) + 0.5
    shapes = []

    class Recorded(_few_rows.KnownRows):
        def __init__(self, standard, rows, room):
            shapes.append(tuple(rows.shape))
            super().__init__(standard, rows, room)

    monkeypatch.setattr(_convex, "KnownRows", Recorded)
    solver = TIGHT if dtype == np.float64 else FullBatch()
    clf = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(X, Y, sample_weight=weights)
    assert sum(k for k, _ in shapes) == 5
    assert max(m for _, m in shapes) < 0.2 * 3000
    monkeypatch.setattr(_few_rows, "_group_entries", lambda features: 1)
    single = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(X, Y, sample_weight=weights)
    assert len(shapes) > 5
    monkeypatch.setattr(_few_rows, "_PASS", 1e-9)
    monkeypatch.setattr(_few_rows, "_product_cost", lambda *_, **__: 1e-9)
    count = len(shapes)
    together = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(X, Y, sample_weight=weights)
    assert len(shapes) == count
    atol = 1e-4 if dtype == np.float64 else 2e-2
    for one in (clf, single):
        np.testing.assert_allclose(one.coef_, together.coef_, atol=atol)
        assert one.history_[-1]["objective"] == pytest.approx(together.history_[-1]["objective"], rel=1e-5)
    if alpha:
        best = optimum(X.astype(np.float64), Y, alpha)
        plain = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(X, Y)
        assert (objectives(X, Y, plain.coef_, plain.intercept_, alpha) / best - 1).max() < 1e-5
