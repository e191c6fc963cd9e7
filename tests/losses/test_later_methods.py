"""Asymmetric, selective, Hill, SPLC, entropy maximising and generalised robust losses."""

from __future__ import annotations

import pickle
from contextlib import nullcontext

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.base import clone

from skpartial import SinglePositiveClassifier
from skpartial._state import labels_tensor
from skpartial.labels import LabelMatrix, keep_single_positive
from skpartial.losses import (
    SPLC,
    AssumeNegative,
    AsymmetricLoss,
    Block,
    EntropyMaximization,
    EntrywiseLoss,
    GeneralizedRobust,
    Hill,
    IgnoreUnknown,
    SelectiveLoss,
)
from skpartial.metrics import mean_average_precision
from skpartial.solvers import FullBatch, Minibatch

# At the one point of its schedule that the golden array of this loss was computed at.
AT_ONE_POINT = GeneralizedRobust(slope=(1, 1), bias=(-2, -2), center=(0.6, 0.6), width=(1, 1))
PICKING = EntropyMaximization(pseudo_weight=0.3, warm_up=2, n_epochs=5)
ALL = [
    AsymmetricLoss(),
    AsymmetricLoss(0.5, 2.5, 0),
    SelectiveLoss(n_ignored=1, class_prior=[0.1, 0.9, 0.2, 0.3]),
    SelectiveLoss(1, 2, 3, 0.1, n_ignored=0, class_prior=[0.1, 0.9, 0.2, 0.3]),
    Hill(),
    Hill(margin=0.5, peak=2.0),
    SPLC(),
    SPLC(threshold=0.4, margin=0, gamma=0.7, warm_up=0),
    EntropyMaximization(),
    EntropyMaximization(entropy_weight=0.7, eps=1e-3),
    PICKING,
    GeneralizedRobust(),
    GeneralizedRobust(exponents=(0.2, 0.3), n_epochs=1),
]


def cases(losses=ALL):
    return pytest.mark.parametrize("loss", losses, ids=repr)


def draw(seed, shape=(5, 4), scale=3.0, values=(-1, 0, 1)):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(scale=scale, size=shape)), torch.tensor(rng.choice(values, size=shape))


def start(loss, labels, seed=0):
    """A state; with a few soft negatives, where the loss has any."""
    state = loss.init_state(labels)
    if state is not None and "soft_negatives" in state:
        uniform = torch.rand(labels.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        state["soft_negatives"] = uniform.masked_fill((labels != 0) | (uniform > 0.5), torch.nan)
    return state


class TestReleasedCode:
    """Values and gradients of the authors' code, which takes sums in the first four."""

    @pytest.mark.parametrize(
        "name, loss, epoch, divisor",
        [
            ("asl_sum_4_1_0.05", AsymmetricLoss(), 1, 42),
            ("hill_sum", Hill(), 1, 42),
            ("splc_epoch0_sum", SPLC(), 1, 42),
            ("splc_epoch1_sum", SPLC(), 2, 42),
            ("em_a0.2", EntropyMaximization(0.2, eps=1e-5), 1, 1),
            ("gr_w1_b-2_mu.6_s1_q.01_1", AT_ONE_POINT, 1, 1),
        ],
    )
    def test_value_and_gradient(self, golden, name, loss, epoch, divisor):
        arrays = golden("losses")
        x = torch.tensor(arrays["spml_logits"], requires_grad=True)
        y = torch.tensor(arrays["spml_obs_single_pos"])
        value = loss(x, y, epoch=epoch)
        value.backward()
        step = loss.value_and_gradient(x.detach(), y, epoch=epoch)
        for computed in (value.detach(), step.value):
            np.testing.assert_allclose(computed * divisor, arrays[f"later_{name}_loss"], atol=1e-6, rtol=0)
        for computed in (x.grad, step.gradient):
            np.testing.assert_allclose(computed * divisor, arrays[f"later_{name}_grad"], atol=1e-6, rtol=0)

    def test_soft_negatives(self, golden):
        """The released code writes the target of a soft negative into the labels, with a minus sign."""
        arrays = golden("losses")
        given_labels = torch.tensor(arrays["later_apl_obs"])
        soft = torch.where(given_labels < 0, -given_labels, torch.nan)
        state = {"soft_negatives": soft, "logits": torch.full_like(soft, torch.inf)}
        loss = EntropyMaximization(0.2, pseudo_weight=0.02, eps=1e-5)
        step = loss.value_and_gradient(
            torch.tensor(arrays["spml_logits"]), torch.tensor(arrays["spml_obs_single_pos"]), state
        )
        np.testing.assert_allclose(step.value, arrays["later_em_apl_a0.2_b0.02_loss"], atol=1e-6, rtol=0)
        np.testing.assert_allclose(step.gradient, arrays["later_em_apl_a0.2_b0.02_grad"], atol=1e-6, rtol=0)


def formula(loss, x, y, soft=None, epoch=1):
    """Entries by the published formulas, for automatic differentiation."""
    p = torch.sigmoid(x)
    log_p, log_q = F.logsigmoid(x), F.logsigmoid(-x)
    present, absent = y == 1, y == -1
    if isinstance(loss, AsymmetricLoss | SelectiveLoss):
        unknown_power = loss.gamma_absent if isinstance(loss, AsymmetricLoss) else loss.gamma_unknown
        shifted = (p - loss.margin).clamp(min=0)
        power = torch.where(absent, float(loss.gamma_absent), float(unknown_power))
        log_absent = torch.log(1 - shifted) if loss.margin else log_q
        entries = torch.where(
            present, -((1 - p) ** loss.gamma_present).detach() * log_p, -(shifted**power).detach() * log_absent
        )
        if isinstance(loss, SelectiveLoss):
            ignored = (y == 0) & (torch.as_tensor(loss.class_prior) > loss.prior_threshold)
            k = min(int((y == 0).sum()), int(loss.n_ignored * len(y)))
            order = torch.where(y == 0, x, -torch.inf).flatten().argsort(descending=True)
            ignored.flatten()[order[:k]] = True
            entries = torch.where(ignored, 0.0, entries)
        return entries
    if isinstance(loss, Hill | SPLC):
        gamma = 2 if isinstance(loss, Hill) else loss.gamma
        of_present = -(torch.sigmoid(loss.margin - x) ** gamma) * F.logsigmoid(x - loss.margin)
        if isinstance(loss, Hill):
            of_unknown = (loss.peak - p) * p**2
        else:
            corrected = (p > loss.threshold) & (epoch > loss.warm_up)
            of_unknown = -torch.where(corrected, (1 - p) ** gamma * log_p, p**gamma * log_q)
        return torch.where(present, of_present, torch.where(absent, -log_q, of_unknown))
    if isinstance(loss, EntropyMaximization):
        if loss.eps:
            log_p, log_q = torch.log(p + loss.eps), torch.log(1 - p + loss.eps)
        entries = torch.where(y == 0, loss.entropy_weight * (p * log_p + (1 - p) * log_q), torch.zeros_like(p))
        if soft is not None:
            target = soft.nan_to_num(0.0)
            pseudo = -loss.pseudo_weight * (target * log_p + (1 - target) * log_q)
            entries = torch.where(soft.isnan() | (y != 0), entries, pseudo)
        return torch.where(present, -log_p, torch.where(absent, -log_q, entries))
    done = 1.0 if loss.n_epochs == 1 else min(1.0, (epoch - 1) / (loss.n_epochs - 1))
    w, b, mu, sigma = (a + (z - a) * done for a, z in (loss.slope, loss.bias, loss.center, loss.width))
    k, v = torch.sigmoid(w * p + b).detach(), torch.exp(-((p - mu) ** 2) / (2 * sigma**2)).detach()
    q2, q3 = loss.exponents
    of_unknown = v * (k * (1 - p**q2) / q2 + (1 - k) * (1 - (1 - p) ** q3) / q3)
    return torch.where(present, -log_p, torch.where(absent, -log_q, of_unknown))


@cases()
@given(st.integers(0, 10**6), st.integers(1, 10), st.booleans())
def test_gradients_are_those_of_the_formula(loss, seed, epoch, weighted):
    """By automatic differentiation; weights that the papers hold fixed are detached there."""
    x, y = draw(seed)
    state = start(loss, y, seed)
    soft = None if state is None else state.get("soft_negatives")
    weights = torch.rand(5, 4, dtype=torch.float64) + 0.1 if weighted else torch.ones(5, 4, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    expected = (formula(loss, leaf, y, soft, epoch) * weights).sum() / weights.sum()
    expected.backward()
    step = loss.value_and_gradient(x, y, state, epoch=epoch, weights=weights)
    torch.testing.assert_close(step.value, expected.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(step.gradient, leaf.grad, rtol=1e-8, atol=1e-12)


@cases(
    [
        Hill(),
        SPLC(),
        EntropyMaximization(),
        EntropyMaximization(eps=1e-3),
        PICKING,
        # Without what is held fixed, these are derivatives too.
        AsymmetricLoss(0, 0, 0.05),
        SelectiveLoss(0, 0, 0, 0.1, n_ignored=0, class_prior=[0.1, 0.9, 0.1, 0.1]),
        GeneralizedRobust(slope=(0, 0), width=(1e9, 1e9)),
    ]
)
@pytest.mark.parametrize("epoch", [1, 6])
def test_gradient_is_the_slope_of_the_value(loss, epoch):
    x, y = draw(4)
    state = start(loss, y)
    gradient = loss.value_and_gradient(x, y, state, epoch=epoch).gradient
    step = 1e-6
    for i, j in np.ndindex(5, 4):
        moved = torch.zeros_like(x)
        moved[i, j] = step
        slope = (loss(x + moved, y, state, epoch=epoch) - loss(x - moved, y, state, epoch=epoch)) / (2 * step)
        torch.testing.assert_close(gradient[i, j], slope, rtol=1e-5, atol=1e-9)


@cases()
@given(st.integers(0, 10**6), st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_weights_are_repetitions(loss, seed, counts):
    assume(sum(counts))
    if isinstance(loss, SelectiveLoss):
        loss = clone(loss).set_params(n_ignored=0)  # which entries are the largest depends on the batch
    x, y = draw(seed)
    repeats = torch.tensor(counts)
    x2, y2 = x.repeat_interleave(repeats, 0), y.repeat_interleave(repeats, 0)
    state, rows = start(loss, y, seed), torch.arange(5)
    repeated = loss(x2, y2, state, rows=rows.repeat_interleave(repeats), epoch=6)
    torch.testing.assert_close(loss(x, y, state, rows=rows, epoch=6, weights=repeats.double()), repeated)
    by_entry = repeats.double()[:, None].expand_as(x)
    torch.testing.assert_close(loss(x, y, state, rows=rows, epoch=6, weights=by_entry), repeated)


@cases()
@given(st.integers(0, 10**6), st.integers(1, 10))
def test_known_entries_count_fully(loss, seed, epoch):
    """Whatever the epoch, the state and the unknown entries: they pull to their side, in full where they are wrong."""
    x, y = draw(seed)
    state = start(loss, y)
    gradient = loss.value_and_gradient(x, y, state, epoch=epoch).gradient * x.numel()
    assert (gradient[y == 1] < 0).all()
    margin = getattr(loss, "margin", 0) if isinstance(loss, AsymmetricLoss | SelectiveLoss) else 0
    assert (gradient[(y == -1) & (torch.sigmoid(x) > margin)] > 0).all()
    elsewhere = torch.where(y == 0, torch.randn_like(x), x)
    moved = loss.value_and_gradient(elsewhere, y, state, epoch=epoch).gradient * x.numel()
    torch.testing.assert_close(moved[y != 0], gradient[y != 0])
    if margin == 0 and not getattr(loss, "eps", 0):
        far = loss.value_and_gradient(30.0 * -y, y, state, epoch=epoch).gradient * x.numel()
        assert (far[y == -1] > 0.99).all()
        assert (far[y == 1] < -0.99).all()


@cases()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [30, 100, 1e4])
def test_saturated_logits(loss, dtype, size):
    x = torch.tensor([[size, -size, size, -size], [size, -size, 0, size], [-size, size, 0, -size]], dtype=dtype)
    y = torch.tensor([[0, 0, 1, 1], [-1, -1, 0, 1], [0, 0, 0, 0]])
    for epoch in (1, 2, 6):
        state = start(loss, y)
        step = loss.value_and_gradient(x, y, state, epoch=epoch)
        assert step.gradient.dtype == dtype
        assert torch.isfinite(step.value)
        assert torch.isfinite(step.gradient).all()
        if not getattr(loss, "eps", 0):
            assert step.value >= size / 12 - 1  # what the presence at -size costs
        loss.end_epoch(state, epoch)


@cases()
def test_value_objects(loss):
    copy = pickle.loads(pickle.dumps(clone(loss)))
    assert repr(copy) == repr(loss)
    assert isinstance(loss, EntrywiseLoss)
    loss.check()
    traits = loss.traits()
    assert not traits.convex
    assert not traits.iterative
    estimating = isinstance(loss, EntropyMaximization | GeneralizedRobust)
    assert traits.unknown == ("estimate" if estimating else "absent")


@cases()
def test_inputs_are_left_alone(loss):
    x, y = draw(0)
    before = x.clone(), y.clone()
    state = start(loss, y)
    for epoch in (1, 3, 9):
        loss(x, y, state, epoch=epoch, weights=torch.ones(5))
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


class TestIdentities:
    @given(st.integers(0, 10**6))
    def test_without_focus_they_assume_absence(self, seed):
        x, y = draw(seed, scale=10)
        expected = AssumeNegative().value_and_gradient(x, y)
        plain = SelectiveLoss(0, 0, 0, 0, n_ignored=0, prior_threshold=1)
        never = SPLC(margin=0, gamma=0, threshold=1)
        for loss in (AsymmetricLoss(0, 0, 0), plain, never):
            step = loss.value_and_gradient(x, y, epoch=5)
            torch.testing.assert_close(step.value, expected.value)
            torch.testing.assert_close(step.gradient, expected.gradient)

    @given(st.integers(0, 10**6), st.floats(0, 5), st.floats(0, 5), st.floats(0, 0.5))
    def test_selective_of_all_is_asymmetric(self, seed, gamma_present, gamma_absent, margin):
        x, y = draw(seed)
        asymmetric = AsymmetricLoss(gamma_present, gamma_absent, margin).value_and_gradient(x, y)
        loss = SelectiveLoss(gamma_present, gamma_absent, gamma_absent, margin, n_ignored=0, prior_threshold=1)
        step = loss.value_and_gradient(x, y)
        torch.testing.assert_close(step.value, asymmetric.value)
        torch.testing.assert_close(step.gradient, asymmetric.gradient)

    @given(st.integers(0, 10**6))
    def test_asymmetric_absences_within_the_margin_cost_nothing(self, seed):
        x, y = draw(seed)
        free = (torch.sigmoid(x) < 0.3) & (y != 1)
        step = AsymmetricLoss(1, 2, 0.3).value_and_gradient(x, y)
        assert (step.gradient[free] == 0).all()
        assert (step.gradient[~free] != 0).all()

    @given(st.integers(0, 10**6), st.integers(1, 5))
    def test_splc_corrects_after_its_warm_up(self, seed, warm_up):
        x, y = draw(seed)
        loss = SPLC(margin=0.5, warm_up=warm_up)
        first = loss.value_and_gradient(x, y, epoch=warm_up)
        read_absent = SPLC(margin=0.5, threshold=1).value_and_gradient(x, y, epoch=99)
        assert torch.equal(first.gradient, read_absent.gradient)
        later = loss.value_and_gradient(x, y, epoch=warm_up + 1).gradient
        corrected = (y == 0) & (torch.sigmoid(x) > 0.6)
        assert torch.equal(later != first.gradient, corrected)
        assert (later[corrected] < 0).all()
        as_present = torch.where(corrected, 1, torch.where(y == 0, -1, y))
        without_margin = SPLC(margin=0).value_and_gradient(x, as_present, epoch=1).gradient
        torch.testing.assert_close(later[corrected], without_margin[corrected])

    @given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 3))
    def test_hill_and_splc_agree_on_known_entries(self, seed, margin, gamma):
        x, y = draw(seed, values=(-1, 1))
        torch.testing.assert_close(Hill(margin)(x, y), SPLC(0.6, margin, 2.0)(x, y, epoch=2))

    def test_hill_is_steepest_in_doubt(self):
        x = torch.linspace(-8, 8, 161, dtype=torch.float64)[:, None]
        slope = Hill().value_and_gradient(x, torch.zeros(161, 1)).gradient[:, 0]
        p = torch.sigmoid(x[:, 0])
        torch.testing.assert_close(slope * 161, 3 * p**2 * (1 - p) ** 2)
        assert slope.argmax() == 80

    def test_entropy_is_largest_in_doubt(self):
        x = torch.linspace(-8, 8, 161, dtype=torch.float64)[:, None]
        loss, unknown = EntropyMaximization(entropy_weight=0.3), torch.zeros(161, 1)
        gradient = loss.value_and_gradient(x, unknown).gradient[:, 0]
        assert torch.equal(gradient.sign(), x[:, 0].sign())  # descent leads to 1/2 from either side
        assert float(loss(torch.zeros(1, 1), torch.zeros(1, 1))) == pytest.approx(-0.3 * np.log(2))
        torch.testing.assert_close(gradient, -gradient.flip(0))

    @given(st.integers(0, 10**6))
    def test_entropy_without_weight_ignores_unknown(self, seed):
        x, y = draw(seed)
        for eps in (0.0, 1e-3):
            step = EntropyMaximization(entropy_weight=0, eps=eps).value_and_gradient(x, y)
            expected = IgnoreUnknown(eps=eps).value_and_gradient(x, y)
            torch.testing.assert_close(step.value, expected.value)
            torch.testing.assert_close(step.gradient, expected.gradient)


class TestSelection:
    logits = torch.tensor([[3.0, 2.0, -1.0, 0.5], [1.0, -2.0, 0.0, 4.0], [-3.0, 0.2, 0.1, -0.5]])
    labels = torch.tensor([[1, 0, 0, 0], [0, 0, 1, -1], [0, -1, 0, 0]])

    def ignored(self, **parameters):
        parameters = {"class_prior": [0.1] * 4, "n_ignored": 0, "margin": 0, **parameters}
        loss = SelectiveLoss(**parameters)
        ignored = loss.value_and_gradient(self.logits, self.labels).gradient == 0
        plain = clone(loss).set_params(n_ignored=0, prior_threshold=1).value_and_gradient(self.logits, self.labels)
        kept = loss.value_and_gradient(self.logits, self.labels).gradient[~ignored]
        torch.testing.assert_close(kept, plain.gradient[~ignored])
        return [tuple(entry) for entry in ignored.nonzero().tolist()]

    def test_by_likelihood(self):
        """Of unknown entries over the whole batch; the known absence at 4 is not among them."""
        assert self.ignored(n_ignored=1) == [(0, 1), (0, 3), (1, 0)]
        assert self.ignored(n_ignored=0.34) == [(0, 1)]
        unknown = [tuple(entry) for entry in (self.labels == 0).nonzero().tolist()]
        assert self.ignored(n_ignored=99) == unknown

    def test_by_prior(self):
        assert self.ignored(class_prior=[0.5, 0.2, 0.51, 1.0]) == [(0, 2), (0, 3), (2, 2), (2, 3)]
        assert self.ignored(class_prior=[0.5, 0.2, 0.51, 1.0], prior_threshold=1) == []

    def test_by_either(self):
        """An entry whose label is ignored takes its place among the most likely."""
        assert self.ignored(class_prior=[0.1, 0.9, 0.1, 0.1], n_ignored=0.34) == [(0, 1), (1, 1)]

    @pytest.mark.parametrize("n_labels, expected", [(16, 3), (48, 9), (160, 15)])
    def test_how_many_by_default(self, n_labels, expected):
        """A sixteenth of the labels a row, and five at most."""
        logits = torch.arange(3 * n_labels, dtype=torch.float32).reshape(3, n_labels)
        found = SelectiveLoss(prior_threshold=1).ignored(Block(torch.zeros(3, n_labels), logits))
        assert int(found.sum()) == expected
        assert found.flatten()[-expected:].all()

    def test_nothing(self):
        assert self.ignored() == []
        complete = torch.where(self.labels == 0, -1, self.labels)
        assert torch.isfinite(SelectiveLoss()(self.logits, complete))

    @pytest.mark.parametrize("sparse", [False, True])
    def test_estimated_priors(self, sparse):
        Y = np.array([[1, 0, -1, 0], [1, 1, 0, 0], [-1, 1, -1, 0], [1, 0, 0, 0]], dtype=np.int8)
        labels = labels_tensor(LabelMatrix.encode(sp.csr_array(Y) if sparse else Y))
        loss = SelectiveLoss()
        state = loss.init_state(labels)
        # The share of the known; 0 where one sign is not known at all.
        np.testing.assert_allclose(state["class_prior"], [3 / 4, 0, 0, 0])
        np.testing.assert_array_equal(loss.fitted_attributes(state)["class_prior_"], state["class_prior"])
        assert torch.equal(loss.init_state(torch.zeros(1, 4), previous=state)["class_prior"], state["class_prior"])
        given = SelectiveLoss(class_prior=[0, 0.1, 0.2, 1])
        assert given.init_state(labels, previous=state) is None
        np.testing.assert_array_equal(given.fitted_attributes(None)["class_prior_"], [0, 0.1, 0.2, 1])

    def test_state_is_what_counts(self):
        loss = SelectiveLoss(n_ignored=0, margin=0)
        state = {"class_prior": torch.tensor([0.0, 0.0, 0.6, 0.0])}
        gradient = loss.value_and_gradient(self.logits, self.labels, state).gradient
        assert (gradient == 0).nonzero().tolist() == [[0, 2], [2, 2]]


class TestSoftNegatives:
    n, n_labels = 40, 3

    def data(self, seed=0):
        rng = np.random.default_rng(seed)
        Z = rng.choice([1, 0, 0, 0, 0, -1], size=(self.n, self.n_labels))
        Z[:, 2] = np.where(np.arange(self.n) < 5, 0, Z[:, 2] + (Z[:, 2] == 0))  # one label with few unknown entries
        return torch.tensor(Z), rng

    def train(self, loss, labels, rng, n_epochs, batch_size=7):
        """Logits of each epoch, and the soft negatives after it."""
        state = loss.init_state(labels)
        for epoch in range(1, n_epochs + 1):
            logits = torch.tensor(rng.normal(scale=3, size=labels.shape))
            for rows in torch.tensor(rng.permutation(len(labels))).split(batch_size):
                loss.value_and_gradient(logits[rows], labels[rows], state, rows=rows, epoch=epoch)
            before = state["soft_negatives"].clone()
            loss.end_epoch(state, epoch)
            yield epoch, logits, before, state["soft_negatives"]

    @pytest.mark.parametrize("seed", range(5))
    def test_picks(self, seed):
        labels, rng = self.data(seed)
        loss = EntropyMaximization(pseudo_weight=0.2, warm_up=2, n_epochs=5)
        n_unknown = (labels == 0).sum(0)
        each = (0.9 * n_unknown / 3).floor()
        for epoch, logits, before, after in self.train(loss, labels, rng, 8):
            new = before.isnan() & ~after.isnan()
            torch.testing.assert_close(after[~before.isnan()], before[~before.isnan()])  # kept for good
            assert (labels[new] == 0).all()
            if not 2 <= epoch < 5:
                assert not new.any()
                continue
            assert torch.equal(new.sum(0), each.long())
            for j in range(self.n_labels):
                left = (labels[:, j] == 0) & after[:, j].isnan()
                if new[:, j].any() and left.any():
                    assert logits[new[:, j], j].max() <= logits[left, j].min() + 0.01  # kept in half precision
            torch.testing.assert_close(after[new].double(), torch.sigmoid(logits[new]), atol=1e-3, rtol=5e-3)
        assert torch.equal((~after.isnan()).sum(0), 3 * each.long())

    def test_batches_do_not_matter(self):
        labels, _ = self.data()
        loss = EntropyMaximization(pseudo_weight=0.2, warm_up=1, n_epochs=3)
        rng = np.random.default_rng(5)
        logits = [torch.tensor(rng.integers(-3, 3, size=labels.shape).astype(float)) for _ in range(2)]  # many ties
        results = []
        for order, size in ((torch.arange(self.n), self.n), (torch.randperm(self.n), 7), (torch.randperm(self.n), 1)):
            state = loss.init_state(labels)
            for epoch in (1, 2):
                for rows in order.split(size):
                    loss.value_and_gradient(logits[epoch - 1][rows], labels[rows], state, rows=rows, epoch=epoch)
                loss.end_epoch(state, epoch)
            results.append(loss.fitted_attributes(state)["soft_negatives_"])
        whole = loss.init_state(labels)
        for epoch in (1, 2):
            loss.value_and_gradient(logits[epoch - 1], labels, whole, epoch=epoch)
            loss.end_epoch(whole, epoch)
        results.append(loss.fitted_attributes(whole)["soft_negatives_"])
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])

    def test_a_soft_negative_pulls_to_its_target(self):
        loss = EntropyMaximization(entropy_weight=0.5, pseudo_weight=0.25)
        labels = torch.zeros(1, 2)
        state = {"soft_negatives": torch.tensor([[0.1, torch.nan]]), "logits": torch.zeros(1, 2)}
        x = torch.tensor([[2.0, 2.0]])
        gradient = loss.value_and_gradient(x, labels, state).gradient[0] * 2
        p = torch.sigmoid(x[0, 0])
        torch.testing.assert_close(gradient[0], 0.25 * (p - 0.1))
        torch.testing.assert_close(gradient[1], 0.5 * 2 * p * (1 - p))

    def test_going_on_from_an_earlier_stage(self):
        labels, rng = self.data()
        loss = EntropyMaximization(pseudo_weight=0.2, warm_up=1, n_epochs=3)
        *_, (_, _, _, soft) = self.train(loss, labels, rng, 3)
        known = labels.clone()
        first = (~soft.isnan()).nonzero()[0]
        known[tuple(first)] = 1
        state = loss.init_state(known, previous={"soft_negatives": soft, "logits": soft})
        assert state["soft_negatives"][tuple(first)].isnan()
        assert (~state["soft_negatives"].isnan()).sum() == (~soft.isnan()).sum() - 1
        again = loss.init_state(labels, previous={"soft_negatives": soft, "logits": soft})
        for epoch in (1, 2):
            loss.value_and_gradient(torch.zeros(labels.shape), labels, again, epoch=epoch)
            loss.end_epoch(again, epoch)
        assert ((~again["soft_negatives"].isnan()).sum(0) <= 0.9 * (labels == 0).sum(0)).all()

    def test_state(self):
        labels, _ = self.data()
        loss = EntropyMaximization(pseudo_weight=0.2)
        state = loss.init_state(labels)
        assert set(state) == set(loss.state_spec())
        assert sum(t.numel() * t.element_size() for t in state.values()) == 4 * labels.numel()
        loss.init_state(labels_tensor(LabelMatrix.encode(sp.csr_array(labels.numpy().astype(np.int8)))))
        plain = EntropyMaximization()
        assert plain.init_state(labels) is None
        assert plain.state_spec() == {}
        assert plain.fitted_attributes(None) == {}
        plain.end_epoch(None, 7)


def test_prior_of_other_labels():
    with pytest.raises(ValueError, match="class_prior has 3 numbers, but y has 2 labels"):
        SelectiveLoss(class_prior=[0.1, 0.2, 0.3]).check(LabelMatrix.encode([[1, 0], [0, -1]]))


@pytest.fixture(scope="module")
def problem():
    """A linear problem of which one presence a row is seen."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 10))
    logits = 1.2 * X @ rng.normal(size=(10, 8)) - 2.5
    Y = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    return X[:400], np.asarray(keep_single_positive(Y[:400], random_state=0)), Y[:400], X[400:], Y[400:]


class TestTraining:
    @cases(
        [
            AsymmetricLoss(),
            SelectiveLoss(),
            Hill(),
            SPLC(),
            EntropyMaximization(),
            EntropyMaximization(pseudo_weight=0.2, warm_up=3, n_epochs=10),
            GeneralizedRobust(n_epochs=10),
        ]
    )
    def test_learns(self, problem, loss):
        X, Z, Y, X_test, Y_test = problem
        clf = SinglePositiveClassifier(loss=loss, solver=Minibatch(max_epochs=10), random_state=0).fit(X, Z)
        chance = (Y_test == 1).mean()
        assert chance < 0.35
        # Assumed absences reach 0.79.
        assert mean_average_precision(Y_test, clf.decision_function(X_test)) > 0.74
        if loss.state_spec() and isinstance(loss, EntropyMaximization):
            soft = ~np.isnan(clf.soft_negatives_)
            assert soft.sum() > 0.8 * (Z == 0).sum()
            assert (Y[soft] == -1).mean() > (Y[Z == 0] == -1).mean() + 0.04

    @pytest.mark.parametrize("loss", [PICKING, SelectiveLoss()], ids=repr)
    def test_sparse_labels_train_alike(self, problem, loss):
        X, Z, *_ = problem
        clf = SinglePositiveClassifier(loss=loss, solver=Minibatch(max_epochs=4), random_state=0).fit(X, Z)
        sparse = clone(clf).fit(X, sp.csr_array(Z))
        np.testing.assert_allclose(sparse.coef_, clf.coef_, rtol=1e-6)

    @cases([AsymmetricLoss(), GeneralizedRobust(), PICKING])
    def test_solvers(self, problem, loss):
        """They are trained in minibatches; the automatic choice knows it."""
        X, Z, *_ = problem
        with pytest.raises(ValueError, match="neither convex nor a sequence of convex problems"):
            SinglePositiveClassifier(loss=loss, solver=FullBatch()).fit(X, Z)

    @pytest.mark.parametrize(
        "loss, refusal",
        [
            (PICKING, "keeps a state for every training row"),
            (EntropyMaximization(), None),
            (AsymmetricLoss(), None),
            (SPLC(), "changes from epoch to epoch"),
            (GeneralizedRobust(), "changes from epoch to epoch"),
        ],
    )
    def test_partial_fit(self, problem, loss, refusal):
        X, Z, *_ = problem
        clf = SinglePositiveClassifier(loss=loss, random_state=0)
        with nullcontext() if refusal is None else pytest.raises(ValueError, match=refusal):
            clf.partial_fit(X, Z).partial_fit(X, Z)
            assert clf.n_iter_ == 2


def test_entries_are_what_the_value_averages():
    x, y = draw(1)
    for loss in ALL:
        value, gradient = loss.entries(Block(y, x, dtype=x.dtype))
        step = loss.value_and_gradient(x, y)
        torch.testing.assert_close(step.value, value.mean())
        torch.testing.assert_close(step.gradient, gradient / x.numel())


@given(st.integers(0, 10**6))
def test_robust_between_its_limits(seed):
    x, labels = draw(seed)
    unknown = torch.zeros_like(labels)
    flat = {"center": (0.5, 0.5), "width": (1e6, 1e6), "slope": (0.0, 0.0)}  # V = 1
    p = torch.sigmoid(x)
    # K = 0 and q3 = 1 is the absolute error of absence; K = 1 and q2 near 0 is the cross-entropy of presence.
    torch.testing.assert_close(GeneralizedRobust(bias=(-50.0, -50.0), **flat)(x, unknown), p.mean())
    almost = GeneralizedRobust((1e-9, 1.0), bias=(50.0, 50.0), **flat)(x, unknown)
    torch.testing.assert_close(almost, IgnoreUnknown()(x, torch.ones_like(labels)), rtol=1e-6, atol=1e-6)
    known = labels.masked_fill(labels == 0, -1)
    torch.testing.assert_close(GeneralizedRobust()(x, known, epoch=3), AssumeNegative()(x, known))


def test_robust_schedule_ends():
    x, labels = draw(0)
    values = [GeneralizedRobust(n_epochs=4).value_and_gradient(x, labels, epoch=t).value for t in range(1, 7)]
    assert len({float(v) for v in values}) == 4
    assert values[3] == values[4] == values[5]


def test_released_schedule_of_the_robust_loss():
    """Slope and bias (t - 1) / E of the way, centre and width t / E; the docstring says how to have it."""
    released = GeneralizedRobust(slope=(0, 1.75), center=(0.5375, 0.8), width=(1.8125, 0.5))
    x, labels = draw(0)
    for epoch in range(1, 9):
        before, after = (epoch - 1) / 8, epoch / 8
        now = {"slope": 2 * before, "bias": -2, "center": 0.5 + 0.3 * after, "width": 2 - 1.5 * after}
        fixed = GeneralizedRobust(**{name: (value, value) for name, value in now.items()})
        torch.testing.assert_close(released(x, labels, epoch=epoch), fixed(x, labels))


def test_logits_beyond_half_precision_are_no_infinite_targets():
    state = PICKING.init_state(torch.zeros(2, 1))
    for epoch in range(1, 5):
        PICKING.value_and_gradient(torch.tensor([[1e6], [-1e6]]), torch.zeros(2, 1), state, epoch=epoch)
        assert torch.isfinite(state["logits"]).all()
        PICKING.end_epoch(state, epoch)


@pytest.mark.parametrize(
    "loss, message",
    [
        (AsymmetricLoss(gamma_absent=-1), r"AsymmetricLoss: gamma_absent must be a number in \[0, inf\), got -1"),
        (AsymmetricLoss(margin=1), r"AsymmetricLoss: margin must be a number in \[0, 1\), got 1"),
        (SelectiveLoss(prior_threshold=2), "SelectiveLoss: prior_threshold must be"),
        (SelectiveLoss(class_prior="guess"), "SelectiveLoss: class_prior must be 'estimate'"),
        (SelectiveLoss(class_prior=[0.1, 2]), r"SelectiveLoss: class_prior must be one number in \[0, 1\]"),
        (SelectiveLoss(class_prior=[0.1, 0.2]), "SelectiveLoss: class_prior has 2 numbers, but y has"),
        (SelectiveLoss(class_prior=["a", "b"]), r"SelectiveLoss: class_prior must be one number in \[0, 1\]"),
        (SPLC(warm_up=1.5), "SPLC: warm_up must be a whole number of at least 0, got 1.5"),
        (Hill(peak=1.0), r"Hill: peak must be a number in \[1.5, inf\), got 1.0"),
        (SPLC(threshold=1.5), r"SPLC: threshold must be a number in \[0, 1\]"),
        (EntropyMaximization(-0.1), "EntropyMaximization: entropy_weight must be"),
        (
            EntropyMaximization(pseudo_weight=1, warm_up=9, n_epochs=9),
            "n_epochs must be more than warm_up, got 9 and 9",
        ),
        (GeneralizedRobust(exponents=(0, 1)), r"GeneralizedRobust: exponents must be a number in \(0, 1\], got 0"),
        (GeneralizedRobust(width=1.0), "GeneralizedRobust: width must be a pair of numbers, got 1.0"),
        (GeneralizedRobust(width=(1.0, 0.0)), r"GeneralizedRobust: width must be a number in \(0, inf\), got 0.0"),
    ],
)
def test_refusals(loss, message, partial_data):
    X, Y = partial_data
    with pytest.raises(ValueError, match=message):
        SinglePositiveClassifier(loss).fit(X, Y)
