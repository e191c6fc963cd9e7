"""Tasks that share their features, solved together: each as if it were solved alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.features._matrix import ResidentFeatures
from skpartial.losses import AssumeNegative, IgnoreUnknown, LargeLoss, PartialBCE
from skpartial.solvers import FullBatch, _full_batch
from skpartial.solvers._base import solve_tasks
from skpartial.solvers.convex import _rounds


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 90)) * rng.uniform(0.3, 2, size=90) + 0.5
    logits = X @ rng.normal(size=(90, 4)) / 5
    complete = np.where(rng.logistic(size=logits.shape) < logits, 1, -1)
    return X, np.where(rng.random(complete.shape) < 0.6, complete, 0).astype(np.int8)


@pytest.fixture
def problems(make_problem):
    """Makes problems that share features, labels and weights, from losses and penalties."""

    def make(data, losses_and_alphas, dtype=torch.float64, weights=None):
        X, Y = data
        features = ResidentFeatures(torch.tensor(X, dtype=dtype))
        return [make_problem(features, Y, loss, alpha=alpha, weight=weights) for loss, alpha in losses_and_alphas]

    return make


@pytest.fixture
def rounds(monkeypatch):
    """How many labels each round had."""
    sizes = []
    solve = _rounds.solve_round

    def counted(features, convex, *args, **kwargs):
        sizes.append(len(convex.s))
        return solve(features, convex, *args, **kwargs)

    monkeypatch.setattr(_rounds, "solve_round", counted)
    return sizes


CANDIDATES = [
    (IgnoreUnknown(), 1e-3),
    (IgnoreUnknown(), 1.0),
    (PartialBCE(gamma=-1), 1e-2),
    (AssumeNegative(label_smoothing=0.2), 1e-2),
]


@pytest.mark.filterwarnings("ignore:.*as close to their optimum as float32 allows")
@pytest.mark.parametrize("dtype, atol", [(torch.float64, 1e-6), (torch.float32, 1e-2)], ids=str)
def test_convex_problems(data, problems, rounds, dtype, atol):
    weights = np.random.default_rng(1).random(len(data[1]))
    tasks = [(FullBatch(tol=1e-14), problem) for problem in problems(data, CANDIDATES, dtype, weights)]
    together = solve_tasks(tasks)
    assert rounds == [16]
    alone = [solver.solve(problem) for solver, problem in tasks]
    for one, other in zip(together, alone):
        # In float32 gaps below 2e-6 cannot be told: of these, weights differ by less than a hundredth.
        np.testing.assert_allclose(one.parameters["weight"], other.parameters["weight"], atol=atol)
        np.testing.assert_allclose(one.parameters["bias"], other.parameters["bias"], atol=10 * atol)
        assert one.history[-1]["objective"] == pytest.approx(other.history[-1]["objective"], rel=1e-5)
        assert one.parameters["weight"].base is None or one.parameters["weight"].flags.owndata


def test_rounds_keep_pace(data, problems, rounds):
    """Large loss: every candidate modifies its own labels between the rounds."""
    candidates = [(LargeLoss("reject", delta=0.05), 0.01), (LargeLoss("correct", delta=0.02), 0.1)]
    tasks = [(FullBatch(tol=1e-15, rounds=3), problem) for problem in problems(data, candidates)]
    together = solve_tasks(tasks)
    assert rounds == [8, 8, 8]
    for one, (solver, problem) in zip(together, tasks):
        other = solver.solve(problem)
        np.testing.assert_allclose(one.parameters["weight"], other.parameters["weight"], atol=1e-6)
        assert [record["epoch"] for record in one.history][-1] == 3


def test_what_differs_is_solved_apart(data, problems, rounds):
    first, second, third = problems(data, CANDIDATES[:3])
    third.features = ResidentFeatures(second.features.X.clone())
    tasks = [(FullBatch(), first), (FullBatch(tol=1e-7), second), (FullBatch(), third)]
    solve_tasks(tasks)
    assert rounds == [4, 4, 4]


def test_a_block_begins_at_the_last_optimum_of_its_loss(data, problems, monkeypatch):
    """From strong penalties to weak ones; whatever the order that they are passed in."""
    monkeypatch.setattr(_full_batch, "_PROBLEM_BYTES", 1)
    candidates = [(AssumeNegative(), 1e-2), (IgnoreUnknown(), 1.01e-2), (AssumeNegative(), 1.02e-2)]
    tasks = [(FullBatch(tol=1e-10), problem) for problem in problems(data, candidates)]
    together = solve_tasks(tasks)
    alone = [solver.solve(problem) for solver, problem in tasks]
    steps = [[len(solution.history) for solution in solutions] for solutions in (together, alone)]
    assert steps[0][1:] == pytest.approx(steps[1][1:], abs=2)
    assert steps[0][0] < 0.8 * steps[1][0]
    for one, other in zip(together, alone):
        np.testing.assert_allclose(one.parameters["weight"], other.parameters["weight"], atol=1e-4)


def test_where_rounds_begin_matters(data, problems, monkeypatch):
    """Large loss looks at the logits: no block begins where another one ended."""
    monkeypatch.setattr(_full_batch, "_PROBLEM_BYTES", 1)
    candidates = [(LargeLoss("reject", delta=0.05), alpha) for alpha in (1e-3, 1e-1)]
    tasks = [(FullBatch(tol=1e-12, rounds=2), problem) for problem in problems(data, candidates)]
    for one, (solver, problem) in zip(solve_tasks(tasks), tasks):
        np.testing.assert_array_equal(one.parameters["weight"], solver.solve(problem).parameters["weight"])


def test_large_groups_are_split(data, problems, rounds, monkeypatch):
    tasks = [(FullBatch(tol=1e-13), problem) for problem in problems(data, CANDIDATES)]
    whole = solve_tasks(tasks)
    monkeypatch.setattr(_full_batch, "_PROBLEM_BYTES", 3 * tasks[0][0].working_bytes(tasks[0][1]))
    parts = solve_tasks(tasks)
    assert rounds == [16, 12, 4]
    for one, other in zip(whole, parts):
        np.testing.assert_allclose(one.parameters["weight"], other.parameters["weight"], atol=1e-5)


def test_one_that_is_stopped_does_not_stop_the_others(data, problems):
    first, second = problems(data, CANDIDATES[:2])
    first.monitor = lambda record, parameters: record["iteration"] >= 2
    stopped, other = solve_tasks([(FullBatch(), first), (FullBatch(), second)])
    assert stopped.stopped
    assert not other.stopped
    assert other.history[-1]["relative_gap"] <= 1e-5
