"""What rounds and problems on the same features share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.losses import IgnoreUnknown
from skpartial.solvers import _groundwork
from skpartial.solvers._features import ResidentFeatures
from skpartial.solvers._groundwork import Groundwork
from skpartial.solvers._logistic import LogisticProblem
from skpartial.solvers._problem import LabelSource
from skpartial.solvers._targets import FoldedTargets


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return ResidentFeatures(torch.randn(60, 20, generator=generator, dtype=torch.float64) + 3)


@pytest.fixture
def logistic(features, make_problem):
    """Makes logistic problems on these features."""

    def make(Y):
        problem = make_problem(features, Y, IgnoreUnknown())
        targets = FoldedTargets(problem, problem.loss, LabelSource(problem.labels, features.device))
        return LogisticProblem(targets, problem.alpha, features.dtype, features.device)

    return make


@pytest.fixture
def problem(logistic):
    return logistic(np.where(np.random.default_rng(0).random((60, 3)) < 0.5, 1, -1))


def test_it_is_made_once(features, problem, monkeypatch):
    asked = []
    original = _groundwork.moments
    monkeypatch.setattr(_groundwork, "moments", lambda *args: (asked.append(1), original(*args))[1])
    ground = Groundwork(features)
    standard, _ = ground.standardized(problem)
    sketch = ground.sketch(4)
    assert ground.standardized(problem)[0] is standard
    assert ground.sketch(4) is sketch
    assert len(asked) == 1
    torch.testing.assert_close(standard.center, features.X.mean(0))


def test_it_is_made_anew_for_weights_that_lie_elsewhere(features, problem, logistic):
    """Half of the columns vary only in rows that the first problem does not see."""
    features.X[:30, 10:] = 3
    Y = np.where(np.random.default_rng(0).random((60, 3)) < 0.5, 1, -1)
    Y[30:] = 0
    ground = Groundwork(features)
    ground.standardized(logistic(Y))
    sketch = ground.sketch(4)
    standard, _ = ground.standardized(problem)
    torch.testing.assert_close(standard.center, features.X.mean(0))
    assert ground.sketch(4) is not sketch
    fresh, _ = Groundwork(features).standardized(problem)
    torch.testing.assert_close(standard.unit, fresh.unit)


def test_a_sketch_serves_lower_ranks_only(features, problem):
    ground = Groundwork(features)
    ground.standardized(problem)
    small = ground.sketch(4)
    assert len(small.basis) == 4 + 1
    large = ground.sketch(9)
    assert len(large.basis) == 9 + 1
    assert ground.sketch(5) is large
    assert ground.sketch(99) is ground.sketch(20)


def test_rows_are_taken_once_and_others_anew(features):
    ground = Groundwork(features)
    for rows in (torch.arange(0, 60, 2), torch.arange(0, 60, 3), torch.arange(1, 60, 2)):
        taken = ground.take(rows)
        torch.testing.assert_close(taken.features.X, features.X[rows])
        assert ground.take(rows.clone()) is taken


def test_rows_of_each_label_are_counted(logistic):
    Y = np.where(np.random.default_rng(0).random((60, 3)) < 0.5, 1, -1)
    Y[:25, 1] = 0
    problem = logistic(Y)
    joined = LogisticProblem.join([problem, problem])
    assert problem.count.tolist() == [60, 35, 60]
    assert joined.count.tolist() == 2 * [60, 35, 60]
    assert joined.take(torch.tensor([1, 5])).count.tolist() == [35, 60]
    rows = torch.arange(20)[None]
    assert joined.take_own_rows(torch.tensor([4]), rows).count.tolist() == [35]
