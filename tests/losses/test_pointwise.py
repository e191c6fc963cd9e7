"""Identities of the pointwise losses, their gradients, and what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from skpartial import losses
from skpartial.labels import LabelMatrix
from skpartial.losses import (
    BCE,
    AssumeNegative,
    Block,
    IgnoreUnknown,
    PartialBCE,
    PointwiseLoss,
    PseudoNegative,
    WeakAssumeNegative,
)

ALL = [
    BCE(label_smoothing=0.1),
    IgnoreUnknown(),
    PartialBCE(),
    PartialBCE(gamma=-1),
    AssumeNegative(),
    AssumeNegative(label_smoothing=(0.02, 0.1), unknown_weight=0.3),
    WeakAssumeNegative(),
    PseudoNegative(),
]


@st.composite
def batches(draw, values=(-1, 0, 1)):
    n, n_labels = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = torch.tensor(rng.normal(scale=draw(st.sampled_from([0.1, 3.0, 30.0])), size=(n, n_labels)))
    return logits, torch.tensor(rng.choice(values, size=(n, n_labels)))


@pytest.mark.parametrize("eps", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_closed_gradient_is_the_derivative(loss, eps):
    """Against differences of the value; calling the loss has the same gradient."""
    rng = np.random.default_rng(3)
    labels = torch.tensor(rng.choice([-1, 1] if isinstance(loss, BCE) else [-1, 0, 1], size=(5, 4)))
    logits = torch.tensor(rng.normal(scale=4, size=(5, 4)), requires_grad=True)
    weights = torch.tensor(rng.random((5, 4)))
    loss = clone(loss).set_params(eps=eps)
    value = loss(logits, labels, weights=weights)
    value.backward()
    closed_value, closed, _ = loss.value_and_gradient(logits.detach(), labels, weights=weights)
    torch.testing.assert_close(closed_value, value.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(closed, logits.grad, rtol=1e-10, atol=1e-13)
    step = 1e-6
    for i, j in [(0, 0), (3, 2), (4, 3)]:
        moved = logits.detach().clone()
        moved[i, j] += step
        above = loss(moved, labels, weights=weights)
        moved[i, j] -= 2 * step
        difference = (above - loss(moved, labels, weights=weights)) / (2 * step)
        torch.testing.assert_close(closed[i, j], difference, rtol=1e-6, atol=1e-9)


@given(batches(values=(-1, 1)))
def test_every_loss_of_complete_labels_is_bce(batch):
    logits, labels = batch
    expected = BCE()(logits, labels)
    for loss in (IgnoreUnknown(), PartialBCE(), PartialBCE(gamma=-3), AssumeNegative(), WeakAssumeNegative()):
        torch.testing.assert_close(loss(logits, labels), expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        AssumeNegative(label_smoothing=0.1)(logits, labels), BCE(label_smoothing=0.1)(logits, labels)
    )


@given(batches())
def test_identities_between_the_losses(batch):
    logits, labels = batch
    n_labels = labels.shape[1]
    known = (labels != 0).sum(1, keepdim=True)
    torch.testing.assert_close(WeakAssumeNegative(1.0)(logits, labels), AssumeNegative()(logits, labels))
    torch.testing.assert_close(WeakAssumeNegative(0.0)(logits, labels), IgnoreUnknown()(logits, labels))
    gamma = 1 / max(1, n_labels - 1)
    torch.testing.assert_close(WeakAssumeNegative()(logits, labels), AssumeNegative(0.0, gamma)(logits, labels))
    torch.testing.assert_close(PartialBCE(weight_at=(0.3, 1))(logits, labels), IgnoreUnknown()(logits, labels))
    # gamma = -1 with g(0.1) = 10 is the mean over the known entries of each row.
    entries = torch.nn.functional.softplus(-labels * logits) * (labels != 0)
    rows = torch.where(known > 0, entries.sum(1, keepdim=True) / known.clamp(min=1), 0.0)
    mean_over_known = PartialBCE(gamma=-1, weight_at=(0.1, 10))(logits, labels)
    torch.testing.assert_close(mean_over_known, rows.mean(), rtol=1e-9, atol=1e-12)


@given(batches(), st.integers(0, 2**32 - 1))
def test_losses_of_known_entries_do_not_see_unknown_logits(batch, seed):
    logits, labels = batch
    noise = torch.tensor(np.random.default_rng(seed).normal(scale=10, size=logits.shape))
    moved = torch.where(labels == 0, noise, logits)
    for loss in (IgnoreUnknown(), PartialBCE()):
        assert loss(moved, labels) == loss(logits, labels)
        assert (loss.value_and_gradient(logits, labels)[1][labels == 0] == 0).all()


@given(batches(), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_weights_are_repetitions(batch, counts):
    logits, labels = batch
    repeats = torch.tensor(counts[: len(labels)])
    if repeats.sum() == 0:
        repeats[0] = 1
    for loss in (IgnoreUnknown(), PartialBCE(), AssumeNegative(0.1), WeakAssumeNegative()):
        repeated = loss(logits.repeat_interleave(repeats, 0), labels.repeat_interleave(repeats, 0))
        by_row = loss(logits, labels, weights=repeats.double())
        by_entry = loss(logits, labels, weights=repeats.double()[:, None].expand_as(logits))
        torch.testing.assert_close(by_row, repeated, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(by_entry, repeated, rtol=1e-10, atol=1e-14)


@given(st.integers(1, 9), st.floats(-5, 5).filter(lambda gamma: abs(gamma) > 0.01), st.floats(0.01, 0.9))
def test_partial_bce_weights_complete_rows_by_one(weight, gamma, proportion):
    loss = PartialBCE(gamma=gamma, weight_at=(proportion, weight))
    alpha, beta = loss.coefficients()
    assert alpha + beta == pytest.approx(1)
    assert alpha * proportion**gamma + beta == pytest.approx(weight, rel=1e-6)


@pytest.mark.parametrize("x", [1e4, -1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stable_at_extreme_logits(x, dtype):
    labels = torch.tensor([[1, -1, 1]])
    logits = torch.full((1, 3), x, dtype=dtype, requires_grad=True)
    for loss in (BCE(), IgnoreUnknown(), PartialBCE(), AssumeNegative(0.1), WeakAssumeNegative()):
        logits.grad = None
        value = loss(logits, labels)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()
    wrong = (labels == 1) != (x > 0)
    assert BCE()(logits, labels).item() == pytest.approx(1e4 * wrong.double().mean().item())


def test_confident_right_answers_keep_their_precision():
    """At x = 30 the loss is exp(-30), not zero and not rounding noise of 30."""
    value = IgnoreUnknown()(torch.tensor([[30.0]]), torch.tensor([[1]]))
    assert value.item() == pytest.approx(np.exp(-30), rel=1e-5)


class TestPseudoNegative:
    labels = torch.tensor([[1, 0, 0, 0, -1], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])

    def test_draws_one_unknown_entry_a_row(self):
        target, weight = PseudoNegative().targets(Block(self.labels))
        known = self.labels != 0
        assert (weight[known] == 1).all()
        drawn = (weight * ~known).sum(1)
        assert drawn.tolist() == [1, 1, 0, 1]
        assert (target[~known] == 0).all()

    def test_expectation_is_weak_assume_negative(self):
        logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        values = torch.stack([PseudoNegative()(logits, self.labels, epoch=epoch) for epoch in range(4000)])
        unknown = self.labels == 0
        weights = torch.where(unknown, 1 / unknown.sum(1, keepdim=True).clamp(min=1), 1.0)
        entries = torch.where(
            self.labels == 1, torch.nn.functional.softplus(-logits), torch.nn.functional.softplus(logits)
        )
        expected = (weights * entries).mean()
        error = values.std() / len(values) ** 0.5
        assert abs(values.mean() - expected) < 4 * error

    def test_draws_are_uniform(self):
        weights = sum(PseudoNegative().targets(Block(self.labels, epoch=epoch)).weight for epoch in range(6000))
        counts = weights[1][self.labels[1] == 0].numpy()
        # Chi-square with 3 degrees of freedom: above 16.3 once in a thousand.
        assert ((counts - 1500) ** 2 / 1500).sum() < 16.3

    def test_order_of_batches_does_not_matter(self):
        loss = PseudoNegative()
        state = loss.init_state(self.labels, torch.Generator().manual_seed(7))
        rows = torch.tensor([0, 1, 3])
        whole = loss.targets(Block(self.labels[rows], state=state, rows=rows, epoch=2)).weight
        shuffled = torch.tensor([2, 0, 1])
        parts = loss.targets(Block(self.labels[rows[shuffled]], state=state, rows=rows[shuffled], epoch=2)).weight
        assert torch.equal(parts, whole[shuffled])

    def test_seed_epoch_and_row_matter(self):
        loss, labels = PseudoNegative(), torch.zeros(50, 20)
        first = {"seed": torch.tensor(1)}
        base = loss.targets(Block(labels, state=first, epoch=1)).weight
        assert not torch.equal(base, loss.targets(Block(labels, state=first, epoch=2)).weight)
        assert not torch.equal(base, loss.targets(Block(labels, state={"seed": torch.tensor(2)}, epoch=1)).weight)
        assert len({tuple(row) for row in base.tolist()}) > 10

    def test_a_state_is_gone_on_from(self):
        previous = {"seed": torch.tensor(5)}
        assert PseudoNegative().init_state(self.labels, previous=previous) == previous


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_value_objects(loss):
    copy = pickle.loads(pickle.dumps(clone(loss)))
    assert repr(copy) == repr(loss)
    assert copy.get_params() == loss.get_params()
    assert isinstance(loss, PointwiseLoss)


def test_names():
    assert repr(losses.get("an_ls")) == repr(AssumeNegative(label_smoothing=0.05))
    classes = {
        "bce": BCE,
        "iu": IgnoreUnknown,
        "partial_bce": PartialBCE,
        "an": AssumeNegative,
        "an_ls": AssumeNegative,
        "wan": WeakAssumeNegative,
        "pseudo_negative": PseudoNegative,
        "epr": losses.ExpectedPositives,
        "role": losses.ROLE,
        "ll_r": losses.LargeLoss,
        "ll_ct": losses.LargeLoss,
        "ll_cp": losses.LargeLoss,
        "pairwise": losses.PairwiseRanking,
        "warp": losses.WARP,
        "ramp_warp": losses.RampWARP,
        "lsep": losses.LSEP,
        "zlpr": losses.ZLPR,
        "asl": losses.AsymmetricLoss,
        "csl": losses.SelectiveLoss,
        "hill": losses.Hill,
        "splc": losses.SPLC,
        "em": losses.EntropyMaximization,
        "gr": losses.GeneralizedRobust,
    }
    for name, kind in classes.items():
        assert type(losses.get(name)) is kind
        assert repr(name).strip("'") in losses.get.__doc__
    assert [losses.get(f"ll_{name}").scheme for name in ("r", "ct", "cp")] == [
        "reject",
        "correct",
        "correct_permanently",
    ]
    every = [kind for kind in vars(losses).values() if isinstance(kind, type) and issubclass(kind, losses.Loss)]
    assert set(classes.values()) == {kind for kind in every if kind.short_names}
    loss = BCE()
    assert losses.get(loss) is loss
    with pytest.raises(ValueError, match=r"loss must be a Loss or one of 'an'.*'bce'.* got 'bcee'"):
        losses.get("bcee")
    with pytest.raises(ValueError, match=r"write BCE\(\)"):
        losses.get(BCE)


@pytest.mark.parametrize(
    "loss, message",
    [
        (BCE(label_smoothing=0.5), r"BCE: label_smoothing must be a number in \[0, 0.5\), got 0.5"),
        (BCE(eps=-1), r"BCE: eps must be a number in \[0, 1\), got -1"),
        (PartialBCE(gamma=0), "gamma must not be 0"),
        (PartialBCE(gamma="1"), "gamma must be a number"),
        (PartialBCE(weight_at=(0.0, 5)), r"proportion, must be a number in \(0, 1\), got 0.0"),
        (PartialBCE(weight_at=(0.1, -1)), "weight, must be a number"),
        (PartialBCE(weight_at=5), "weight_at must be a pair"),
        (AssumeNegative(label_smoothing=(0.1, 0.2, 0.3)), "a pair"),
        (AssumeNegative(label_smoothing=(0.1, 0.6)), "label_smoothing must be"),
        (AssumeNegative(unknown_weight=2), r"unknown_weight must be a number in \[0, 1\], got 2"),
        (WeakAssumeNegative(unknown_weight="small"), "unknown_weight must be a number"),
        (WeakAssumeNegative(unknown_weight=True), "unknown_weight must be a number"),
        (AssumeNegative(eps=float("nan")), "eps must be a number"),
    ],
)
def test_hyperparameters_out_of_range(loss, message):
    with pytest.raises(ValueError, match=message):
        loss.check()
    with pytest.raises(ValueError, match=message):
        loss(torch.zeros(1, 2), torch.ones(1, 2))


def test_bce_refuses_unknown_entries():
    with pytest.raises(ValueError, match=r"y holds 2 unknown entries"):
        BCE().check(LabelMatrix.encode([[1, 0], [0, -1]]))
    with pytest.raises(ValueError, match="unknown entries"):
        BCE()(torch.zeros(1, 2), torch.tensor([[1, 0]]))


def test_weights_that_go_negative_are_refused():
    with pytest.raises(ValueError, match=r"proportion of 0\.2 known a negative weight"):
        PartialBCE(gamma=-1, weight_at=(0.5, 0.1))(torch.zeros(1, 5), torch.tensor([[1, 0, 0, 0, 0]]))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"logits has shape \(2, 3\), but labels has shape \(2, 2\)"):
        IgnoreUnknown()(torch.zeros(2, 3), torch.zeros(2, 2))
    with pytest.raises(ValueError, match=r"weights has shape \(3, 1\)"):
        IgnoreUnknown()(torch.zeros(2, 3), torch.zeros(2, 3), weights=torch.ones(3))


@settings(max_examples=30)
@given(batches())
def test_inputs_are_left_alone(batch):
    logits, labels = batch
    before = logits.clone(), labels.clone()
    for loss in ALL[1:]:
        loss(logits, labels, weights=torch.ones(len(labels), dtype=logits.dtype))
        loss.value_and_gradient(logits, labels)
    assert torch.equal(logits, before[0])
    assert torch.equal(labels, before[1])


def test_half_precision_does_not_overflow():
    """The sum over a large batch leaves the range of float16; the mean does not."""
    logits, labels = torch.full((256, 400), 3.0, dtype=torch.float16), torch.zeros(256, 400)
    for name in ("an", "hill", "an_ls"):
        whole, small = (losses.get(name)(logits[:n], labels[:n]) for n in (256, 2))
        assert whole.dtype == torch.float16
        torch.testing.assert_close(whole, small, rtol=2e-3, atol=0)
