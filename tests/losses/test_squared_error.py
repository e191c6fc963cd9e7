"""Squared error in place of cross-entropy: every rule as before, with another function of the logit."""

from __future__ import annotations

import pytest
import torch
from sklearn.base import clone

from skpartial.losses import (
    BCE,
    AssumeNegative,
    Block,
    IgnoreUnknown,
    LargeLoss,
    PartialBCE,
    PseudoNegative,
    WeakAssumeNegative,
)

ALL = [
    BCE(label_smoothing=0.1),
    IgnoreUnknown(),
    PartialBCE(gamma=-1),
    AssumeNegative(label_smoothing=(0.02, 0.1), unknown_weight=0.3),
    WeakAssumeNegative(),
    PseudoNegative(),
    LargeLoss("correct", delta=0.1),
]


def batch(loss, scale=2.0):
    generator = torch.Generator().manual_seed(0)
    signs = torch.tensor([-1, 1] if isinstance(loss, BCE) else [-1, 0, 1])
    labels = signs[torch.randint(len(signs), (6, 4), generator=generator)]
    return scale * torch.randn(6, 4, generator=generator, dtype=torch.float64), labels


def squared(loss):
    return clone(loss).set_params(surrogate="squared")


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_value_is_the_formula(loss):
    logits, labels = batch(loss)
    target, weight = loss.targets(Block(labels, logits, dtype=torch.float64, epoch=2))
    weight = torch.ones_like(target) if weight is None else weight
    sample = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = (sample * weight * (logits - 2 * (2 * target - 1)) ** 2 / 8).sum() / sample.sum()
    # What a loss makes of an entry does not depend on its surrogate.
    found = squared(loss)(logits, labels, epoch=2, weights=sample)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", ALL, ids=repr)
def test_gradient_is_the_derivative(loss):
    logits, labels = batch(loss)
    step = squared(loss).value_and_gradient(logits, labels, epoch=2)
    torch.testing.assert_close(step.value, squared(loss)(logits, labels, epoch=2))
    for i, j in [(0, 0), (3, 2), (5, 3)]:
        moved = torch.zeros_like(logits)
        moved[i, j] = 1e-6
        above, below = (squared(loss)(logits + sign * moved, labels, epoch=2) for sign in (1, -1))
        assert float(step.gradient[i, j]) == pytest.approx(float(above - below) / 2e-6, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("loss", [each for each in ALL if not isinstance(each, LargeLoss)], ids=repr)
def test_expands_cross_entropy_about_zero(loss):
    """Gradients differ by no more than the third order of the logits."""
    logits, labels = batch(loss, scale=0.01)
    gradients = [each.value_and_gradient(logits, labels).gradient for each in (loss, squared(loss))]
    torch.testing.assert_close(*gradients, rtol=0, atol=float(logits.abs().max()) ** 3 / 48)
    assert not torch.equal(*gradients)


def test_soft_targets():
    """Its gradient is that of the mean target."""
    logits, labels = batch(IgnoreUnknown())
    targets = torch.where(labels == 0, 0.3, torch.nan).double()
    step = IgnoreUnknown(surrogate="squared").soft_step(logits, labels, targets)
    aim = torch.where(labels == 0, 0.3, (labels == 1).double())
    torch.testing.assert_close(step.gradient, (logits / 4 + 0.5 - aim) / labels.numel())
