"""What rounds and problems on the same features share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.features._matrix import ResidentFeatures
from skpartial.losses import IgnoreUnknown
from skpartial.solvers.convex import _groundwork
from skpartial.solvers.convex._groundwork import Groundwork
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.training._problem import LabelSource
from skpartial.training._targets import FoldedTargets


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


def test_labels_that_are_known_in_the_same_rows_see_the_same(features, problem, logistic):
    ground, labels = Groundwork(features), torch.arange(3)
    ground.standardized(problem)
    ground.sketch(4)
    assert ground.view(problem, labels) is None
    Y = np.where(np.random.default_rng(0).random((60, 3)) < 0.5, 1, -1)
    Y[:25, 1] = 0
    part = logistic(Y)
    ground.standardized(part)
    ground.sketch(4)
    assert ground.view(part, labels) is not None
    assert ground.view(part, labels[[0, 2]]) is None


@pytest.mark.parametrize("n_viewed", [1000, 15])
def test_a_view_is_of_the_rows_of_each_label(features, logistic, monkeypatch, n_viewed):
    """All of them, or so many that the label that has fewest is left some."""
    monkeypatch.setattr(_groundwork, "_VIEWED_ROWS", n_viewed)
    features.X[:30] += 4
    Y = np.where(np.random.default_rng(0).random((60, 3)) < 0.5, 1, -1)
    Y[:30, 1] = 0
    Y[30:, 2] = 0
    problem, ground = logistic(Y), Groundwork(features)
    standard, _ = ground.standardized(problem)
    sketch = ground.sketch(4)
    view = ground.view(problem, torch.arange(3))
    columns = (features.X - standard.center) * standard.unit
    for j, rows in enumerate((slice(0, 60), slice(30, 60), slice(0, 30))):
        along = columns[rows] @ sketch.basis[:-1, :-1].T
        few = 0 if n_viewed == 1000 else 1
        error = 4 * columns[rows].std() / 15**0.5 * few + 1e-9
        torch.testing.assert_close(view.means[j], columns[rows].mean(0), rtol=0, atol=error)
        torch.testing.assert_close(view.variances[j], along.var(0, correction=0), rtol=2.0 * few + 1e-9, atol=0)
    seen = view.of(torch.tensor([2]))
    torch.testing.assert_close(seen.means, view.means[2:])
