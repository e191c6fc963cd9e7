"""Asymmetric, selective, Hill, SPLC, entropy maximisation and generalised robust losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skpartial import SinglePositiveClassifier
from skpartial.labels import keep_single_positive
from skpartial.losses import (
    SPLC,
    AssumeNegative,
    AsymmetricLoss,
    Block,
    EntropyMaximization,
    GeneralizedRobust,
    Hill,
    IgnoreUnknown,
    SelectiveLoss,
)
from skpartial.metrics import mean_average_precision
from skpartial.solvers import FullBatch, Minibatch

EPS = 1e-5
ALL = [
    AsymmetricLoss(),
    SelectiveLoss(),
    Hill(),
    SPLC(),
    EntropyMaximization(),
    EntropyMaximization(pseudo_weight=0.2, warm_up=1, n_epochs=4),
    GeneralizedRobust(),
]


def batch(seed, n=6, n_labels=5):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, n_labels, dtype=torch.float64, generator=generator) * 3
    return logits, torch.randint(-1, 2, (n, n_labels), generator=generator)


# ------------------------------------------------------------------------- against the authors' released code


@pytest.mark.parametrize(
    "name, loss, epoch, summed",
    [
        ("asl_sum_4_1_0.05", AsymmetricLoss(1, 4, 0.05), 1, True),
        ("hill_sum", Hill(), 1, True),
        ("splc_epoch0_sum", SPLC(), 1, True),
        ("splc_epoch1_sum", SPLC(), 2, True),
        ("em_a0.2", EntropyMaximization(0.2, eps=EPS), 1, False),
        (
            "gr_w1_b-2_mu.6_s1_q.01_1",
            GeneralizedRobust((0.01, 1), slope=(1, 1), bias=(-2, -2), center=(0.6, 0.6), width=(1, 1)),
            1,
            False,
        ),
        # Half of the way from first to last value: the same numbers, but for the centre and the width.
        (
            "gr_w1_b-2_mu.6_s1_q.01_1",
            GeneralizedRobust(center=(0.4, 0.8), width=(1.5, 0.5), n_epochs=9),
            5,
            False,
        ),
    ],
)
def test_golden(golden, name, loss, epoch, summed):
    arrays = golden("losses")
    x, y = torch.tensor(arrays["spml_logits"], requires_grad=True), torch.tensor(arrays["spml_obs_single_pos"])
    # The released code of four of them sums over entries.
    scale = y.numel() if summed else 1
    value = loss(x, y, epoch=epoch) * scale
    value.backward()
    np.testing.assert_allclose(value.detach(), arrays[f"later_{name}_loss"], atol=1e-6)
    np.testing.assert_allclose(x.grad, arrays[f"later_{name}_grad"], atol=1e-6)


def test_golden_soft_absences(golden):
    """The released code keeps a soft absence of target p as the label -p."""
    arrays = golden("losses")
    labels = torch.tensor(arrays["later_apl_obs"])
    soft = torch.where(labels < 0, -labels, torch.nan)
    state = {"soft_absences": soft, "logits": torch.full_like(labels, torch.nan)}
    loss = EntropyMaximization(0.2, pseudo_weight=0.02, eps=EPS)
    step = loss.value_and_gradient(torch.tensor(arrays["spml_logits"]), labels.clamp(min=0), state)
    np.testing.assert_allclose(step.value, arrays["later_em_apl_a0.2_b0.02_loss"], atol=1e-6)
    np.testing.assert_allclose(step.gradient, arrays["later_em_apl_a0.2_b0.02_grad"], atol=1e-6)


# --------------------------------------------------------------------------------------- formulas and identities


def finite_difference(loss, x, labels, state=None, epoch=1):
    gradient, h = torch.zeros_like(x), 1e-6
    for index in np.ndindex(*x.shape):
        step = torch.zeros_like(x)
        step[index] = h
        up, down = (loss(x + sign * step, labels, state, epoch=epoch) for sign in (1, -1))
        gradient[index] = (up - down) / (2 * h)
    return gradient


@pytest.mark.parametrize(
    "loss, epoch",
    [(Hill(), 1), (Hill(0.3, 2.0), 1), (SPLC(gamma=1.5), 1), (SPLC(), 2), (EntropyMaximization(eps=EPS), 1)],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gradient_is_the_derivative(loss, epoch, seed):
    """Of those that hold no weight fixed; no drawn logit lies at SPLC's threshold."""
    x, labels = batch(seed, n=3)
    gradient = loss.value_and_gradient(x, labels, epoch=epoch).gradient
    torch.testing.assert_close(gradient, finite_difference(loss, x, labels, epoch=epoch), atol=1e-8, rtol=1e-6)


@given(st.integers(0, 10**6))
def test_without_focusing_asymmetric_is_assume_negative(seed):
    x, labels = batch(seed)
    ours, plain = AsymmetricLoss(0, 0, 0), AssumeNegative()
    torch.testing.assert_close(ours(x, labels), plain(x, labels))
    torch.testing.assert_close(
        ours.value_and_gradient(x, labels).gradient, plain.value_and_gradient(x, labels).gradient
    )


@given(st.integers(0, 10**6), st.floats(0, 3), st.floats(0, 4))
def test_selective_without_selection_is_partial_asymmetric(seed, n_ignored, gamma):
    x, labels = batch(seed)
    loss = SelectiveLoss(0.5, 1.0, gamma, n_ignored=n_ignored)
    ignored = loss.ignored(Block(labels, x))
    k = min(int(n_ignored * len(x)), int((labels == 0).sum()))
    assert int(ignored.sum()) == k
    assert not ignored[labels != 0].any()
    if 0 < k < int((labels == 0).sum()):
        assert x[ignored].min() > x[(labels == 0) & ~ignored].max()
    unknown = AsymmetricLoss(0.5, gamma).value_and_gradient(x, labels).gradient
    absent = AsymmetricLoss(0.5, 1.0).value_and_gradient(x, labels).gradient
    expected = torch.where(labels == 0, unknown, absent).masked_fill(ignored, 0)
    torch.testing.assert_close(loss.value_and_gradient(x, labels).gradient, expected)


def test_selective_priors():
    labels = torch.tensor([[1, 1, 0, -1], [1, 1, 0, -1], [-1, 0, 0, 1]])
    loss = SelectiveLoss(n_ignored=0)
    state = loss.init_state(labels)
    # The second label has presences only, the third nothing: neither says how common it is.
    torch.testing.assert_close(state["class_prior"], torch.tensor([2 / 3, 0, 0, 1 / 3], dtype=torch.float64))
    block = Block(torch.zeros(2, 4), torch.zeros(2, 4), state)
    assert loss.ignored(block).tolist() == [[True, False, False, False]] * 2
    chosen = SelectiveLoss(n_ignored=0, class_prior=[0.1, 0.9, 0.6, 0.0])
    assert chosen.ignored(Block(block.labels, block.logits, chosen.init_state(labels)))[0].tolist() == [0, 1, 1, 0]
    assert loss.fitted_attributes(state)["class_prior_"].shape == (4,)


@given(st.integers(0, 10**6), st.integers(2, 9))
def test_splc_takes_confident_unknown_entries_as_present(seed, epoch):
    x, labels = batch(seed)
    taken = (labels == 0) & (torch.sigmoid(x) > 0.6)
    first, later = (SPLC(margin=0.0).value_and_gradient(x, labels, epoch=t).gradient for t in (1, epoch))
    as_present = SPLC(margin=0.0).value_and_gradient(x, labels.masked_fill(taken, 1), epoch=1).gradient
    torch.testing.assert_close(later, as_present)
    assert (first[labels == 0] > 0).all()
    torch.testing.assert_close(
        SPLC(warm_up=epoch).value_and_gradient(x, labels, epoch=epoch).gradient,
        SPLC().value_and_gradient(x, labels, epoch=1).gradient,
    )


@given(st.floats(-20, 20))
def test_entropy_pushes_away_from_one_half_never_to_it(x):
    """The term is lowest at one half, so that its gradient has the sign of the logit, and vanishes for sure ones."""
    step = EntropyMaximization(0.3).value_and_gradient(torch.tensor([[x]], dtype=torch.float64), torch.zeros(1, 1))
    p = 1 / (1 + math.exp(-x))
    entropy = 0.0 if p in (0, 1) else -(p * math.log(p) + (1 - p) * math.log1p(-p))
    assert float(step.value) == pytest.approx(-0.3 * entropy, abs=1e-9)
    assert float(step.gradient) == pytest.approx(0.3 * x * p * (1 - p), abs=1e-12)
    assert abs(float(step.gradient)) < 0.3 * 0.23


@given(st.integers(0, 10**6))
def test_robust_between_its_limits(seed):
    x, labels = batch(seed)
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
    x, labels = batch(0)
    values = [GeneralizedRobust(n_epochs=4).value_and_gradient(x, labels, epoch=t).value for t in range(1, 7)]
    assert len({float(v) for v in values}) == 4
    assert values[3] == values[4] == values[5]


@pytest.mark.parametrize("loss", ALL, ids=repr)
class TestEvery:
    def test_weights_repeat_rows(self, loss):
        x, labels = batch(4)
        counts = torch.tensor([2, 1, 3, 1, 2, 1])
        if isinstance(loss, SelectiveLoss):
            loss = SelectiveLoss(n_ignored=0)  # how many are ignored counts rows, not weights
        again = torch.repeat_interleave(torch.arange(6), counts)
        torch.testing.assert_close(loss(x, labels, weights=counts), loss(x[again], labels[again]))

    def test_extreme_logits(self, loss):
        x = torch.tensor([[1e4, -1e4, 300.0, 0.0], [-1e4, 1e4, -300.0, -90.0]])
        for labels in (torch.zeros(2, 4), torch.ones(2, 4), -torch.ones(2, 4)):
            for epoch in (1, 9):
                step = loss.value_and_gradient(x, labels, epoch=epoch)
                assert torch.isfinite(step.value)
                assert torch.isfinite(step.gradient).all()

    def test_known_entries_are_drawn_to_their_side(self, loss):
        x, labels = batch(5)
        labels[labels == 0] = 1
        gradient = loss.value_and_gradient(x.clamp(-2, 2), labels, epoch=9).gradient
        assert (gradient[labels == 1] < 0).all()
        beyond = (labels == -1) & (torch.sigmoid(x) > 0.06)  # ASL discards absences below its margin
        assert (gradient[beyond] > 0).all()

    def test_learns(self, loss):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((1500, 12)).astype(np.float32)
        Y = np.where(X @ rng.standard_normal((12, 5)) > 2.0, 1, -1)
        X, Y = X[(Y == 1).any(1)], Y[(Y == 1).any(1)]
        Z, half = np.asarray(keep_single_positive(Y, random_state=0)), len(X) // 2
        clf = SinglePositiveClassifier(loss, solver=Minibatch(max_epochs=15), random_state=0).fit(X[:half], Z[:half])
        chance = (Y[half:] == 1).mean()
        assert mean_average_precision(Y[half:], clf.decision_function(X[half:])) > chance + 0.4
        with pytest.raises(ValueError, match="Use solver=Minibatch"):
            SinglePositiveClassifier(loss, solver=FullBatch()).fit(X, Z)


# ---------------------------------------------------------------------------------------------- soft absences


class TestSoftAbsences:
    loss = EntropyMaximization(pseudo_weight=0.3, warm_up=2, n_epochs=5)

    def run(self, order, n_epochs=6):
        x, labels = batch(0, n=40)
        state, given_labels = self.loss.init_state(labels), labels.clone()
        counts = []
        for epoch in range(1, n_epochs + 1):
            for rows in order.split(7):
                self.loss.value_and_gradient(x[rows] + epoch, labels[rows], state, rows=rows, epoch=epoch)
            self.loss.end_epoch(state, epoch)
            counts.append((~state["soft_absences"].isnan()).sum(0))
        assert torch.equal(labels, given_labels)
        return x, labels, state, torch.stack(counts)

    def test_counts_and_choice(self):
        x, labels, state, counts = self.run(torch.arange(40))
        n_unknown = (labels == 0).sum(0)
        each = (0.3 * n_unknown + 1e-9).long()
        steps = torch.tensor([0, 1, 2, 3, 3, 3])[:, None]
        assert torch.equal(counts, steps * each)
        soft = ~state["soft_absences"].isnan()
        assert not soft[labels != 0].any()
        for label in range(5):
            left = x[(labels[:, label] == 0) & ~soft[:, label], label]
            assert not len(left) or x[soft[:, label], label].max() <= left.min()

    def test_targets_are_the_probabilities_when_chosen(self):
        x, _, state, _ = self.run(torch.arange(40), n_epochs=2)
        soft = ~state["soft_absences"].isnan()
        expected = torch.sigmoid(x + 2)[soft]
        torch.testing.assert_close(state["soft_absences"][soft].double(), expected, rtol=4e-3, atol=1e-6)

    def test_order_of_rows_does_not_matter(self):
        one = self.run(torch.arange(40))[2]["soft_absences"]
        other = self.run(torch.randperm(40, generator=torch.Generator().manual_seed(1)))[2]["soft_absences"]
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))

    def test_fit(self):
        rng = np.random.default_rng(0)
        X = rng.standard_normal((800, 12)).astype(np.float32)
        Y = np.where(X @ rng.standard_normal((12, 5)) > 2.0, 1, -1)
        X, Y = X[(Y == 1).any(1)], Y[(Y == 1).any(1)]
        Z = np.asarray(keep_single_positive(Y, random_state=0))
        clf = SinglePositiveClassifier(
            EntropyMaximization(pseudo_weight=0.2, warm_up=3, n_epochs=8),
            solver=Minibatch(max_epochs=5),
            random_state=0,
        ).fit(X, Z)
        soft = ~np.isnan(clf.soft_absences_)
        assert (Z[soft] == 0).all()
        assert soft.sum() == pytest.approx(0.9 * 3 / 5 * (Z == 0).sum(), rel=0.02)
        assert (Y[soft] == -1).mean() > 0.97 > (Y[Z == 0] == -1).mean() + 0.05


# -------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "loss, message",
    [
        (AsymmetricLoss(gamma_absent=-1), r"AsymmetricLoss: gamma_absent must be a number in \[0, inf\), got -1"),
        (AsymmetricLoss(margin=1), r"AsymmetricLoss: margin must be a number in \[0, 1\), got 1"),
        (SelectiveLoss(prior_threshold=2), "SelectiveLoss: prior_threshold must be"),
        (SelectiveLoss(class_prior="guess"), "SelectiveLoss: class_prior must be 'estimate'"),
        (SelectiveLoss(class_prior=[0.1, 2]), r"SelectiveLoss: class_prior must be one number in \[0, 1\]"),
        (SelectiveLoss(class_prior=[0.1, 0.2]), "SelectiveLoss: class_prior has 2 numbers, but y has"),
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
