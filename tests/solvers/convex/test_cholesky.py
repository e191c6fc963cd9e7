"""Newton steps by factors, against solutions with the Hessian."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from skpartial.solvers.convex._cholesky import CholeskySolver, DualCholeskySolver, Matrix
from skpartial.solvers.convex._logistic import LogisticProblem


def logistic_problem(s, minus_a, alpha):
    """A data term of these entries."""
    problem = LogisticProblem.__new__(LogisticProblem)
    problem.s, problem.minus_a, problem.alpha, problem.count = s, minus_a, alpha, (s > 0).sum(1)
    return problem


@pytest.fixture
def rows():
    """Square features of five labels, their data terms, and parameters; the last rows only fill up."""
    generator = torch.Generator().manual_seed(0)
    root = torch.tril(torch.randn(5, 12, 12, generator=generator, dtype=torch.float64))
    s = torch.rand(5, 12, generator=generator, dtype=torch.float64)
    s[3:, 9:] = 0
    minus_a = -s * (torch.rand(5, 12, generator=generator, dtype=torch.float64) < 0.4)
    problem = logistic_problem(s, minus_a, torch.logspace(-6, 1, 5, dtype=torch.float64))
    return root, problem, torch.randn(5, 13, generator=generator, dtype=torch.float64)


def dual_solver(root, problem, theta, gram=None):
    """Set up where the parameters are."""
    design = SimpleNamespace(
        root=root,
        gram=root @ root.mT if gram is None else gram,
        forward=lambda theta: (root @ theta[:, :-1, None])[:, :, 0] + theta[:, -1:],
        backward=lambda r: torch.cat([(root.mT @ r[:, :, None])[:, :, 0], r.sum(1, keepdim=True)], dim=1),
    )
    solver = DualCholeskySolver(problem, design, theta, 0.0)
    solver.setup()
    return solver


def hessians(root, solver):
    bordered = torch.cat([root, torch.ones_like(root[:, :, :1])], dim=2)
    p = torch.sigmoid(solver.logits)
    curved = bordered * (solver.problem.s * p * (1 - p))[:, :, None]
    return bordered.mT @ curved + torch.diag_embed(solver.penalty)


def test_the_dual_step_solves_with_the_hessian(rows):
    solver = dual_solver(*rows)
    solver.inner_solve()
    expected = -torch.linalg.solve(hessians(rows[0], solver), solver.gradient)
    torch.testing.assert_close(solver.direction, expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(solver.estimate_gap(), -0.5 * (solver.gradient * expected).sum(1))


def test_certain_rows_do_not_disturb_it(rows):
    """Of rows without curvature only the gradient counts, on the right side of it or not."""
    root, problem, theta = rows
    theta[:, -1] += 1e4 * torch.tensor([1.0, -1, 1, -1, 1])
    solver = dual_solver(root, problem, theta)
    solver.inner_solve()
    assert torch.isfinite(solver.direction).all()
    assert ((solver.gradient * solver.direction).sum(1) < 0).all()


def test_primal_and_dual_steps_are_the_same_for_rows_that_all_labels_share(rows):
    root, problem, theta = rows
    shared = root[:1].expand(5, -1, -1)
    dual = dual_solver(shared, problem, theta.clone())
    matrix = torch.cat([shared[0], torch.ones(12, 1, dtype=torch.float64)], dim=1)
    columns = SimpleNamespace(matrix=lambda: matrix, to_features=None)
    penalty = torch.tensor(12 * [1.0] + [0.0], dtype=torch.float64)
    primal = CholeskySolver(problem, Matrix(columns), theta.clone(), penalty, 0.0)
    primal.setup()
    for solver in (dual, primal):
        solver.inner_solve()
    torch.testing.assert_close(primal.direction, dual.direction, rtol=1e-4, atol=1e-6)


def test_a_factor_that_fails_leaves_the_gradient(rows):
    root, problem, theta = rows
    solver = dual_solver(root, problem, theta, gram=-root @ root.mT)
    solver.inner_solve()
    assert ((solver.gradient * solver.direction).sum(1) < 0).all()
