"""Quasi-Newton directions and the sketch behind them, against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from skpartial.features._matrix import ResidentFeatures
from skpartial.solvers.convex import _quasi_newton
from skpartial.solvers.convex._logistic import LogisticProblem, Point
from skpartial.solvers.convex._quasi_newton import QuasiNewton
from skpartial.solvers.convex._sketch import Sketch, View


def test_a_sketch_of_full_rank_is_the_gram_matrix():
    X = torch.randn(50, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.rand(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight /= weight.sum()
    penalty = torch.ones(9, dtype=torch.float64)
    sketch = Sketch(ResidentFeatures(X), weight, penalty, 8)
    everywhere, more = sketch.inverse(torch.tensor([0.3]).double(), torch.tensor([0.02]).double())
    inverse = everywhere * torch.eye(9) + sketch.basis.T * more[0] @ sketch.basis
    hessian = torch.block_diag(0.3 * (X.T * weight) @ X + 0.02 * torch.eye(8), torch.tensor([[0.3]]).double())
    torch.testing.assert_close(inverse, torch.linalg.inv(hessian), rtol=1e-5, atol=1e-5)


def test_a_view_makes_it_the_hessian_of_each_label():
    """Labels of rows that lie apart, and spread otherwise, along the directions of the sketch."""
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)), dtype=torch.float64)
    offset = torch.tensor([5.0, 0, 0, 0], dtype=torch.float64)
    X = torch.cat(
        [signs * torch.tensor([1.0, 2.0, 0.1, 3.0]) + offset, signs * torch.tensor([2.0, 0.3, 0.5, 1.0]) - offset]
    )
    weight, penalty = torch.full((32,), 1 / 32, dtype=torch.float64), torch.tensor([1.0, 1, 1, 1, 0]).double()
    sketch = Sketch(ResidentFeatures(X), weight, penalty, 4)
    seen = torch.zeros(2, 32, dtype=torch.float64)
    seen[0, :16] = seen[1, 16:] = 1 / 16
    view = sketch.view(ResidentFeatures(X), seen)
    theta = torch.zeros(2, 5, dtype=torch.float64)
    problem = logistic_problem(seen, torch.zeros_like(seen), torch.tensor([0.02, 0.05], dtype=torch.float64))
    point = Point(problem, theta, theta[:, :-1] @ X.T + theta[:, -1:], penalty)
    bordered = torch.cat([X, torch.ones(32, 1, dtype=torch.float64)], dim=1)
    rule = QuasiNewton(sketch, view)
    for j in range(2):
        hessian = (bordered.T * seen[j] / 4) @ bordered + problem.alpha[j] * penalty.diag()
        gradient = torch.zeros(2, 5, dtype=torch.float64)
        gradient[j] = torch.tensor([0.3, -0.2, 0.5, 0.1, 0.7])
        torch.testing.assert_close(-rule(point, gradient)[j], torch.linalg.solve(hessian, gradient[j]))


def test_the_first_guess_is_positive_definite():
    """Whatever the penalties are: columns of very different units have very different ones."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(200, 80)) @ rng.normal(size=(80, 80)) ** 3)
    penalty = torch.tensor(np.append(10.0 ** rng.uniform(-8, 2, size=80), 0.0))
    sketch = Sketch(ResidentFeatures(X), torch.full((200,), 1 / 200, dtype=torch.float64), penalty, 64)
    torch.testing.assert_close(sketch.basis @ sketch.basis.T, torch.eye(65, dtype=torch.float64))
    for curvature in (1e-8, 1e-3, 1.0):
        same = torch.ones(1, dtype=torch.float64)
        everywhere, more = sketch.inverse(curvature * same, same)
        assert float(everywhere) > 0
        assert float((everywhere + more).min()) > 0


def logistic_problem(s, minus_a, alpha):
    """A data term of these entries."""
    problem = LogisticProblem.__new__(LogisticProblem)
    problem.s, problem.minus_a, problem.alpha = s, minus_a, alpha
    problem.count = (s > 0).sum(1)
    return problem


def logistic_point(n, d, n_labels, seed):
    """Labels somewhere on the way, with features, gradients as a function of a point, and a sketch."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    Y = (torch.rand(n_labels, n, generator=generator, dtype=torch.float64) < 0.4).double()
    penalty = torch.cat([torch.rand(d, generator=generator, dtype=torch.float64) + 0.5, torch.zeros(1)]).double()
    alpha = torch.linspace(0.01, 0.1, n_labels, dtype=torch.float64)
    problem = logistic_problem(torch.full_like(Y, 1 / n), -Y / n, alpha)
    theta = torch.randn(n_labels, d + 1, generator=generator, dtype=torch.float64) / d
    sketch = Sketch(ResidentFeatures(X), torch.full((n,), 1 / n, dtype=torch.float64), penalty, 6)

    def at(theta):
        point = Point(problem, theta, theta[:, :-1] @ X.T + theta[:, -1:], penalty)
        data = torch.cat([point.residual @ X, point.residual.sum(1, keepdim=True)], dim=1)
        return point, data + problem.alpha[:, None] * penalty * theta

    return theta, sketch, at


def recursion(sketch, point, gradient, pairs, view=None):
    """The two loops of L-BFGS (Nocedal 1980), one label after the other."""
    everywhere, more = sketch.inverse(point.curvature, point.problem.alpha, None if view is None else view.variances)
    directions = []
    for j, q in enumerate(gradient.clone()):
        first = everywhere[j] * torch.eye(len(q)) + sketch.basis.T * more[j] @ sketch.basis
        if view is not None:
            shift = torch.eye(len(q), dtype=q.dtype)
            shift[-1, :-1] = -view.means[j]
            first = shift @ first @ shift.T
        own = [(step[j], change[j]) for step, change in pairs]
        shares = []
        for step, change in own[::-1]:
            shares.append(step @ q / (step @ change))
            q = q - shares[-1] * change
        if own:
            # Of the pairs, the one along which the Hessian is smallest tells its size.
            first = first * max((step @ change) / (change @ first @ change) for step, change in own)
        q = first @ q
        for (step, change), share in zip(own, shares[::-1]):
            q = q + step * (share - change @ q / (step @ change))
        directions.append(-q)
    return torch.stack(directions)


@pytest.mark.parametrize("n_steps", [0, 1, 5, 23])
@pytest.mark.parametrize("viewed", [False, True])
def test_directions_are_those_of_the_recursion(n_steps, viewed):
    """The compact form, with pairs in a ring, another curvature in every step, and labels that are dropped."""
    theta, sketch, at = logistic_point(60, 9, 4, seed=n_steps)
    generator = torch.Generator().manual_seed(0)
    means, variances = torch.randn(4, 9, generator=generator), torch.rand(4, 6, generator=generator)
    view = View(0.3 * means.double(), variances.double() + 0.5) if viewed else None
    rule, pairs = QuasiNewton(sketch, view), []
    point, gradient = at(theta)
    for _ in range(n_steps):
        theta = theta + 0.5 * rule(point, gradient)
        new, new_gradient = at(theta)
        step, change = theta - point.theta, new_gradient - gradient
        rule.learn(step, change)
        pairs.append((step, change))
        point, gradient = new, new_gradient
    expected = recursion(sketch, point, gradient, pairs[-_quasi_newton._PAIRS :], view)
    torch.testing.assert_close(rule(point, gradient), expected)
    torch.testing.assert_close(rule(point, gradient), expected)  # asking changes nothing

    kept = torch.tensor([0, 2])
    rule.keep(kept)
    point.keep(kept)
    torch.testing.assert_close(rule(point, gradient[kept]), expected[kept])
    rule.forget()
    forgotten = recursion(sketch, point, gradient[kept], [], None if view is None else view.of(kept))
    torch.testing.assert_close(rule(point, gradient[kept]), forgotten)


def test_pairs_that_no_direction_was_asked_between():
    theta, sketch, at = logistic_point(60, 9, 4, seed=0)
    every_time, at_the_end, pairs = QuasiNewton(sketch), QuasiNewton(sketch), []
    point, gradient = at(theta)
    for _ in range(4):
        theta = theta + 0.5 * every_time(point, gradient)
        new, new_gradient = at(theta)
        pairs.append((theta - point.theta, new_gradient - gradient))
        for rule in (every_time, at_the_end):
            rule.learn(*pairs[-1])
        point, gradient = new, new_gradient
    torch.testing.assert_close(at_the_end(point, gradient), every_time(point, gradient))


def test_size_is_the_descent_that_the_first_guess_promises():
    theta, sketch, at = logistic_point(60, 9, 4, seed=0)
    point, gradient = at(theta)
    rule = QuasiNewton(sketch)
    torch.testing.assert_close(rule.size(point, gradient), -(gradient * rule(point, gradient)).sum(1))
