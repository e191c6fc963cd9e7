"""Steps along directions, and the terms that objectives are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.losses import IgnoreUnknown
from skpartial.solvers._features import ResidentFeatures
from skpartial.solvers._logistic import LogisticProblem, Point, _softplus
from skpartial.solvers._problem import LabelSource
from skpartial.solvers._targets import FoldedTargets


@pytest.mark.parametrize("dtype, digits", [(torch.float32, 3e-7), (torch.float64, 1e-9)])
def test_softplus_keeps_the_digits_of_what_is_nearly_certain(dtype, digits):
    x = torch.linspace(-80, 80, 4001, dtype=dtype)
    given = x.clone()
    np.testing.assert_allclose(_softplus(x), np.logaddexp(0, x.double().numpy()), rtol=digits)
    torch.testing.assert_close(x, given, rtol=0, atol=0)


def test_a_step_tells_how_far_known_logits_move(make_problem):
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(50, 4)))
    X[:5] *= 100
    Y = rng.choice([-1, 1], size=(50, 3))
    Y[:5, 0] = 0  # rows that do not count for the first label, however far they move
    task = make_problem(ResidentFeatures(X), Y, IgnoreUnknown())
    folded = FoldedTargets(task, task.loss, LabelSource(task.labels, X.device))
    problem = LogisticProblem(folded, 0.1, X.dtype, X.device)
    penalty = torch.tensor([1.0, 1, 1, 1, 0]).double()
    point = Point(problem, torch.zeros(3, 5).double(), torch.zeros(3, 50).double(), penalty)
    gradient = torch.cat([point.residual @ X, point.residual.sum(1, keepdim=True)], dim=1)
    before, reach = point.logits.clone(), torch.zeros(3).double()
    along = -gradient[:, :-1] @ X.T
    point.advance(-gradient, along, -gradient.square().sum(1), reach=reach)
    moved = (point.logits - before).abs() * (torch.tensor(Y.T) != 0)
    torch.testing.assert_close(reach, moved.amax(1))
    assert reach[0] < (point.logits - before).abs()[0].max()
