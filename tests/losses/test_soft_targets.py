"""Soft targets of a relabelling, which every loss takes: a presence with weight t and an absence with weight 1 - t."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skpartial import losses
from skpartial.losses import Block, EntrywiseLoss, IgnoreUnknown, LargeLoss, PartialBCE, PointwiseLoss
from skpartial.losses._registry import _by_name

NAMES = sorted(set(_by_name()) - {"bce"})
SETTINGS = {"role": {"expected_positives": 2.0}, "epr": {"expected_positives": 2.0}}


def make(name):
    return losses.get(name).set_params(**SETTINGS.get(name, {}))


def batch(seed=0, shape=(12, 6)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 2, shape, generator=generator)
    soft = torch.rand(shape, generator=generator, dtype=torch.float64)
    return logits, labels, torch.where(labels == 0, soft, torch.nan)


def step(loss, logits, labels, targets, *, given=None, **more):
    state = loss.init_state(labels if given is None else given, torch.Generator().manual_seed(0))
    return loss.soft_step(logits, labels, targets, state, rows=torch.arange(len(labels)), epoch=2, **more)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_certain_targets_are_labels(name, weighted):
    logits, labels, targets = batch()
    loss = make(name)
    targets = targets.round()
    known = torch.where(targets.isnan(), labels, 2 * targets.nan_to_num() - 1).long()
    more = {"weights": torch.rand(12, dtype=torch.float64)} if weighted else {}
    # A state begins with the labels that the user gave.
    soft, hard = (
        step(loss, logits, read, soft, given=labels, **more) for read, soft in ((labels, targets), (known, None))
    )
    torch.testing.assert_close(soft.value, hard.value)
    torch.testing.assert_close(soft.gradient, hard.gradient)


@pytest.mark.parametrize("name", NAMES)
def test_targets_count(name):
    """A loss that left them out would say the same of all of them."""
    logits, labels, targets = batch()
    soft = step(make(name), logits, labels, targets)
    other = step(make(name), logits, labels, torch.where(targets < 0.5, targets / 2, (1 + targets) / 2))
    unknown = labels == 0
    assert float((soft.gradient - other.gradient)[unknown].abs().max()) > 1e-4


@given(seed=st.integers(0, 1000), name=st.sampled_from([n for n in NAMES if isinstance(make(n), EntrywiseLoss)]))
def test_means_over_entries_are_mixtures(seed, name):
    """By calls with one soft entry read as each of its signs, which uses nothing of how mixtures are made."""
    logits, labels, targets = batch(seed, (4, 3))
    free = torch.nonzero(labels == 0)
    if not len(free):
        return
    i, j = free[0].tolist()
    t = float(targets[i, j])
    single = torch.full_like(targets, torch.nan)
    single[i, j] = t
    found = step(make(name), logits, labels, single)
    values, gradients = [], []
    for sign in (1, -1):
        read = labels.clone()
        read[i, j] = sign
        loss = make(name)
        state = loss.init_state(labels, torch.Generator().manual_seed(0))
        one = loss.value_and_gradient(logits, read, state, rows=torch.arange(4), epoch=2)
        values.append(float(one.value))
        gradients.append(one.gradient)
    assert float(found.value) == pytest.approx(t * values[0] + (1 - t) * values[1], rel=1e-9, abs=1e-12)
    torch.testing.assert_close(found.gradient, t * gradients[0] + (1 - t) * gradients[1])


@pytest.mark.parametrize("name", [n for n in NAMES if isinstance(make(n), PointwiseLoss) and make(n).eps == 0])
def test_targets_and_weights_of_a_rule_are_those_of_the_mixture(name):
    """What the convex solver is given has the gradient of the loss itself."""
    logits, labels, targets = batch()
    loss = make(name)
    state = loss.init_state(labels, torch.Generator().manual_seed(0))
    target, weight = loss.soft_targets(Block(labels, logits, state, torch.arange(12), 2, torch.float64), targets)
    gradient = (torch.sigmoid(logits) - target) * (1 if weight is None else weight) / labels.numel()
    torch.testing.assert_close(gradient, step(loss, logits, labels, targets).gradient)


def test_soft_targets_count_as_known():
    """The weight of a row under partial BCE follows the labels in use."""
    _, labels, targets = batch()
    loss = PartialBCE(gamma=1)
    complete = torch.where(labels == 0, 1, labels)
    weight = loss.targets(Block(complete, dtype=torch.float64)).weight
    _, found = loss.soft_targets(Block(labels, dtype=torch.float64), targets)
    torch.testing.assert_close(found, weight.expand_as(found))
    nothing = IgnoreUnknown().soft_targets(Block(labels, dtype=torch.float64), torch.full_like(targets, torch.nan))
    torch.testing.assert_close(nothing.weight, (labels != 0).double())


def test_corrections_for_good_are_the_loss_s_own():
    """What a relabelling says of an entry is not kept when it no longer says so."""
    logits, labels, targets = batch()
    loss = LargeLoss("correct_permanently", delta=0.05)
    state = loss.init_state(labels)
    loss.soft_step(logits, labels, targets, state, rows=torch.arange(12), epoch=2)
    assert torch.equal(state["labels"].long(), labels)
    assert np.isfinite(float(loss.soft_step(logits, labels, None, state, rows=torch.arange(12), epoch=3).value))
