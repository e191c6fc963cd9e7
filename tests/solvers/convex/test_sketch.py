"""The sketch that preconditions Hessians, against its definition."""

from __future__ import annotations

import numpy as np
import torch

from skpartial.features._matrix import ResidentFeatures
from skpartial.features._scaled import ScaledColumns
from skpartial.solvers.convex._sketch import Sketch


def plain(X):
    """Columns neither centred nor scaled."""
    d = X.shape[1]
    return ScaledColumns(ResidentFeatures(X), torch.zeros(d, dtype=X.dtype), torch.ones(d, dtype=X.dtype))


def as_matrix(sketch, curvature, alpha):
    """The approximate inverse Hessian of one label."""
    identity = torch.eye(sketch.basis.shape[1], dtype=torch.float64)
    return sketch.inverse(torch.tensor([curvature]).double(), torch.tensor([alpha]).double())(identity)


def test_a_sketch_of_full_rank_is_the_gram_matrix():
    X = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight /= weight.sum()
    sketch = Sketch(plain(X), weight, torch.ones(9, dtype=torch.float64), 8, torch.float64)
    hessian = torch.block_diag(0.3 * (X.T * weight) @ X + 0.02 * torch.eye(8), torch.tensor([[0.3]]).double())
    torch.testing.assert_close(as_matrix(sketch, 0.3, 0.02), torch.linalg.inv(hessian), rtol=1e-5, atol=1e-5)


def test_it_evens_out_leading_directions():
    """Columns of variances over six decades: with a few directions, those that are left differ little."""
    X = torch.randn(500, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    X[:, :10] *= torch.logspace(3, 1, 10, dtype=torch.float64)
    weight, penalty = torch.full((500,), 1 / 500, dtype=torch.float64), torch.ones(41, dtype=torch.float64)
    sketch = Sketch(plain(X), weight, penalty, 15, torch.float64)
    bordered = torch.cat([X, torch.ones(500, 1, dtype=torch.float64)], dim=1)
    hessian = 0.2 * bordered.T @ bordered / 500
    values = torch.linalg.eigvals(as_matrix(sketch, 0.2, 1e-6) @ hessian).real
    assert float(values.max() / values.min()) < 100
    assert float(torch.linalg.cond(hessian)) > 1e5


def test_the_preconditioner_is_positive_definite():
    """Whatever the penalties are: columns of very different units have very different ones."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(200, 80)) @ rng.normal(size=(80, 80)) ** 3)
    penalty = torch.tensor(np.append(10.0 ** rng.uniform(-8, 2, size=80), 0.0))
    sketch = Sketch(plain(X), torch.full((200,), 1 / 200, dtype=torch.float64), penalty, 64, torch.float64)
    torch.testing.assert_close(sketch.basis @ sketch.basis.T, torch.eye(65, dtype=torch.float64))
    for curvature in (1e-8, 1e-3, 1.0):
        assert float(torch.linalg.eigvalsh(as_matrix(sketch, curvature, 1.0)).min()) > 0
