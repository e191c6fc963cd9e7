"""What rounds and problems on the same features share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skpartial.features._matrix import ResidentFeatures
from skpartial.losses import IgnoreUnknown
from skpartial.solvers.convex import _prepared
from skpartial.solvers.convex._logistic import LogisticProblem
from skpartial.solvers.convex._prepared import PreparedFeatures
from skpartial.training._data import DataSource
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
        targets = FoldedTargets(
            problem, problem.loss, DataSource(problem.data, problem.weights, features.device, features.dtype)
        )
        return LogisticProblem(targets, problem.alpha, features.dtype, features.device)

    return make


@pytest.fixture
def problem(logistic):
    return logistic(np.where(np.random.default_rng(0).random((60, 3)) < 0.5, 1, -1))


def test_it_is_made_once(features, problem, monkeypatch):
    asked = []
    original = _prepared.moments
    monkeypatch.setattr(_prepared, "moments", lambda *args: (asked.append(1), original(*args))[1])
    prepared = PreparedFeatures(features)
    prepared.scale(problem)
    columns, sketch = prepared.columns, prepared.sketch(4)
    prepared.scale(problem)
    assert prepared.columns is columns
    assert prepared.sketch(4) is sketch
    assert len(asked) == 1
    torch.testing.assert_close(columns.center, features.X.mean(0))


def test_it_is_made_anew_for_weights_that_lie_elsewhere(features, problem, logistic):
    """Half of the columns vary only in rows that the first problem does not see."""
    features.X[:30, 10:] = 3
    Y = np.where(np.random.default_rng(0).random((60, 3)) < 0.5, 1, -1)
    Y[30:] = 0
    prepared = PreparedFeatures(features)
    prepared.scale(logistic(Y))
    sketch = prepared.sketch(4)
    prepared.scale(problem)
    torch.testing.assert_close(prepared.columns.center, features.X.mean(0))
    assert prepared.sketch(4) is not sketch
    fresh = PreparedFeatures(features)
    fresh.scale(problem)
    torch.testing.assert_close(prepared.columns.scale, fresh.columns.scale)


def test_a_sketch_serves_lower_ranks_only(features, problem):
    prepared = PreparedFeatures(features)
    prepared.scale(problem)
    small = prepared.sketch(4)
    assert len(small.basis) == 4 + 1
    large = prepared.sketch(9)
    assert len(large.basis) == 9 + 1
    assert prepared.sketch(5) is large
    assert prepared.sketch(99) is prepared.sketch(20)


def test_rows_are_taken_once_and_others_anew(features):
    prepared = PreparedFeatures(features)
    for rows in (torch.arange(0, 60, 2), torch.arange(0, 60, 3), torch.arange(1, 60, 2)):
        taken = prepared.take(rows)
        torch.testing.assert_close(taken.features.X, features.X[rows])
        assert prepared.take(rows.clone()) is taken


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
