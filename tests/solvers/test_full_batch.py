"""The full-batch solver against independent optimisers, on every storage of features, and what it refuses."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
import torch
from scipy.special import expit
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.features._choice import as_features
from skpartial.features._matrix import ResidentFeatures, SparseFeatures, StreamedFeatures
from skpartial.features._moments import moments
from skpartial.heads import Ensemble, Head
from skpartial.losses import AssumeNegative, IgnoreUnknown, LargeLoss, PartialBCE, PseudoNegative, WeakAssumeNegative
from skpartial.regularizers import Regularizer
from skpartial.solvers import FullBatch, Minibatch

TIGHT = FullBatch(tol=1e-12)


def optimum(loss, X, Y, alpha, weights=None):
    """The whole objective, minimised by a general optimiser that knows nothing of the solver."""
    d = X.shape[1]
    n_labels = Y.shape[1]
    features, labels = torch.tensor(X), torch.tensor(Y)
    entry_weights = None if weights is None else torch.tensor(weights)

    def objective(flat):
        theta = torch.tensor(flat.reshape(n_labels, d + 1), requires_grad=True)
        value = loss(features @ theta[:, :-1].T + theta[:, -1], labels, weights=entry_weights)
        value = value + alpha / (2 * n_labels) * theta[:, :-1].square().sum()
        value.backward()
        return value.item(), theta.grad.numpy().ravel()

    found = scipy.optimize.minimize(
        objective, np.zeros(n_labels * (d + 1)), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 5000}
    )
    theta = found.x.reshape(n_labels, d + 1)
    return theta[:, :-1], theta[:, -1], found.fun


@pytest.mark.parametrize(
    "loss",
    [
        IgnoreUnknown(),
        PartialBCE(gamma=-1),
        AssumeNegative(label_smoothing=(0.02, 0.1)),
        WeakAssumeNegative(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("weighted", [None, "rows", "entries"])
def test_reaches_the_optimum_of_the_documented_objective(partial_data, loss, weighted):
    X, Y = partial_data
    rng = np.random.default_rng(1)
    weights = {None: None, "rows": rng.random(len(X)), "entries": rng.random(Y.shape)}[weighted]
    coef, intercept, value = optimum(loss, X, Y, 0.01, weights)
    clf = PartialLabelClassifier(loss, alpha=0.01, solver=TIGHT).fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(clf.coef_, coef, atol=1e-5)
    np.testing.assert_allclose(clf.intercept_, intercept, atol=1e-5)
    # The objective in the history is the mean over labels of n-scaled objectives: the documented one.
    assert clf.history_[-1]["objective"] == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("alpha", [1e-3, 0.1])
def test_equals_logistic_regression_on_known_rows(partial_data, alpha):
    X, Y = partial_data
    clf = PartialLabelClassifier("iu", alpha=alpha, solver=TIGHT).fit(X, Y)
    for j in range(Y.shape[1]):
        known = Y[:, j] != 0
        peer = LogisticRegression(C=1 / (alpha * len(X)), tol=1e-10, max_iter=10_000).fit(X[known], Y[known, j])
        np.testing.assert_allclose(clf.coef_[j], peer.coef_[0], atol=2e-5)
        np.testing.assert_allclose(clf.intercept_[j], peer.intercept_[0], atol=2e-5)


def test_alpha_means_what_it_means_in_sgd_classifier(partial_data):
    """One label: mean loss + alpha / 2 ||w||^2."""
    X, Y = partial_data
    y = np.where(Y[:, 0] == 1, 1, -1)
    clf = PartialLabelClassifier("iu", alpha=0.05, solver=TIGHT).fit(X, y)
    w, b = clf.coef_[0], clf.intercept_[0]
    residual = -y / (1 + np.exp(y * (X @ w + b)))
    np.testing.assert_allclose(X.T @ residual / len(X) + 0.05 * w, 0, atol=1e-8)
    assert residual.mean() == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8])
def test_tolerance_bounds_the_true_gap(partial_data, tol):
    X, Y = partial_data
    best = PartialLabelClassifier("an", alpha=1e-4, solver=TIGHT).fit(X, Y).history_[-1]["objective"]
    clf = PartialLabelClassifier("an", alpha=1e-4, solver=FullBatch(tol=tol)).fit(X, Y)
    assert clf.history_[-1]["objective"] - best <= tol * best
    assert clf.n_iter_ == len(clf.history_)


def test_objective_never_rises(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier("an", alpha=1e-6, solver=TIGHT).fit(10 * X, Y)
    objectives = [record["objective"] for record in clf.history_]
    assert len(objectives) > 3
    assert (np.diff(objectives) <= 1e-14).all()


def storages(X):
    return {
        "resident": ResidentFeatures(torch.tensor(X)),
        "streamed": StreamedFeatures(X, torch.float64, torch.device("cpu"), chunk_bytes=700),
        "sparse": SparseFeatures(sp.csr_array(X), torch.float64),
    }


def test_storages_give_the_same_products(partial_data):
    X = np.where(np.abs(partial_data[0]) > 0.5, partial_data[0], 0)
    right, left = torch.randn(3, 6, dtype=torch.float64), torch.randn(3, 120, dtype=torch.float64)
    rows = torch.tensor([5, 0, 119])
    for name, features in storages(X).items():
        np.testing.assert_allclose(features.forward(right), right.numpy() @ X.T, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(features.backward(left), left.numpy() @ X, atol=1e-12, err_msg=name)
        batch = features.batch(rows)
        np.testing.assert_array_equal(batch.to_dense() if batch.is_sparse else batch, X[rows.numpy()], err_msg=name)
        blocks = [(part, block.to_dense() if block.is_sparse else block) for part, block in features.blocks()]
        np.testing.assert_array_equal(torch.cat([block for _, block in blocks]), X, err_msg=name)
        weights = np.linspace(0, 1, 120)
        found = moments(features, torch.tensor(weights))
        mean = weights @ X / weights.sum()
        np.testing.assert_allclose(found.variance, weights @ (X - mean) ** 2 / weights.sum(), err_msg=name)
        np.testing.assert_allclose(found.mean, mean, atol=1e-12, err_msg=name)
    assert len(list(storages(X)["streamed"].chunks())) > 5


def test_resident_features_are_a_view(partial_data):
    X = partial_data[0]
    features = as_features(X, dtype=torch.float64, device=torch.device("cpu"))
    assert isinstance(features, ResidentFeatures)
    assert features.X.data_ptr() == X.ctypes.data
    streamed = as_features(X, dtype=torch.float64, device=torch.device("cpu"), max_resident_bytes=100)
    assert isinstance(streamed, StreamedFeatures)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=3)], ids=["full", "mini"])
def test_storage_does_not_change_the_fit(partial_data, solver):
    X, Y = partial_data
    fitted = [
        PartialLabelClassifier(solver=solver.set_params(max_resident_bytes=budget), random_state=0).fit(features, Y)
        for features, budget in ((X, None), (X, 100), (sp.csr_array(X), None), (sp.coo_matrix(X), None))
    ]
    for clf in fitted[1:]:
        np.testing.assert_allclose(clf.coef_, fitted[0].coef_, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(clf.decision_function(X), fitted[0].decision_function(X), rtol=1e-6, atol=1e-8)


def test_float32_and_float64_agree(partial_data):
    X, Y = partial_data
    double = PartialLabelClassifier(alpha=1e-3).fit(X, Y)
    single = PartialLabelClassifier(alpha=1e-3).fit(X.astype(np.float32), Y)
    assert (double.coef_.dtype, single.coef_.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(single.coef_, double.coef_, rtol=2e-3, atol=1e-4)
    assert PartialLabelClassifier(precision="float64").fit(X.astype(np.float32), Y).coef_.dtype == np.float64


def test_badly_scaled_features_still_converge(partial_data):
    X, Y = partial_data
    scales = np.array([1e-3, 1, 1e3, 1, 1e-2, 50])
    clf = PartialLabelClassifier("an", alpha=0.0, solver=FullBatch(tol=1e-10)).fit(X * scales + 5, Y)
    plain = PartialLabelClassifier("an", alpha=0.0, solver=FullBatch(tol=1e-10)).fit(X, Y)
    np.testing.assert_allclose(clf.decision_function(X * scales + 5), plain.decision_function(X), atol=1e-3)


def test_warm_start_goes_on_from_the_last_fit(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(warm_start=True, solver=FullBatch(tol=1e-8)).fit(X, Y)
    cold, coef = clf.n_iter_, clf.coef_
    clf.fit(X, Y)
    assert clf.n_iter_ < cold
    # Within a relative gap of 1e-8, coefficients agree to its square root.
    np.testing.assert_allclose(clf.coef_, coef, atol=1e-4)
    with pytest.raises(ValueError, match="warm_start=True continues a fit with 6 features and 5 labels"):
        clf.fit(X, Y[:, :3])


def test_tells_when_it_did_not_converge(partial_data):
    X, Y = partial_data
    with pytest.warns(ConvergenceWarning, match=r"5 of 5 labels did not converge in max_iter=1 steps"):
        PartialLabelClassifier(solver=FullBatch(tol=1e-12, max_iter=1)).fit(X, Y)


class Wide(Head):
    def build(self, context):
        return torch.nn.Sequential(
            torch.nn.Linear(context.n_features, 8), torch.nn.ReLU(), torch.nn.Linear(8, context.n_labels)
        )


class Spread(Regularizer):
    def __call__(self, batch):
        return 0.01 * batch.logits.square().mean()


@pytest.mark.parametrize(
    "parameters, reason",
    [
        ({"loss": PseudoNegative()}, "neither convex"),
        ({"loss": IgnoreUnknown(eps=1e-5)}, "neither convex"),
        ({"head": Wide()}, "is not linear"),
        ({"regularizer": Spread()}, "computed from minibatches"),
    ],
)
def test_refuses_what_needs_minibatches(partial_data, parameters, reason):
    X, Y = partial_data
    with pytest.raises(ValueError, match=reason + r".*Use solver=Minibatch\(\)"):
        PartialLabelClassifier(solver=FullBatch(), **parameters).fit(X, Y)
    # "auto" finds the one that serves.
    clf = PartialLabelClassifier(random_state=0, **parameters).fit(X, Y)
    assert "iteration" not in clf.history_[0]


@pytest.mark.parametrize(
    "parameters",
    [
        {"tol": -1},
        {"tol": float("inf")},
        {"tol": "small"},
        {"max_iter": 0},
        {"max_iter": 2.5},
        {"rounds": 0},
        {"max_resident_bytes": -1},
    ],
)
def test_refuses_parameters_out_of_range(partial_data, parameters):
    X, Y = partial_data
    name, value = next(iter(parameters.items()))
    with pytest.raises(ValueError, match=f"FullBatch: {name} must be a (whole )?number of at least .* got {value!r}"):
        PartialLabelClassifier(solver=FullBatch(**parameters)).fit(X, Y)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch()], ids=["full", "mini"])
def test_values_whose_squares_overflow_are_refused(partial_data, solver):
    X, Y = partial_data
    with pytest.raises(ValueError, match="overflows float64: scale the features"):
        SinglePositiveClassifier(solver=solver).fit(np.where(X > 0, 1e200, -1e200), Y)


@pytest.mark.parametrize("unit", [1e-20, 1e-6, 1e6, 1e20])
def test_units_of_the_features_do_not_matter(partial_data, unit):
    X, Y = partial_data
    plain = PartialLabelClassifier("an", alpha=1e-6, solver=FullBatch(tol=1e-10)).fit(X, Y)
    scaled = PartialLabelClassifier("an", alpha=1e-6 * unit**2, solver=FullBatch(tol=1e-10)).fit(unit * X, Y)
    np.testing.assert_allclose(scaled.decision_function(unit * X), plain.decision_function(X), rtol=1e-6, atol=1e-8)


def test_auto_goes_by_size(partial_data, monkeypatch):
    X, Y = partial_data
    assert "iteration" in PartialLabelClassifier(random_state=0).fit(X, Y).history_[0]
    monkeypatch.setattr("skpartial._task.WORKING_BYTES", 6 * Y.size * 8 - 1)
    assert "iteration" not in PartialLabelClassifier(random_state=0).fit(X, Y).history_[0]
    assert "iteration" in PartialLabelClassifier(random_state=0).fit(X.astype(np.float32), Y).history_[0]
    # Whoever asks for a solver gets it.
    assert "iteration" in PartialLabelClassifier(solver=FullBatch(), random_state=0).fit(X, Y).history_[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ratio", [1e-8, 1e-10])
def test_signs_whose_weights_differ_beyond_the_digits_of_a_sum(partial_data, ratio, dtype):
    """A label whose absences weigh next to nothing still holds both signs."""
    X, _ = partial_data
    y = np.where(X[:, :1] + np.sin(9 * X[:, 1:2]) > 0, 1, -1)
    weight = np.where(y == 1, 1.0, ratio)
    labels = sp.csr_array(y)  # an array of one column would be two classes
    clf = PartialLabelClassifier("iu", alpha=1e-9, solver=FullBatch(tol=1e-5)).fit(X.astype(dtype), labels, weight)
    share = weight[:, 0] / weight.mean()
    reference = LogisticRegression(C=1e9 / len(X), tol=1e-14, max_iter=1000, solver="newton-cholesky")
    reference.fit(X, y[:, 0], sample_weight=share)

    def objective(coef, intercept):
        return (share * np.logaddexp(0, -y[:, 0] * (X @ coef + intercept))).mean() + 0.5e-9 * coef @ coef

    found = objective(clf.coef_[0].astype(float), float(clf.intercept_[0]))
    assert found <= objective(reference.coef_[0], reference.intercept_[0]) * (1 + 1e-5)
    assert np.abs(clf.coef_).max() > 1e-2
    by_steps = PartialLabelClassifier("iu", solver=Minibatch(max_epochs=3), random_state=0).fit(
        X.astype(dtype), labels, weight
    )
    assert np.abs(by_steps.coef_).max() > 0
    assert by_steps.intercept_[0] == pytest.approx(np.log((y == 1).sum() / (ratio * (y == -1).sum())), abs=0.5)


def _in_blocks(clf, X, Y, labels, monkeypatch):
    """Fit with room for so many labels at once."""
    n_members = clf.head.n_members if isinstance(clf.head, Ensemble) else 1
    monkeypatch.setattr("skpartial.solvers._full_batch.WORKING_BYTES", labels * 6 * X.nbytes // X.shape[1] * n_members)
    return clf.fit(X, Y)


@pytest.mark.parametrize("head", ["linear", Ensemble(n_members=2)], ids=["linear", "ensemble"])
@pytest.mark.parametrize("surrogate", ["logistic", "squared"])
@pytest.mark.parametrize("labels", [1, 2])
def test_labels_in_blocks_are_those_solved_together(partial_data, surrogate, head, labels, monkeypatch):
    X, Y = partial_data
    Y = np.c_[Y, np.where(Y[:, :1] == 1, 1, 0)]  # the last label cannot be fitted
    clf = PartialLabelClassifier(
        PartialBCE(surrogate=surrogate), head=head, alpha=1e-3, solver=FullBatch(tol=1e-10), random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together = clone(clf).fit(X, Y)
        apart = _in_blocks(clone(clf), X, Y, labels, monkeypatch)
    np.testing.assert_allclose(apart.decision_function(X), together.decision_function(X), atol=1e-5)
    assert apart.n_iter_ > together.n_iter_ or surrogate == "squared"
    assert apart.history_[-1]["objective"] == pytest.approx(together.history_[-1]["objective"], rel=1e-6)


def test_a_stop_leaves_the_blocks_to_come_at_their_priors(partial_data, make_problem, monkeypatch):
    X, Y = partial_data
    monkeypatch.setattr("skpartial.solvers._full_batch.WORKING_BYTES", 2 * 6 * X.nbytes // X.shape[1])
    features = as_features(X, dtype=torch.float64, device=torch.device("cpu"))
    task = make_problem(features, Y, IgnoreUnknown(), alpha=1e-3, monitor=lambda record, parameters: True)
    found = FullBatch().solve(task).parameters
    assert found["weight"][:2].any(axis=1).all()
    assert not found["weight"][2:].any()
    share = (Y == 1).sum(0) / (Y != 0).sum(0)
    np.testing.assert_allclose(expit(found["bias"][2:]), share[2:])


def test_losses_that_look_at_logits_have_all_labels_at_once(partial_data, monkeypatch):
    X, Y = partial_data
    clf = PartialLabelClassifier(LargeLoss(), alpha=1e-3, solver=FullBatch(tol=1e-8), random_state=0)
    together = clone(clf).fit(X, Y)
    np.testing.assert_array_equal(_in_blocks(clone(clf), X, Y, 1, monkeypatch).coef_, together.coef_)
