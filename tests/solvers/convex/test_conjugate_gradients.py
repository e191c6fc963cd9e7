"""Newton steps by conjugate gradients, against solutions by factors."""

from __future__ import annotations

import pytest
import torch

from skpartial.solvers.convex import _conjugate_gradients
from skpartial.solvers.convex._conjugate_gradients import newton_steps

EVERY = torch.tensor([True, True, True])


@pytest.fixture
def models():
    """Hessians, inverses that are about right, and gradients of three labels."""
    generator = torch.Generator().manual_seed(0)
    draw = torch.randn(3, 40, 20, generator=generator, dtype=torch.float64)
    hessian = draw.mT @ draw + 0.1 * torch.eye(20, dtype=torch.float64)
    scale = torch.rand(3, 20, generator=generator, dtype=torch.float64) + 0.5
    inverse = torch.diag_embed(scale / hessian.diagonal(dim1=1, dim2=2))
    return hessian, inverse, torch.randn(3, 20, generator=generator, dtype=torch.float64)


def steps(models, *, penalty=0.0, enough=0.0, urgent=EVERY):
    hessian, inverse, gradient = models
    allowed = torch.full((3,), enough, dtype=torch.float64)
    return newton_steps(
        lambda v: (hessian @ v[:, :, None])[:, :, 0],
        lambda v: (inverse @ v[:, :, None])[:, :, 0],
        gradient,
        torch.full_like(gradient, penalty),
        allowed,
        urgent,
    )


def above(models, step):
    """How far quadratic models are above their minima."""
    hessian, _, gradient = models
    rest = step + torch.linalg.solve(hessian, gradient)
    return 0.5 * torch.einsum("ki,kij,kj->k", rest, hessian, rest)


def test_steps_lead_to_the_minimum(models):
    hessian, _, gradient = models
    step, _ = steps(models)
    torch.testing.assert_close(step, -torch.linalg.solve(hessian, gradient))


@pytest.mark.parametrize("n_steps", [6, 8, 12])
def test_what_is_left_is_the_descent_of_the_last_steps(models, monkeypatch, n_steps):
    """That is how far the model was above its minimum before them, but for how far it is now."""
    monkeypatch.setattr(_conjugate_gradients, "_MAX_STEPS", n_steps)
    step, left = steps(models)
    monkeypatch.setattr(_conjugate_gradients, "_MAX_STEPS", n_steps - _conjugate_gradients._DELAY)
    before, _ = steps(models)
    torch.testing.assert_close(left, above(models, before) - above(models, step))


def test_steps_end_when_that_is_enough(models):
    step, left = steps(models, enough=1e-3)
    assert (left <= 1e-3).all()
    assert (above(models, step) <= left).all()
    assert (above(models, step) > 1e-12).all()  # no further than asked


def test_only_urgent_labels_are_waited_for(models):
    hessian, inverse, gradient = models
    gradient = gradient * torch.tensor([[1e3], [1.0], [1e3]], dtype=torch.float64)
    _, left = steps((hessian, inverse, gradient), enough=1e-3, urgent=torch.tensor([False, True, False]))
    assert left[1] <= 1e-3 < left[[0, 2]].min()


def test_few_steps_tell_nothing(models, monkeypatch):
    monkeypatch.setattr(_conjugate_gradients, "_MAX_STEPS", _conjugate_gradients._DELAY - 1)
    _, left = steps(models)
    assert torch.isinf(left).all()


def test_a_label_at_its_minimum_stays_there(models):
    hessian, inverse, gradient = models
    gradient[1] = 0
    step, left = steps((hessian, inverse, gradient))
    assert torch.isfinite(step).all()
    assert not step[1].any()
    assert left[1] == 0


def test_slow_steps_are_not_taken_for_the_end(monkeypatch):
    """Most of the gradient lies where the curvature is large, most of what can be gained where there is only a penalty.

    The inverse takes all directions to be alike. The first steps gain little, one like the other.
    """
    generator = torch.Generator().manual_seed(0)
    curvature = torch.cat([torch.linspace(0.3, 1, 30), torch.zeros(10)]).double()
    axes = torch.linalg.qr(torch.randn(40, 40, generator=generator).double()).Q
    hessian = (axes * (curvature + 1e-8)) @ axes.T
    gradient = axes @ torch.where(curvature > 0, 1e-3, 1e-6).double()
    model = hessian.expand(3, -1, -1), torch.eye(40).double().expand(3, -1, -1), gradient.expand(3, -1)
    step, left = steps(model, penalty=1e-8, enough=1e-6)
    assert (above(model, step) <= 1e-6).all()
    assert (left <= 1e-6).all()
    # Without it, or if there is no time for more steps, it would end, or ends, where much is left.
    step, left = steps(model, enough=1e-6)
    assert (above(model, step) > 1e-4).all()
    monkeypatch.setattr(_conjugate_gradients, "_MAX_STEPS", 6)
    step, left = steps(model, penalty=1e-8, enough=1e-6)
    assert (left > 1e-6).all()


def test_a_hessian_that_rounding_has_turned_ends_the_steps(models):
    """Of that label; the others go on."""
    hessian, inverse, gradient = models
    expected, _ = steps(models)
    turned = hessian.clone()
    turned[1] = -hessian[1]
    step, left = steps((turned, inverse, gradient))
    assert torch.isfinite(left).all()
    assert not step[1].any()
    torch.testing.assert_close(step[[0, 2]], expected[[0, 2]])
