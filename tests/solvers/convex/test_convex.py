"""One convex round on hard data: the returned coefficients against those of scikit-learn."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
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
from skpartial.solvers.convex import _rows

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


def fit_and_messages(X, Y, alpha):
    """A fit, and what it warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = PartialLabelClassifier("iu", alpha=alpha, solver=FullBatch(tol=1e-5)).fit(X, Y)
    assert all(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return clf, [str(warning.message) for warning in caught]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [1e-4, 1e-2])
@pytest.mark.parametrize("kind", [*KINDS, "more features than rows"])
def test_hard_data_converges(kind, alpha, dtype):
    """The true relative gap of the returned coefficients is about that of the tolerance, whatever the warnings."""
    X, Y = hard(kind)
    X = X.astype(dtype).astype(np.float64)  # the same problem for both
    clf, messages = fit_and_messages(X.astype(dtype), Y, alpha)
    gap = objectives(X, Y, clf.coef_, clf.intercept_, alpha) / optimum(X, Y, alpha) - 1
    assert gap.max() < 1e-4
    if kind in ("an id column", "an offset") and dtype == np.float32:
        # Offsets of 1e3 and 1e6 times the spread: whether rounding is seen depends on the processor where the penalty
        # is strong, and on nothing where it is weak.
        assert all("as close to their optimum as float32 allows" in message for message in messages)
        assert messages or alpha > 1e-4
    else:
        assert not messages


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
def test_rows_that_mislead(kind, seed, dtype):
    """Where the sketch is wrong about how labels are curved, the gap is known all the same."""
    X, Y = misleading(kind, seed)
    clf = PartialLabelClassifier("iu", alpha=1e-3).fit(X.astype(dtype), Y)  # a warning would be an error
    gap = objectives(X, Y, clf.coef_, clf.intercept_, 1e-3) / optimum(X, Y, 1e-3) - 1
    assert gap.max() < 5e-5
    assert clf.n_iter_ < 60


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


@pytest.mark.parametrize(
    "alpha, dtype, gap", [(1e-3, np.float64, 2e-5), (1e-6, np.float32, 2e-5), (1e-9, np.float64, 4e-5)]
)
def test_columns_of_all_sizes(alpha, dtype, gap):
    """Conjugate gradients are slow here, and a few steps of them tell little of what is left: least with no penalty."""
    rng = np.random.default_rng(1)
    sizes = np.logspace(-3, 3, 150)
    X = (rng.normal(size=(4000, 150)) * sizes).astype(np.float32).astype(np.float64)
    logits = X @ rng.normal(size=(150, 6)) / 150**0.5
    Y = np.where(logits + 0.5 * rng.logistic(size=(4000, 6)) > 0, 1, -1) * (rng.random((4000, 6)) < 0.02)
    clf = PartialLabelClassifier("iu", alpha=alpha).fit(X.astype(dtype), Y)
    assert (left_to_gain(X, Y, clf, alpha, sizes) < gap).all()


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
@pytest.mark.parametrize("d", [30, 90])
def test_rows_that_nothing_is_known_of_do_not_count(form, d):
    """Whatever their features are; the penalty is relative to the number of all rows."""
    X, Y = wide(300, d, known=0.9)
    Y[::2] = 0
    Y[:, 0] = 1  # nothing can be fitted to that
    far = np.where(np.arange(300)[:, None] % 2 == 0, 1e3 * X, X)
    fits = [
        PartialLabelClassifier("iu", alpha=alpha, solver=TIGHT).fit(form(features), labels)
        for features, labels, alpha in ((X, Y, 0.01), (far, Y, 0.01), (X[1::2], Y[1::2], 0.02))
    ]
    for other in fits[1:]:
        np.testing.assert_allclose(fits[0].coef_, other.coef_, atol=1e-5)
    assert fits[0].history_[-1]["objective"] == pytest.approx(fits[1].history_[-1]["objective"], rel=1e-9)


@pytest.mark.parametrize("loss", [PartialBCE(gamma=-1), AssumeNegative(label_smoothing=0.1)], ids=repr)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_few_features_and_many_agree(loss, form):
    """Columns of zeros change nothing but how many there are."""
    X, Y = wide(200, 30)
    weights = np.random.default_rng(1).random(Y.shape)
    more = np.hstack([X, np.zeros((200, 40))])
    clf = PartialLabelClassifier(loss, alpha=0.01, solver=TIGHT)
    few, many = (clone(clf).fit(form(features), Y, sample_weight=weights) for features in (X, more))
    np.testing.assert_allclose(few.coef_, many.coef_[:, :30], atol=1e-5)
    np.testing.assert_allclose(many.coef_[:, 30:], 0, atol=1e-12)
    np.testing.assert_allclose(few.history_[-1]["objective"], many.history_[-1]["objective"], rtol=1e-9)


def test_few_features_are_solved_to_the_limit_of_float64():
    """Whatever tol is, in float32 as well: the gradient at the coefficients vanishes."""
    X, Y = wide(200, 10, n_labels=2, known=0.8)
    clf = PartialLabelClassifier("iu", alpha=0.01, solver=FullBatch(tol=0.1)).fit(X, Y)
    logits = X @ clf.coef_.T + clf.intercept_
    residual = np.where(Y != 0, -Y / (1 + np.exp(Y * logits)), 0) / len(X)
    np.testing.assert_allclose(residual.T @ X + 0.01 * clf.coef_, 0, atol=1e-12)
    single = PartialLabelClassifier("iu", alpha=0.01, solver=FullBatch(tol=0.1)).fit(X.astype(np.float32), Y)
    np.testing.assert_allclose(single.coef_, clf.coef_, rtol=1e-5, atol=1e-6)


def test_correlated_features_take_few_products(products):
    """Columns of variances over four decades, in any basis: without a sketch it takes several times as many."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 100)) * np.geomspace(1, 1e-2, 100) @ np.linalg.qr(rng.normal(size=(100, 100))).Q
    Y = np.where(30 * X @ rng.normal(size=(100, 3)) > rng.logistic(size=(4000, 3)), 1, -1)
    PartialLabelClassifier("iu", alpha=1e-6).fit(X, Y)
    assert products["ResidentFeatures"] < 80


def test_scaled_columns_are_those_of_a_copy():
    X = torch.tensor(np.random.default_rng(0).normal(size=(50, 7)) * 3 + 20)
    center, scale = X.mean(0), 1 / X.std(0)
    columns = ScaledColumns(ResidentFeatures(X), center, scale)
    copy = torch.cat([(X - center) * scale, torch.ones(50, 1).double()], dim=1)
    theta, scores = torch.randn(3, 8).double(), torch.randn(3, 50).double()
    torch.testing.assert_close(columns.forward(theta), theta @ copy.T)
    torch.testing.assert_close(columns.backward(scores), scores @ copy)
    torch.testing.assert_close(columns.matrix(), copy)
    passed = columns.to_features(theta)
    torch.testing.assert_close(passed[:, :-1] @ X.T + passed[:, -1:], theta @ copy.T)
    torch.testing.assert_close(columns.from_features(passed), theta)


def test_long_rows_count_for_less_in_moments():
    X = torch.ones(101, 2, dtype=torch.float64)
    X[1::2] += 0.1
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


@pytest.fixture
def products(monkeypatch):
    """How often products with the features were made, by their kind."""
    counts = dict.fromkeys(("Bfloat16Columns", "ResidentFeatures"), 0)
    for name in counts:
        kind = getattr(_scaled, name)

        def forward(self, weights, name=name, product=kind.forward):
            counts[name] += 1
            return product(self, weights)

        monkeypatch.setattr(kind, "forward", forward)
    return counts


class TestBfloat16Products:
    """Products of few digits with the Hessians."""

    @pytest.fixture(autouse=True)
    def _fast_bfloat16(self, monkeypatch):
        monkeypatch.setattr(_scaled, "has_fast_bfloat16", lambda device: True)
        monkeypatch.setattr(_scaled, "_BFLOAT16_ENTRIES", 0)

    @pytest.mark.parametrize("alpha", [1e-3, 1e-2])
    def test_same_optimum_with_few_products_in_full(self, products, monkeypatch, alpha):
        X, Y = wide(700, 300, n_labels=6)
        X = X.astype(np.float32)
        clf = PartialLabelClassifier("iu", alpha=alpha).fit(X, Y)
        assert 2 * products["ResidentFeatures"] < products["Bfloat16Columns"]
        gap = objectives(X, Y, clf.coef_, clf.intercept_, alpha) / optimum(X.astype(np.float64), Y, alpha) - 1
        assert gap.max() < 1e-5
        steps = clf.n_iter_
        monkeypatch.setattr(_scaled, "has_fast_bfloat16", lambda device: False)
        full = PartialLabelClassifier("iu", alpha=alpha).fit(X, Y)
        assert steps <= 1.3 * full.n_iter_ + 2
        np.testing.assert_allclose(clf.coef_, full.coef_, atol=0.01)

    @pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
    def test_without_room_for_the_copy_products_are_made_in_float32(self, products, monkeypatch, error):
        X, Y = wide(300, 120, n_labels=3)
        X = X.astype(np.float32)
        make = torch.zeros

        def full(*shape, **options):
            if options.get("dtype") == torch.bfloat16:
                raise error("not enough memory")
            return make(*shape, **options)

        monkeypatch.setattr(torch, "zeros", full)
        with pytest.warns(UserWarning, match=r"There is not enough memory for a copy of X in bfloat16 \(0.0 GB\)"):
            clf = PartialLabelClassifier("iu", alpha=1e-2).fit(X, Y)
        assert products["Bfloat16Columns"] == 0
        gap = objectives(X, Y, clf.coef_, clf.intercept_, 1e-2) / optimum(X.astype(np.float64), Y, 1e-2) - 1
        assert gap.max() < 1e-5

    @pytest.mark.parametrize("kind", ["offset", "heavy tails", "a heavy row", "units"])
    def test_hard_data(self, products, kind):
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
        clf = PartialLabelClassifier("iu", alpha=1e-3).fit(X, Y)  # a warning would be an error
        assert products["Bfloat16Columns"] > 0
        gap = objectives(X, Y, clf.coef_, clf.intercept_, 1e-3) / optimum(X.astype(np.float64), Y, 1e-3) - 1
        assert gap.max() < 1e-4

    @pytest.mark.shared_data
    @pytest.mark.parametrize("name", ["ucmerced_resnet50", "scene", "yeast", "corel5k"])
    @pytest.mark.parametrize("known", [1.0, 0.3])
    def test_real_features(self, products, shared_data, name, known):
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
        assert products["Bfloat16Columns"] > 0
        optimal = objectives(X, Y, best.coef_, best.intercept_, alpha)
        gap = objectives(X, Y, clf.coef_, clf.intercept_, alpha) / optimal - 1
        assert gap.mean() < 1e-5
        assert gap.max() < 5e-5

    def test_float64_stays_in_full(self, products):
        X, Y = wide(200, 100)
        PartialLabelClassifier("iu", alpha=1e-2).fit(X, Y)
        assert products["Bfloat16Columns"] == 0

    def test_products_that_are_wrong_cost_steps_only(self, monkeypatch):
        """By a half: the gradients, in full, tell where the optimum is."""
        X, Y = wide(400, 150)
        X = X.astype(np.float32)
        backward = _scaled.Bfloat16Columns.backward
        monkeypatch.setattr(
            _scaled.Bfloat16Columns,
            "backward",
            lambda self, scores: backward(self, scores) * (0.5 + torch.rand(len(scores), 1)),
        )
        clf = PartialLabelClassifier("iu", alpha=1e-2).fit(X, Y)
        gap = objectives(X, Y, clf.coef_, clf.intercept_, 1e-2) / optimum(X.astype(np.float64), Y, 1e-2) - 1
        assert gap.max() < 2e-5


@pytest.mark.parametrize("dtype, alpha", [(np.float64, 1e-3), (np.float32, 1e-3), (np.float64, 0.0)])
@pytest.mark.parametrize("n, known", [(3000, 0.15), (9000, 0.05)])
def test_labels_known_in_a_small_part_of_many_rows(monkeypatch, n, known, dtype, alpha):
    """Solved by the rows of each, in groups of any size, or with all others; beside a label that all rows know."""
    X, Y = wide(n, 80, n_labels=6, known=known, seed=5)
    full = wide(n, 80, n_labels=6, known=1.0, seed=5)[1]
    Y[:, 2] = full[:, 2]
    X = (X + 3).astype(dtype)
    weights = np.random.default_rng(1).random(n) + 0.5
    solver = TIGHT if dtype == np.float64 else FullBatch()
    clf = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(X, Y, sample_weight=weights)
    monkeypatch.setattr(_rows, "_GROUP_ENTRIES", 1)
    single = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(X, Y, sample_weight=weights)
    # Sparse features are not gathered.
    together = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(sp.csr_array(X), Y, sample_weight=weights)
    atol = 1e-4 if dtype == np.float64 else 2e-2
    for one in (clf, single):
        np.testing.assert_allclose(one.coef_, together.coef_, atol=atol)
        assert one.history_[-1]["objective"] == pytest.approx(together.history_[-1]["objective"], rel=1e-5)
    if alpha:
        best = optimum(X.astype(np.float64), Y, alpha)
        plain = PartialLabelClassifier("iu", alpha=alpha, solver=solver).fit(X, Y)
        assert (objectives(X, Y, plain.coef_, plain.intercept_, alpha) / best - 1).max() < 1e-5
