"""Inner systems solved by conjugate gradients, against solutions by factors."""

from __future__ import annotations

import pytest
import torch

from skpartial.solvers.convex._conjugate_gradients import InnerSystems


def product(matrices):
    return lambda v: (matrices @ v[:, :, None])[:, :, 0]


@pytest.fixture
def models():
    """Hessians, inverses that are about right, and gradients of three labels."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(3, 40, 20, generator=generator, dtype=torch.float64)
    hessian = draw.mT @ draw + 0.1 * torch.eye(20, dtype=torch.float64)
    scale = torch.rand(3, 20, generator=generator, dtype=torch.float64) + 0.5
    inverse = torch.diag_embed(scale / hessian.diagonal(dim1=1, dim2=2))
    return hessian, inverse, torch.randn(3, 20, generator=generator, dtype=torch.float64)


def systems(models):
    hessian, inverse, gradient = models
    return InnerSystems(product(hessian), product(inverse), gradient, torch.zeros(3, dtype=torch.float64))


def above(models, solution):
    """How far quadratic models are above their minima."""
    hessian, _, gradient = models
    rest = solution + torch.linalg.solve(hessian, gradient)
    return 0.5 * torch.einsum("ki,kij,kj->k", rest, hessian, rest)


def test_steps_lead_to_the_minimum(models):
    hessian, _, gradient = models
    inner = systems(models)
    for _ in range(25):
        inner.step()
    torch.testing.assert_close(inner.solution, -torch.linalg.solve(hessian, gradient))
    torch.testing.assert_close(inner.descent, above(models, torch.zeros_like(gradient)))


def test_descents_and_residuals_are_those_of_the_models(models):
    hessian, _, gradient = models
    inner, start = systems(models), above(models, torch.zeros_like(models[2]))
    for n_steps in range(1, 8):
        before = inner.solution.clone()
        inner.step()
        torch.testing.assert_close(inner.residual, -gradient - product(hessian)(inner.solution))
        torch.testing.assert_close(inner.descent, start - above(models, inner.solution))
        if n_steps == 7:
            assert (inner.recent > above(models, before) - above(models, inner.solution)).all()


def test_what_is_left_is_told_from_what_steps_have_brought(models):
    """Unknown at first, then never far below the truth, though predictions are."""
    inner = systems(models)
    for n_steps in range(1, 16):
        inner.step()
        if n_steps < 5:
            assert torch.isinf(inner.remaining).all()
        elif n_steps > 6:
            assert (inner.remaining > 0.3 * above(models, inner.solution)).all()


def test_an_inverse_that_is_too_small_is_found_out(models):
    """By a factor of a hundred: predictions are as much too small."""
    hessian, inverse, gradient = models
    expected, inner = systems(models), systems((hessian, inverse / 100, gradient))
    for _ in range(8):
        expected.step()
        inner.step()
    torch.testing.assert_close(inner.solution, expected.solution)
    torch.testing.assert_close(inner.remaining, expected.ratio * inner.remaining / inner.ratio * 100)
    assert (inner.remaining > 0.3 * above(models, inner.solution)).all()


def test_a_label_at_its_minimum_stays_there(models):
    hessian, inverse, gradient = models
    gradient[1] = 0
    inner = systems((hessian, inverse, gradient))
    inner.step()
    assert torch.isfinite(inner.solution).all()
    assert not inner.solution[1].any()
    assert inner.remaining[1] == 0
    assert inner.moves.tolist() == [True, False, True]


def test_a_hessian_that_rounding_has_turned_ends_the_steps(models):
    """Of that label; the others go on."""
    hessian, inverse, gradient = models
    turned = hessian.clone()
    turned[1] = -hessian[1]
    inner, expected = systems((turned, inverse, gradient)), systems(models)
    for _ in range(9):
        inner.step()
        expected.step()
    assert torch.isfinite(inner.remaining).all()
    assert not inner.solution[1].any()
    torch.testing.assert_close(inner.solution[[0, 2]], expected.solution[[0, 2]])
