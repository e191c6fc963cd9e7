"""Rows of labels that are known in few of them, and when they are gathered."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from skpartial.features._matrix import ResidentFeatures
from skpartial.features._scaled import ScaledColumns
from skpartial.solvers.convex import _rows
from skpartial.solvers.convex._rows import GatheredColumns, RowBasis, cheapest_rows, gathered_rows


@pytest.fixture
def known():
    """Features, weights of seven labels in 3 to 15 of 30 rows, and the rows of each."""
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(30, 40, generator=generator, dtype=torch.float64) + 5
    count = torch.tensor([9, 3, 15, 3, 7, 11, 5])
    rows = [torch.randperm(30, generator=generator)[:m].sort().values for m in count.tolist()]
    s = torch.zeros(7, 30, dtype=torch.float64)
    for weights, own in zip(s, rows):
        weights[own] = 0.1
    alpha, entries = torch.full((7,), 0.1), torch.arange(7)
    return X, SimpleNamespace(s=s, count=count, alpha=alpha, entries=entries), rows


@pytest.mark.parametrize("limit", [1, 1 << 23])
def test_rows_are_those_in_which_labels_weigh(known, monkeypatch, limit):
    X, problem, own = known
    monkeypatch.setattr(_rows, "_GROUP_ENTRIES", limit)
    seen = []
    for group, _, rows, gathered in gathered_rows(problem, ResidentFeatures(X), torch.tensor([0, 2, 3, 5, 6])):
        seen += group.tolist()
        torch.testing.assert_close(gathered, X[rows])
        for label, these in zip(group, rows):
            weighs = problem.s[label, these] > 0
            assert torch.equal(these[weighs].sort().values, own[label])
    assert sorted(seen) == [0, 2, 3, 5, 6]


def test_gathered_columns_are_those_of_all_rows(known):
    X, problem, _ = known
    columns = ScaledColumns(ResidentFeatures(X), X.mean(0), 1 / X.std(0))
    ((_, sharing, rows, gathered),) = gathered_rows(problem, ResidentFeatures(X), torch.arange(7))
    design = GatheredColumns(columns, gathered.unbind(), sharing)
    theta, scores = torch.randn(7, 41).double(), torch.randn(7, rows.shape[1]).double()
    torch.testing.assert_close(design.forward(theta), columns.forward(theta).gather(1, rows))
    spread = torch.zeros(7, 30, dtype=torch.float64).scatter_add(1, rows, scores)
    torch.testing.assert_close(design.backward(scores), columns.backward(spread))
    some = torch.tensor([1, 4])
    torch.testing.assert_close(design.take(some).forward(theta[some]), design.forward(theta)[some])


@pytest.mark.parametrize("limit", [1, 1 << 23])
def test_labels_with_the_same_entries_share_their_rows(known, monkeypatch, limit):
    X, problem, own = known
    monkeypatch.setattr(_rows, "_GROUP_ENTRIES", limit)
    X = X[:, :20]  # of which groups may have as many entries
    # Three penalties for each, in no order, and all labels but one.
    alpha = torch.tensor([0.1, 10.0, 1.0]).double().repeat_interleave(7)
    three = SimpleNamespace(
        s=problem.s.repeat(3, 1), count=problem.count.repeat(3), alpha=alpha, entries=torch.arange(7).repeat(3)
    )
    columns, seen = ScaledColumns(ResidentFeatures(X), X.mean(0), 1 / X.std(0)), []
    for group in gathered_rows(three, ResidentFeatures(X), torch.arange(20)):
        seen += group.labels.tolist()
        torch.testing.assert_close(group.X, X[group.rows])
        design = GatheredColumns(columns, group.X.unbind(), group.sharing)
        rows = group.rows.repeat_interleave(group.sharing, 0)
        theta, scores = torch.randn(len(rows), 21).double(), torch.randn(rows.shape).double()
        torch.testing.assert_close(design.forward(theta), columns.forward(theta).gather(1, rows))
        spread = torch.zeros(len(rows), 30, dtype=torch.float64).scatter_add(1, rows, scores)
        torch.testing.assert_close(design.backward(scores), columns.backward(spread))
        for some in (torch.tensor([1]), torch.arange(0, len(rows), 2), torch.arange(len(rows))):
            torch.testing.assert_close(design.take(some).forward(theta[some]), design.forward(theta)[some])
        path = list(group.path())
        assert sorted(label for _, labels, _ in path for label in labels.tolist()) == sorted(group.labels.tolist())
        for place, (which, labels, before) in enumerate(path):
            for i, label, stronger in zip(which.tolist(), labels.tolist(), before.tolist()):
                weighs = three.s[label, group.rows[i]] > 0
                assert torch.equal(group.rows[i][weighs].sort().values, own[label % 7])
                assert stronger % 7 == label % 7
                assert alpha[stronger] > alpha[label] if place else stronger == label
    assert sorted(seen) == list(range(20))


def test_a_basis_of_rows_keeps_logits_and_penalties(known):
    """Of combinations of the rows, which the weights of a label are."""
    X, problem, _ = known
    ((group, _, rows, gathered),) = gathered_rows(problem, ResidentFeatures(X), torch.arange(7))
    valid = problem.s[group].gather(1, rows) > 0
    basis = RowBasis(gathered.clone(), valid)
    assert basis.usable
    theta = torch.randn(7, rows.shape[1] + 1, generator=torch.Generator().manual_seed(1)).double()
    theta[:, :-1] *= valid
    passed = basis.to_features(theta)
    logits = passed[:, :-1] @ X.T + passed[:, -1:]
    torch.testing.assert_close(basis.forward(theta)[valid], logits.gather(1, rows)[valid])
    torch.testing.assert_close(basis.scores(passed)[valid], logits.gather(1, rows)[valid])
    torch.testing.assert_close(passed[:, :-1].square().sum(1), theta[:, :-1].square().sum(1), rtol=1e-9, atol=0)
    torch.testing.assert_close(basis.from_features(passed)[:, :-1] * valid, theta[:, :-1])


@pytest.mark.parametrize("d", [100, 2048])
def test_few_rows_are_gathered(d):
    """All labels of less than a sixteenth of the rows, and those of the fewest in a basis of these."""
    count = torch.arange(1, 20_000, 5)
    basis, own = cheapest_rows(count, 100_000, d)
    assert not bool((basis & own).any())
    gathered = basis | own
    assert torch.equal(gathered, count < 100_000 / 16)
    assert torch.equal(basis, torch.arange(len(count)) < int(basis.sum()))
    assert 60 < int(count[basis].max()) < 600


def test_rows_that_labels_share_are_gathered_sooner():
    """Up to the part of all rows that products for so many labels make up for; which go by a basis stays the same."""
    count = torch.arange(1, 20_000, 5)
    alone, _ = cheapest_rows(count, 100_000, 100)
    basis, own = cheapest_rows(count.repeat(3), 100_000, 100, torch.arange(len(count)).repeat(3))
    assert torch.equal(basis, alone.repeat(3))
    assert torch.equal((basis | own)[: len(count)], count < 3 * 100_000 / 16)


@pytest.mark.parametrize("n_rows, apart", [(10_000, True), (1000, False)])
def test_rows_of_many_labels_are_not_worth_their_factors_everywhere(n_rows, apart):
    """Products for all labels are quick where there are few rows in all."""
    basis, _ = cheapest_rows(torch.full((50,), 200), n_rows, 1000)
    assert bool(basis.all()) == apart
