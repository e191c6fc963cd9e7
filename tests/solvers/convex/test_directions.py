"""Newton directions, against solutions with the Hessian."""

from __future__ import annotations

import pytest
import torch

from skpartial.solvers.convex._directions import DualNewton, ExactNewton
from skpartial.solvers.convex._logistic import LogisticProblem, Point


@pytest.fixture
def rows():
    """Square features of five labels, and a point; the last rows only fill up."""
    generator = torch.Generator().manual_seed(0)
    root = torch.tril(torch.randn(5, 12, 12, generator=generator, dtype=torch.float64))
    problem = LogisticProblem.__new__(LogisticProblem)
    problem.s = torch.rand(5, 12, generator=generator, dtype=torch.float64)
    problem.s[3:, 9:] = 0
    problem.minus_a = -problem.s * (torch.rand(5, 12, generator=generator, dtype=torch.float64) < 0.4)
    problem.alpha = torch.logspace(-6, 1, 5, dtype=torch.float64)
    penalty = torch.ones(13, dtype=torch.float64)
    penalty[-1] = 0
    theta = torch.randn(5, 13, generator=generator, dtype=torch.float64)
    logits = (root @ theta[:, :-1, None])[:, :, 0] + theta[:, -1:]
    return root, Point(problem, theta, logits, penalty)


def hessians(root, point):
    bordered = torch.cat([root, torch.ones_like(root[:, :, :1])], dim=2)
    p = torch.sigmoid(point.logits)
    curved = bordered * (point.problem.s * p * (1 - p))[:, :, None]
    gradient = (bordered.mT @ point.residual[:, :, None])[:, :, 0]
    alpha = point.problem.alpha[:, None] * point.penalty
    return bordered.mT @ curved + torch.diag_embed(alpha), gradient + alpha * point.theta


def test_dual_newton_solves_with_the_hessian(rows):
    root, point = rows
    hessian, gradient = hessians(root, point)
    found = DualNewton(root, root @ root.mT)(point, gradient)
    torch.testing.assert_close(found, -torch.linalg.solve(hessian, gradient), rtol=1e-6, atol=1e-8)


def test_certain_rows_do_not_disturb_it(rows):
    """Of rows without curvature only the gradient counts, on the right side of it or not."""
    root, point = rows
    theta = point.theta
    theta[:, -1] += 1e4 * torch.tensor([1.0, -1, 1, -1, 1])
    point.move_to((root @ theta[:, :-1, None])[:, :, 0] + theta[:, -1:])
    _, gradient = hessians(root, point)
    found = DualNewton(root, root @ root.mT)(point, gradient)
    assert torch.isfinite(found).all()
    assert ((gradient * found).sum(1) < 0).all()


def test_exact_newton_is_the_same_for_rows_that_all_labels_share(rows):
    root, point = rows
    shared = root[:1].expand(5, -1, -1)
    point.move_to((shared @ point.theta[:, :-1, None])[:, :, 0] + point.theta[:, -1:])
    _, gradient = hessians(shared, point)
    bordered = torch.cat([shared[0], torch.ones(12, 1, dtype=torch.float64)], dim=1)
    dual = DualNewton(shared, shared @ shared.mT)(point, gradient)
    torch.testing.assert_close(ExactNewton(bordered)(point, gradient), dual, rtol=1e-4, atol=1e-6)


def test_a_factor_that_fails_leaves_the_gradient(rows):
    root, point = rows
    _, gradient = hessians(root, point)
    found = DualNewton(root, -root @ root.mT)(point, gradient)
    assert ((gradient * found).sum(1) < 0).all()
