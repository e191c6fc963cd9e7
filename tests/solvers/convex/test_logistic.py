"""The terms that objectives are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.features._matrix import ResidentFeatures
from skpartial.losses import AssumeNegative
from skpartial.solvers.convex._logistic import LogisticProblem, smaller_probability
from skpartial.training._data import DataSource
from skpartial.training._targets import FoldedTargets


@pytest.mark.parametrize("dtype, digits", [(torch.float32, 3e-7), (torch.float64, 1e-13)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_what_is_all_but_certain_keeps_its_digits(make_problem, dtype, digits, smoothing):
    """Losses, first and second derivatives of logits up to 80, against extended precision."""
    x = torch.linspace(-80, 80, 4001, dtype=dtype)[:, None]
    given = x.clone()
    for sign in (1, -1):
        Y = np.full((len(x), 1), sign)
        Y[:10] = -sign
        task = make_problem(ResidentFeatures(x), Y, AssumeNegative(label_smoothing=smoothing))
        problem = LogisticProblem(
            FoldedTargets(task, task.loss, DataSource(task.data, task.weights, x.device, dtype)), 0, dtype, x.device
        )
        everything, q = slice(None), smaller_probability(x.T)
        target, z = -problem.minus_a.numpy()[0] / problem.s.numpy()[0], x.numpy()[:, 0].astype(np.longdouble)
        one, p, other = np.longdouble(1), 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(z))
        target = target.astype(np.longdouble)
        size = np.longdouble(problem.s.numpy()[0])
        residual = size * ((one - target) * p - target * other)
        # A smoothed target is met somewhere, where the two parts of the derivative cancel.
        atol = digits * float(problem.s[0, 0]) if smoothing else 0
        found = problem.residual(everything, x.T, q).numpy()[0]
        np.testing.assert_allclose(found, residual.astype(np.float64), rtol=digits, atol=atol)
        found = problem.curvature(everything, q).numpy()[0]
        np.testing.assert_allclose(found, (size * p * other).astype(np.float64), rtol=digits)
        losses = size * (target * np.logaddexp(0, -z) + (one - target) * np.logaddexp(0, z))
        certain = slice(3000, 4001) if sign > 0 else slice(10, 1000)
        for part in (slice(None), certain):
            few = problem.take_rows(torch.arange(len(x))[part])
            found = few.data_term(slice(None), x.T[:, part])
            assert float(found) == pytest.approx(float(losses[part].sum()), rel=digits)
    torch.testing.assert_close(x, given, rtol=0, atol=0)
