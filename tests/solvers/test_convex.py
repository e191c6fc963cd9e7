"""The ways to solve a convex round: by rows, in a basis of the rows, in units of the columns. All reach one optimum."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.linear_model import LogisticRegression

from skpartial import PartialLabelClassifier
from skpartial.losses import AssumeNegative, PartialBCE
from skpartial.solvers import FullBatch, _convex, _coordinates, _row_space

TIGHT = FullBatch(tol=1e-11)


def wide(n, d, n_labels=4, known=0.5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 3, size=d) + 0.3
    logits = X @ rng.normal(size=(d, n_labels)) / d**0.5 - 0.3
    complete = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < known, complete, 0)


@pytest.fixture
def calls(monkeypatch):
    """Which methods a fit used."""
    used = []

    def record(module, name):
        original = getattr(module, name)

        def wrapped(*args, **kwargs):
            result = original(*args, **kwargs)
            used.append(name if name != "choose_coordinates" else type(result).__name__)
            return result

        monkeypatch.setattr(module, name, wrapped)

    record(_convex, "solve_by_rows")
    record(_convex, "choose_coordinates")
    return used


@pytest.mark.parametrize(
    "n, d, known, expected",
    [
        (60, 100, 0.5, ["solve_by_rows"]),
        (60, 12, 0.5, ["ColumnUnits"]),
        (60, 12, 0.12, ["solve_by_rows"]),
        (600, 800, 1.0, ["RowBasis"]),
        (600, 700, 1.0, ["ColumnUnits"]),
    ],
)
@pytest.mark.parametrize("alpha", [1e-3, 1e-1])
def test_every_way_equals_logistic_regression(calls, n, d, known, expected, alpha):
    X, Y = wide(n, d, n_labels=2, known=known)
    clf = PartialLabelClassifier("iu", alpha=alpha, solver=TIGHT).fit(X, Y)
    assert calls == expected
    for j in range(Y.shape[1]):
        rows = Y[:, j] != 0
        peer = LogisticRegression(C=1 / (alpha * n), tol=1e-9, max_iter=20_000).fit(X[rows], Y[rows, j])
        np.testing.assert_allclose(clf.coef_[j], peer.coef_[0], atol=3e-4)
        np.testing.assert_allclose(clf.intercept_[j], peer.intercept_[0], atol=3e-3)


def test_labels_of_few_and_of_many_rows_in_one_fit(calls):
    X, Y = wide(300, 40, known=0.9)
    Y[30:, [0, 2]] = 0
    together = PartialLabelClassifier("iu", alpha=0.01, solver=TIGHT).fit(X, Y)
    assert calls == ["solve_by_rows", "ColumnUnits"]
    for j in range(4):
        alone = PartialLabelClassifier("iu", alpha=0.01, solver=TIGHT).fit(X, sp.csr_array(Y[:, [j]]))
        np.testing.assert_allclose(together.coef_[j], alone.coef_[0], atol=1e-5)
        np.testing.assert_allclose(together.intercept_[j], alone.intercept_[0], atol=1e-5)


@pytest.mark.parametrize("loss", [PartialBCE(gamma=-1), AssumeNegative(label_smoothing=0.1)], ids=repr)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_by_rows_equals_by_features(monkeypatch, loss, form):
    X, Y = wide(80, 90)
    weights = np.random.default_rng(1).random(Y.shape)
    fits = []
    for limit in (512, 0):
        monkeypatch.setattr(_row_space, "_MAX_ROWS", limit)
        clf = PartialLabelClassifier(loss, alpha=0.01, solver=TIGHT)
        fits.append(clf.fit(form(X), Y, sample_weight=weights))
    np.testing.assert_allclose(fits[0].coef_, fits[1].coef_, atol=1e-5)
    np.testing.assert_allclose(fits[0].history_[-1]["objective"], fits[1].history_[-1]["objective"], rtol=1e-9)


def test_sparse_features_are_not_factored_where_products_are_cheap(calls):
    X, Y = wide(300, 400, known=0.9)
    X[np.random.default_rng(0).random(X.shape) > 0.01] = 0
    PartialLabelClassifier("iu").fit(sp.csr_array(X), Y)
    assert "solve_by_rows" not in calls


def test_batches_of_labels_do_not_matter(monkeypatch):
    X, Y = wide(60, 100)
    whole = PartialLabelClassifier("iu").fit(X, Y)
    monkeypatch.setattr(_row_space, "_BATCH_ENTRIES", 1)
    single = PartialLabelClassifier("iu", solver=TIGHT).fit(X, Y)
    assert whole.history_[-1]["objective"] == pytest.approx(single.history_[-1]["objective"], rel=1e-4)


def test_repeated_rows(calls):
    """Their Gram matrix is singular."""
    X, Y = wide(300, 900, n_labels=2, known=1.0)
    X, Y = np.vstack([X, X]), np.vstack([Y, Y])
    clf = PartialLabelClassifier("iu", alpha=0.01, solver=FullBatch(tol=1e-8)).fit(X, Y)
    assert calls == ["RowBasis"]
    once = PartialLabelClassifier("iu", alpha=0.01, solver=FullBatch(tol=1e-8)).fit(X[:300], Y[:300])
    np.testing.assert_allclose(clf.decision_function(X), once.decision_function(X), atol=1e-3)


@pytest.mark.parametrize("kind", ["ColumnUnits", "RowBasis"])
def test_coordinates_there_and_back(kind):
    from skpartial._inputs import encode_target
    from skpartial._task import make_problem

    X, Y = wide(150, 200)
    problem = make_problem(PartialLabelClassifier(device="cpu"), X, encode_target(None, Y), None, seed=0)
    if kind == "RowBasis":
        coordinates = _coordinates.RowBasis(problem, problem.features.X)
    else:
        coordinates = _coordinates.ColumnUnits(problem)
    inner = torch.randn(coordinates.features.n_features, 3, dtype=torch.float64)
    weights = coordinates.weights(inner)
    np.testing.assert_allclose(coordinates.of_weights(weights), inner, atol=1e-8)
    np.testing.assert_allclose(coordinates.features.matmul(inner), X @ weights.numpy(), atol=1e-8)
    # The penalty is that of the weights.
    np.testing.assert_allclose((coordinates.penalty * inner**2).sum(0), 1e-4 * (weights**2).sum(0), rtol=1e-8)


def test_hard_columns_reach_the_tolerance():
    """Columns of units a million times apart, unscaled, as in a table: the gap estimate must hold."""
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
