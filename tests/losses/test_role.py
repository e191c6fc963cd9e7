"""ROLE and expected positives: formulas by automatic differentiation, estimators, memory, and whole fits."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial._state import labels_tensor
from skpartial.labels import LabelMatrix, keep_single_positive
from skpartial.losses import ROLE, ExpectedPositives
from skpartial.losses._label_estimates import CountPenalty, best_estimates
from skpartial.metrics import mean_average_precision
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training import TrainingContext, TrainingData


def batch(seed, n=5, n_labels=4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, n_labels, dtype=torch.float64, generator=generator) * 3
    labels = torch.randint(-1, 2, (n, n_labels), generator=generator)
    return logits, labels, generator


def log_loss(p, eps):
    return -torch.log(p + eps)


def published(x, phi, labels, k, weights=None, reg_weight=1.0, eps=1e-5):
    """The loss as METHODS write it, with what is held fixed detached; weights of rows repeat rows."""
    p, q = torch.sigmoid(x), torch.sigmoid(phi)
    entries = torch.zeros_like(x)
    for a, b in ((p, q.detach()), (q, p.detach())):
        known = (labels == 1) * log_loss(a, eps) + (labels == -1) * log_loss(1 - a, eps)
        entries = entries + known + b * log_loss(a, eps) + (1 - b) * log_loss(1 - a, eps)
    weights = torch.ones(len(x), dtype=x.dtype) if weights is None else weights
    total = weights.sum() * x.shape[1]
    value = 0.5 * (entries * weights[:, None]).sum() / total
    for v in (p, q):
        count = (v * weights[:, None]).sum() / weights.sum()
        value = value + 0.5 * reg_weight * ((count - k) / x.shape[1]) ** 2
    return value


@given(st.integers(0, 10**6), st.sampled_from(["table", "factorized", "network"]), st.booleans())
def test_gradients_are_those_of_the_formula(seed, estimator, weighted):
    x, labels, generator = batch(seed)
    loss = ROLE(expected_positives=1.7, estimator=estimator, rank=3, reg_weight=0.8, eps=1e-5)
    everything = torch.randint(-1, 2, (9, 4), generator=generator)
    rows = torch.tensor([3, 0, 7, 8, 1])
    everything[rows] = labels
    state = {name: t.double() for name, t in loss.init_state(everything, generator).items()}
    if estimator == "network":
        state["output_weights"] += torch.randn(3, 4, dtype=torch.float64, generator=generator)
    learned = {name: t.clone().requires_grad_() for name, t in state.items() if loss.state_spec()[name].learned}
    weights = torch.rand(5, dtype=torch.float64, generator=generator) + 0.1 if weighted else None

    leaf = x.clone().requires_grad_()
    if estimator == "table":
        phi = learned["estimate_logits"][rows]
    elif estimator == "factorized":
        phi = learned["row_factors"][rows] @ learned["label_factors"] + learned["label_biases"]
        phi = phi + np.log(0.995 / 0.005) * labels
    else:
        p = torch.sigmoid(x)
        hidden = torch.relu(torch.cat([p, labels], 1) @ learned["hidden_weights"] + learned["hidden_biases"])
        sample = None if weights is None else weights[:, None]
        best = best_estimates(labels, x, CountPenalty(1.7 / 4, 0.8, sample))
        phi = best + hidden @ learned["output_weights"] + learned["output_biases"]
    expected = published(leaf, phi, labels, 1.7, weights, reg_weight=0.8)
    expected.backward()

    step = loss.value_and_gradient(x, labels, state, rows=rows, weights=weights)
    torch.testing.assert_close(step.value, expected.detach())
    torch.testing.assert_close(step.gradient, leaf.grad)
    assert set(step.state) == set(learned)
    for name, gradient in step.state.items():
        whole = learned[name].grad
        torch.testing.assert_close(gradient, whole[rows] if loss.state_spec()[name].per_row else whole)
        other = torch.ones(9, dtype=torch.bool).index_fill(0, rows, False)
        assert not loss.state_spec()[name].per_row or (whole[other] == 0).all()


@given(st.integers(0, 10**6), st.floats(0, 3), st.floats(0.1, 3.9), st.booleans())
def test_a_network_starts_from_estimates_that_cannot_be_better(seed, reg_weight, k, weighted):
    """Where the published loss has no slope in the estimates; for strong penalties of few labels as well."""
    x, labels, generator = batch(seed)
    weights = torch.rand(5, dtype=torch.float64, generator=generator) + 0.1 if weighted else None
    penalty = CountPenalty(k / 4, reg_weight, None if weights is None else weights[:, None])
    phi = best_estimates(labels, x, penalty).requires_grad_()
    published(x, phi, labels, k, weights, reg_weight=reg_weight, eps=0.0).backward()
    assert phi.grad.abs().max() < 1e-6

    # And it is a minimum of their own terms, which a small step of any kind raises.
    p, w = torch.sigmoid(x), torch.ones(5, dtype=x.dtype) if weights is None else weights

    def own(phi):
        q = torch.sigmoid(phi)
        known = (labels == 1) * log_loss(q, 0) + (labels == -1) * log_loss(1 - q, 0)
        entries = known + p * log_loss(q, 0) + (1 - p) * log_loss(1 - q, 0)
        excess = (q * w[:, None]).sum() / w.sum() - k
        return 0.5 * ((entries * w[:, None]).sum() / w.sum() / 4 + reg_weight * (excess / 4) ** 2)

    step = 1e-3 * torch.randn(phi.shape, dtype=torch.float64, generator=generator)
    assert own(phi.detach() + step) > own(phi.detach())


def test_estimates_of_sure_logits_are_finite():
    labels, logits = torch.tensor([[1, 0, -1, 0]]), torch.tensor([[-90.0, 90.0, 1e4, -1e4]])
    for share in (0.01, 0.99):
        assert torch.isfinite(best_estimates(labels, logits, CountPenalty(share, 1.0, None))).all()


@given(st.integers(0, 10**6))
def test_symmetric_in_classifier_and_estimates(seed):
    x, labels, generator = batch(seed)
    phi = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    loss = ROLE(expected_positives=2)
    one = loss.value_and_gradient(x, labels, {"estimate_logits": phi})
    other = loss.value_and_gradient(phi, labels, {"estimate_logits": x})
    torch.testing.assert_close(one.gradient, other.state["estimate_logits"])
    torch.testing.assert_close(one.value, other.value)


@given(st.integers(0, 10**6))
def test_absence_mirrors_presence(seed):
    """Turning every sign around, and the number of presences with it, turns the gradients around."""
    x, labels, generator = batch(seed)
    phi = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    for eps in (0.0, 1e-5):
        one = ROLE(1.5, eps=eps).value_and_gradient(x, labels, {"estimate_logits": phi})
        other = ROLE(2.5, eps=eps).value_and_gradient(-x, -labels, {"estimate_logits": -phi})
        torch.testing.assert_close(one.value, other.value)
        torch.testing.assert_close(one.gradient, -other.gradient)
        one, other = ExpectedPositives(1.5, eps=eps), ExpectedPositives(2.5, eps=eps)
        torch.testing.assert_close(one(x, labels), other(-x, -labels))


@given(st.integers(0, 10**6))
def test_penalty_changes_sign_at_the_expected_number(seed):
    """Expected positives pulls probabilities down above k and up below; with nothing known there is nothing else."""
    x, labels, _ = batch(seed)
    nothing = torch.zeros_like(labels)
    count = float(torch.sigmoid(x).sum(1).mean())
    for k, sign in ((count - 0.1, 1), (count + 0.1, -1)):
        assert (ExpectedPositives(k).value_and_gradient(x, nothing).gradient * sign > 0).all()
    at = ExpectedPositives(count).value_and_gradient(x, nothing)
    torch.testing.assert_close(at.gradient, torch.zeros_like(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", [lambda: ExpectedPositives(2.0), lambda: ROLE(2.0)])
def test_weights_repeat_rows(make):
    x, labels, generator = batch(3)
    phi = torch.randn(5, 4, dtype=torch.float64, generator=generator)
    counts = torch.tensor([2, 0, 1, 3, 1])
    loss, again = make(), torch.repeat_interleave(torch.arange(5), counts)
    weighted = loss(x, labels, {"estimate_logits": phi}, weights=counts)
    torch.testing.assert_close(weighted, loss(x[again], labels[again], {"estimate_logits": phi[again]}))
    of_entries = counts[:, None].expand(5, 4)
    torch.testing.assert_close(weighted, loss(x, labels, {"estimate_logits": phi}, weights=of_entries))


@pytest.mark.parametrize("make", [lambda eps: ExpectedPositives(2.0, eps=eps), lambda eps: ROLE(2.0, eps=eps)])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_extreme_logits(make, eps):
    x = torch.tensor([[1e4, -1e4, 300.0], [-1e4, 1e4, -300.0]])
    labels = torch.tensor([[1, 0, -1], [1, -1, 0]])
    step = make(eps).value_and_gradient(x, labels, {"estimate_logits": -x})
    assert torch.isfinite(step.value)
    assert torch.isfinite(step.gradient).all()


class TestExpectedNumber:
    labels = torch.tensor([[1, -1, 1], [1, 0, 0], [-1, -1, 1], [1, 1, 1], [0, 0, 0]])

    @pytest.mark.parametrize("kind", [ExpectedPositives, ROLE])
    def test_estimate_is_the_mean_of_complete_rows(self, kind):
        dense = kind().init_state(self.labels, torch.Generator().manual_seed(0))["expected_positives"]
        as_torch = labels_tensor(LabelMatrix.encode(sp.csr_array(self.labels.numpy().astype(np.int8))))
        assert as_torch.layout == torch.sparse_csr
        same = kind().init_state(as_torch, torch.Generator().manual_seed(0))["expected_positives"]
        assert dense[0] == 2
        assert dense[3] == 3
        assert 1 <= dense[1] < 2 < dense[2] <= 3
        assert torch.equal(dense, same)

    def test_interval_is_that_of_resampling(self):
        counts = np.random.default_rng(0).poisson(3, size=40)
        labels = torch.tensor([[1] * c + [-1] * (12 - c) for c in counts])
        _, low, high, _ = ExpectedPositives().init_state(labels, torch.Generator().manual_seed(0))["expected_positives"]
        means = np.random.default_rng(1).choice(counts, size=(100_000, 40)).mean(1)
        np.testing.assert_allclose([low, high], np.percentile(means, [5, 95]), atol=0.03)

    def test_attribute(self, partial_data):
        X, Y = partial_data
        Y = Y.copy()
        Y[:7] = np.where(Y[:7] == 0, -1, Y[:7])
        clf = PartialLabelClassifier(ExpectedPositives(), solver=Minibatch(max_epochs=2), random_state=0).fit(X, Y)
        complete = (Y != 0).all(1)
        assert clf.expected_positives_.n_rows == complete.sum() >= 7
        assert clf.expected_positives_.value == (Y[complete] == 1).sum(1).mean()
        assert clf.expected_positives_.low <= clf.expected_positives_.value <= clf.expected_positives_.high
        given = PartialLabelClassifier(ExpectedPositives(2.5), solver=Minibatch(max_epochs=1)).fit(X, Y)
        assert given.expected_positives_.value == 2.5
        assert given.expected_positives_.n_rows == 0
        assert np.isnan(given.expected_positives_.low)

    @pytest.mark.parametrize("kind", [ExpectedPositives, ROLE])
    def test_what_can_be_neither_given_nor_estimated(self, kind, partial_data):
        X, Y = partial_data
        Z = keep_single_positive(np.where(Y == 1, 1, -1), random_state=0)
        name = kind.__name__
        with pytest.raises(ValueError, match=rf"no row of y is fully labelled.*{name}\(expected_positives=2.9\)"):
            SinglePositiveClassifier(kind()).fit(X, Z)
        with pytest.raises(ValueError, match=rf"expected_positives=99 is more than the {Z.shape[1]} labels"):
            SinglePositiveClassifier(kind(99)).fit(X, Z)
        for bad in (0, -1, float("nan"), "guess", None, True):
            with pytest.raises(ValueError, match="expected_positives must be a number"):
                SinglePositiveClassifier(kind(bad)).fit(X, Z)
        with pytest.raises(ValueError, match="needs a state: pass the result of init_state"):
            kind()(torch.zeros(2, 3), torch.zeros(2, 3))
        with pytest.raises(ValueError, match="reg_weight must be a number in"):
            kind(2, reg_weight=-1).check()


class TestHandOver:
    def test_an_estimate_is_kept_and_a_given_number_is_not(self):
        labels = torch.tensor([[1, -1, 1], [1, -1, -1], [0, 1, 0]])
        loss = ExpectedPositives()
        first = loss.init_state(labels, torch.Generator().manual_seed(0))
        assert first["expected_positives"][0] == 1.5
        again = loss.init_state(torch.zeros(2, 3), previous=first)
        assert torch.equal(again["expected_positives"], first["expected_positives"])
        assert loss.init_state(labels[:2], previous=first)["expected_positives"][3] == 2  # as good: of these rows
        given_before = ExpectedPositives(2.5).init_state(labels)
        anew = loss.init_state(labels, torch.Generator().manual_seed(0), given_before)
        assert anew["expected_positives"][0] == 1.5

    def test_later_batches_need_no_full_row(self, partial_data):
        X, Y = partial_data
        Y = Y.copy()
        Y[:3] = [[1, -1, 1, -1, -1], [1, 1, -1, -1, -1], [-1, -1, 1, -1, -1]]
        clf = PartialLabelClassifier(ExpectedPositives(), random_state=0).partial_fit(X[:40], Y[:40])
        Y[40:, 0] = 0
        k = clf.expected_positives_.value
        clf.partial_fit(X[40:], Y[40:])
        assert clf.expected_positives_.value == k

    def test_a_few_rows_without_presences_are_no_estimate(self):
        labels = torch.tensor([[-1, -1], [0, 1]])
        with pytest.raises(ValueError, match="none of the 1 fully labelled rows of y has a positive"):
            ExpectedPositives().init_state(labels)

    def test_resuming_clips_the_table_and_believes_labels(self):
        """A stage begins within the probabilities 1e-5 and 1 - 1e-5, and not against what has become known."""
        labels = torch.tensor([[0, 0, 1, 1, -1]])
        previous = {"estimate_logits": torch.tensor([[30.0, -2.0, -3.0, 2.0, 1.0]])}
        state = ROLE(2).init_state(labels, previous=previous)
        expected = [np.log(99999), -2.0, np.log(199), 2.0, -np.log(199)]
        assert state["estimate_logits"][0].tolist() == pytest.approx(expected, abs=1e-4)

    def test_storage_is_what_was_asked_for(self):
        labels = torch.zeros(50, 40)
        for name in ("float16", "float32"):
            logits = ROLE(2, storage=name).init_state(labels)["estimate_logits"]
            assert logits.dtype == getattr(torch, name)
            # The start fills its whole range, which is that of probabilities in [0.4, 0.6].
            assert np.log(1.5) * 0.98 < logits.float().abs().max() <= np.log(1.5) * 1.001

    def test_the_network_learns(self, scenes):
        X, _, Z, _, _ = scenes
        loss = ROLE(2.0, estimator="network", rank=4)
        clf = SinglePositiveClassifier(loss, solver=Minibatch(max_epochs=2), warm_start=True, random_state=0)
        state = clf.fit(X, Z)._states["loss"]
        start = loss.init_state(torch.as_tensor(Z), torch.Generator().manual_seed(0))
        assert (state["output_weights"] != 0).any()
        assert not torch.equal(state["hidden_biases"], start["hidden_biases"])

    def test_estimates_of_a_row_do_not_depend_on_the_number_of_rows(self):
        """The penalty on their number is one on each part that is worked on: parts are of one size."""
        loss, logits = ROLE(0.5, estimator="network"), torch.full((4097, 3), 2.0)
        labels = torch.zeros(4097, 3)
        state = loss.init_state(labels)
        data = TrainingData.encode(labels)
        context = TrainingContext(given=data, current=data, predictor=SimpleNamespace(logits=lambda rows: logits[rows]))
        estimates = loss.fitted_attributes(state, context)["label_estimates_"]
        np.testing.assert_allclose(estimates, estimates[0, 0], rtol=1e-4)

    @pytest.mark.parametrize("kind", [ExpectedPositives, ROLE])
    def test_weights_of_entries_do_not_change_the_count(self, kind, partial_data):
        """Presences that weigh more are not more presences."""
        X, Y = partial_data
        k = 2.0
        means = []
        for weight in (1.0, 10.0):
            clf = PartialLabelClassifier(
                kind(k, reg_weight=30.0), class_weight=[weight] * 5, solver=Minibatch(max_epochs=30), random_state=0
            )
            means.append(clf.fit(X, Y).predict_proba(X).sum(1).mean())
        assert means[0] == pytest.approx(k, abs=0.15)
        assert means[1] == pytest.approx(k, abs=0.3)


@pytest.mark.parametrize("reg_weight", [1.0, 20.0, 400.0])
def test_estimates_under_strong_penalties_solve_their_equation(reg_weight):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(64, 80, dtype=torch.float64, generator=generator)
    labels = torch.where(torch.rand(64, 80, generator=generator) < 0.02, 1, 0)
    phi = best_estimates(labels, logits, CountPenalty(2.9 / 80, reg_weight, None)).requires_grad_()
    published(logits, phi, labels, 2.9, reg_weight=reg_weight, eps=0.0).backward()
    assert phi.grad.abs().max() * phi.numel() < 1e-4


@pytest.fixture(scope="module")
def scenes():
    """Separable labels of which one presence a row is kept, and held-out rows."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((900, 30)).astype(np.float32)
    W = rng.standard_normal((30, 8))
    Y = np.where(X @ W + 0.3 * rng.standard_normal((900, 8)) > 3.0, 1, -1)
    kept = (Y == 1).any(1)
    X, Y = X[kept], Y[kept]
    half = len(X) // 2
    return X[:half], Y[:half], np.asarray(keep_single_positive(Y[:half], random_state=0)), X[half:], Y[half:]


class TestFit:
    @pytest.mark.parametrize("estimator", ["table", "factorized", "network"])
    @pytest.mark.parametrize("storage", ["float32", "float16"])
    def test_estimates_recover_the_labels(self, scenes, estimator, storage):
        X, Y, Z, X_test, Y_test = scenes
        k = (Y == 1).sum(1).mean()
        loss = ROLE(k, estimator=estimator, storage=storage)
        # A network of the estimates settles sooner than single ones.
        solver = Minibatch(max_epochs=10 if estimator == "network" else 20, learning_rate=1 / X.shape[1])
        clf = SinglePositiveClassifier(loss, solver=solver, random_state=0).fit(X, Z)
        estimates = clf.label_estimates_
        assert estimates.shape == Z.shape
        assert estimates.dtype == np.float32
        assert estimates.min() >= 0
        assert estimates.max() <= 1
        # Better than what was observed, and better than before training.
        observed = mean_average_precision(Y, np.where(Z == 1, 1.0, 0.0))
        assert mean_average_precision(Y, estimates) > observed + 0.2
        assert mean_average_precision(Y_test, clf.decision_function(X_test)) > 0.75
        assert abs(estimates.sum(1).mean() - k) < 0.6

    def test_no_label_of_the_user_is_touched(self, scenes):
        X, _, Z, _, _ = scenes
        before = Z.copy()
        SinglePositiveClassifier(ROLE(2.0), solver=Minibatch(max_epochs=2)).fit(X, Z)
        np.testing.assert_array_equal(Z, before)

    @pytest.mark.filterwarnings("ignore:learning_rate=.* moves logits")
    def test_estimates_are_those_of_the_chosen_epoch(self, scenes):
        X, _Y, Z, X_test, Y_test = scenes
        arguments = {"random_state": 0, "alpha": 0.0}
        long = SinglePositiveClassifier(ROLE(2.0), solver=Minibatch(learning_rate=0.3, max_epochs=30), **arguments)
        long.fit(X, Z, X_val=X_test, y_val=Y_test)
        assert long.best_epoch_ < 30
        short = SinglePositiveClassifier(
            ROLE(2.0), solver=Minibatch(learning_rate=0.3, max_epochs=long.best_epoch_), **arguments
        ).fit(X, Z, X_val=X_test, y_val=Y_test)
        np.testing.assert_array_equal(long.label_estimates_, short.label_estimates_)
        np.testing.assert_array_equal(long.coef_, short.coef_)

    def test_sparse_labels_train_alike(self, scenes):
        X, _, Z, _, _ = scenes
        for estimator in ("table", "factorized", "network"):
            solver = Minibatch(max_epochs=3)
            loss = ROLE(2.0, estimator=estimator, rank=4)
            dense = SinglePositiveClassifier(loss, solver=solver, random_state=0).fit(X, Z)
            sparse = SinglePositiveClassifier(loss, solver=solver, random_state=0).fit(X, sp.csr_array(Z))
            np.testing.assert_array_equal(dense.coef_, sparse.coef_)
            np.testing.assert_array_equal(dense.label_estimates_, sparse.label_estimates_)

    def test_warm_start_goes_on_with_the_estimates(self, scenes):
        X, _, Z, _, _ = scenes
        clf = SinglePositiveClassifier(ROLE(2.0), solver=Minibatch(max_epochs=8), warm_start=True, random_state=0)
        first = clf.fit(X, Z).label_estimates_
        rate = clf.set_params(solver__learning_rate=1e-9).fit(X, Z).label_estimates_
        np.testing.assert_allclose(rate, first, atol=1e-4)

    def test_store_state(self, scenes):
        X, _, Z, _, _ = scenes
        clf = SinglePositiveClassifier(ROLE(2.0), solver=Minibatch(max_epochs=1), store_state=False).fit(X, Z)
        assert not hasattr(clf, "label_estimates_")
        assert len(pickle.dumps(clf)) < 20_000

    def test_units_of_the_features_do_not_matter(self, scenes):
        X, _, Z, _, _ = scenes
        fits = [
            SinglePositiveClassifier(ROLE(2.0), solver=Minibatch(max_epochs=3), alpha=0, random_state=0).fit(X * c, Z)
            for c in (1.0, 1024.0)
        ]
        np.testing.assert_allclose(fits[0].label_estimates_, fits[1].label_estimates_, atol=1e-5)

    def test_refusals(self, scenes):
        X, _, Z, _, _ = scenes
        with pytest.raises(
            ValueError, match=r"needs 0.0405 MB .* more than max_bytes=1000. Use estimator='factorized'"
        ):
            SinglePositiveClassifier(ROLE(2.0, max_bytes=1000)).fit(X, Z)
        with pytest.raises(ValueError, match="Use solver=Minibatch"):
            SinglePositiveClassifier(ROLE(2.0), solver=FullBatch()).fit(X, Z)
        with pytest.raises(ValueError, match="partial_fit cannot train ROLE"):
            SinglePositiveClassifier(ROLE(2.0)).partial_fit(X, Z)
        with pytest.raises(ValueError, match="ROLE: estimator must be 'table', 'factorized' or 'network', got 'tree'"):
            SinglePositiveClassifier(ROLE(2.0, estimator="tree")).fit(X, Z)
        with pytest.raises(ValueError, match="ROLE: storage must be 'float32' or 'float16'"):
            SinglePositiveClassifier(ROLE(2.0, storage="int8")).fit(X, Z)
        with pytest.raises(ValueError, match="ROLE: rank must be a whole number of at least 1, got 0"):
            SinglePositiveClassifier(ROLE(2.0, rank=0)).fit(X, Z)

    def test_the_table_of_a_large_label_set_is_refused(self):
        """Before any memory is taken: the labels are sparse, and the features are one row repeated."""
        Y = sp.csr_array((np.ones(200_000, np.int8), (np.arange(200_000), np.arange(200_000) % 5000)))
        X = np.broadcast_to(np.float32(1.0), (200_000, 2))
        with pytest.raises(ValueError, match="needs 12 GB for the estimates of 200000 x 5000 labels"):
            SinglePositiveClassifier(ROLE(2.9)).fit(X, Y)
