"""Quasi-Newton directions and the sketch behind them, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.solvers import _quasi_newton
from skpartial.solvers._features import ResidentFeatures
from skpartial.solvers._logistic import LogisticProblem, Point
from skpartial.solvers._quasi_newton import QuasiNewton
from skpartial.solvers._sketch import Sketch


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


def logistic_point(n, d, n_labels, seed):
    """Labels somewhere on the way, with features, gradients as a function of a point, and a sketch."""
    generator = torch.Generator().manual_seed(seed)
    X = torch.randn(n, d, generator=generator, dtype=torch.float64)
    Y = (torch.rand(n_labels, n, generator=generator, dtype=torch.float64) < 0.4).double()
    penalty = torch.cat([torch.rand(d, generator=generator, dtype=torch.float64) + 0.5, torch.zeros(1)]).double()
    problem = LogisticProblem.__new__(LogisticProblem)
    problem.s, problem.minus_a, problem.count = torch.full_like(Y, 1 / n), -Y / n, torch.full((n_labels,), n)
    problem.alpha = torch.linspace(0.01, 0.1, n_labels, dtype=torch.float64)
    theta = torch.randn(n_labels, d + 1, generator=generator, dtype=torch.float64) / d
    sketch = Sketch(ResidentFeatures(X), torch.full((n,), 1 / n, dtype=torch.float64), penalty, 6)

    def at(theta):
        point = Point(problem, theta, theta[:, :-1] @ X.T + theta[:, -1:], penalty)
        data = torch.cat([point.residual @ X, point.residual.sum(1, keepdim=True)], dim=1)
        return point, data + problem.alpha[:, None] * penalty * theta

    return theta, sketch, at


def recursion(sketch, point, gradient, pairs):
    """The two loops of L-BFGS (Nocedal 1980), one label after the other."""
    everywhere, more = sketch.inverse(point.curvature, point.problem.alpha)
    directions = []
    for j, q in enumerate(gradient.clone()):
        first = everywhere[j] * torch.eye(len(q)) + sketch.basis.T * more[j] @ sketch.basis
        own = [(step[j], change[j]) for step, change in pairs]
        shares = []
        for step, change in own[::-1]:
            shares.append(step @ q / (step @ change))
            q = q - shares[-1] * change
        if own:
            step, change = own[-1]
            first = first * (step @ change) / (change @ first @ change)
        q = first @ q
        for (step, change), share in zip(own, shares[::-1]):
            q = q + step * (share - change @ q / (step @ change))
        directions.append(-q)
    return torch.stack(directions)


@pytest.mark.parametrize("n_steps", [0, 1, 5, 23])
def test_directions_are_those_of_the_recursion(n_steps):
    """The compact form, with pairs in a ring, another curvature in every step, and labels that are dropped."""
    theta, sketch, at = logistic_point(60, 9, 4, seed=n_steps)
    rule, pairs = QuasiNewton(sketch), []
    point, gradient = at(theta)
    for _ in range(n_steps):
        theta = theta + 0.5 * rule(point, gradient)
        new, new_gradient = at(theta)
        step, change = theta - point.theta, new_gradient - gradient
        rule.learn(step, change)
        pairs.append((step, change))
        point, gradient = new, new_gradient
    expected = recursion(sketch, point, gradient, pairs[-_quasi_newton._PAIRS :])
    torch.testing.assert_close(rule(point, gradient), expected)
    torch.testing.assert_close(rule(point, gradient), expected)  # asking changes nothing

    kept = torch.tensor([0, 2])
    rule.keep(kept)
    point.keep(kept)
    torch.testing.assert_close(rule(point, gradient[kept]), expected[kept])
    rule.forget(torch.tensor([True, False]))
    found = rule(point, gradient[kept])
    torch.testing.assert_close(found[:1], recursion(sketch, point, gradient[kept], [])[:1])
    torch.testing.assert_close(found[1:], expected[kept][1:])


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
