"""Splitters: the known presences and absences of every label are spread evenly, also where there are few."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels
from skpartial.metrics import mean_average_precision_scorer
from skpartial.model_selection import PartialLabelKFold, PartialLabelShuffleSplit

SPLITTERS = [PartialLabelKFold(4, random_state=0), PartialLabelShuffleSplit(3, test_size=0.25, random_state=0)]

label_matrices = arrays(
    np.int8, st.tuples(st.integers(5, 25), st.integers(1, 6)), elements=st.sampled_from([-1, 0, 0, 1])
)


@pytest.fixture(scope="module")
def scenes():
    return make_digit_scenes(300, random_state=0)


def counts(Y, rows):
    """Known presences and absences of every label in some rows."""
    return np.concatenate([(Y[rows] == 1).sum(axis=0), (Y[rows] == -1).sum(axis=0)])


def fold_counts(splitter, Y):
    return np.array([counts(Y, test) for _, test in splitter.split(Y, Y)])


@pytest.mark.parametrize("known", [1.0, 0.5, 0.2, 0.1])
def test_every_fold_holds_both_signs_of_every_label(scenes, known):
    missed = 0
    unequal, unequal_plain = [], []
    for seed in range(5):
        Y = scenes.target if known == 1 else drop_labels(scenes.target, known=known, random_state=seed)
        enough = counts(Y, slice(None)) >= 5
        assert enough.sum() >= 10
        found = fold_counts(PartialLabelKFold(5, random_state=seed), Y)
        assert found[:, enough].min() >= 1
        plain = fold_counts(KFold(5, shuffle=True, random_state=seed), Y)
        missed += (plain[:, enough] == 0).sum()
        # how far the folds are from an equal share, label by label
        unequal.append(np.abs(found - found.mean(axis=0)).mean(axis=0))
        unequal_plain.append(np.abs(plain - plain.mean(axis=0)).mean(axis=0))
    # presences, which are rarer, are dealt out first; the absences get what that leaves
    assert np.mean(unequal, axis=0)[:10].mean() < 0.5 * np.mean(unequal_plain, axis=0)[:10].mean()
    assert np.mean(unequal) < 0.7 * np.mean(unequal_plain)
    assert known > 0.3 or missed > 0  # or the test would have proven nothing


def test_one_label_is_spread_exactly():
    rng = np.random.RandomState(0)
    Y = rng.choice([-1, 0, 1], p=[0.3, 0.6, 0.1], size=(203, 1))
    found = fold_counts(PartialLabelKFold(5, random_state=0), Y)
    assert (np.ptp(found, axis=0) <= 1).all()


def test_unlabelled_rows_even_out_the_sizes():
    Y = np.zeros((50, 3), dtype=int)
    Y[:4, 0] = 1
    sizes = [len(test) for _, test in PartialLabelKFold(5, random_state=0).split(Y, Y)]
    assert sizes == [10] * 5


@given(Y=label_matrices, n_splits=st.integers(2, 5), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_folds_are_a_partition_whatever_is_known(Y, n_splits, seed):
    splits = list(PartialLabelKFold(n_splits, random_state=seed).split(Y, Y))
    assert len(splits) == n_splits
    assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(len(Y)))
    for train, test in splits:
        assert len(test) >= 1
        assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(Y)))
    rare = (Y == 1).sum(axis=0) == 1
    found = np.array([(Y[test] == 1).sum(axis=0) for _, test in splits])
    assert (found[:, rare].max(axis=0, initial=0) <= 1).all()


@given(Y=label_matrices, test_size=st.integers(1, 4), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_shuffle_splits_are_disjoint_and_never_empty(Y, test_size, seed):
    for train, test in PartialLabelShuffleSplit(2, test_size=test_size, random_state=seed).split(Y, Y):
        assert len(train) >= 1
        assert len(test) >= 1
        assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(Y)))


def test_a_test_part_of_one_row_is_not_left_empty():
    # Every presence is one of a label with a single one: the larger part's share of each is larger.
    Y = np.eye(12, dtype=int)
    for seed in range(10):
        ((train, test),) = PartialLabelShuffleSplit(1, test_size=1, random_state=seed).split(Y, Y)
        assert (len(train), len(test)) == (11, 1)


def test_shuffle_split_divides_in_proportion(scenes):
    Y = drop_labels(scenes.target, known=0.3, random_state=0)
    total = counts(Y, slice(None))
    for train, test in PartialLabelShuffleSplit(3, test_size=0.2, train_size=0.5, random_state=0).split(Y, Y):
        assert len(np.intersect1d(train, test)) == 0
        assert abs(len(train) - 150) <= 6
        assert abs(len(test) - 60) <= 6
        assert np.abs(counts(Y, test) - 0.2 * total)[:10].max() <= 2
        assert np.abs(counts(Y, train) - 0.5 * total)[:10].max() <= 2
        assert np.abs(counts(Y, test) - 0.2 * total).mean() <= 1.5


def test_shuffle_splits_differ():
    Y = np.tile([[1, -1], [-1, 0]], (20, 1))
    first, second = (test for _, test in PartialLabelShuffleSplit(2, random_state=0).split(Y, Y))
    assert not np.array_equal(first, second)
    assert PartialLabelShuffleSplit().get_n_splits() == 10
    assert len(first) == 4  # a tenth, as in scikit-learn


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_forms_of_y_and_seeds(splitter, scenes):
    Y = drop_labels(scenes.target[:80], known=0.3, random_state=0)
    expected = list(splitter.split(scenes.data[:80], Y))
    forms = [Y, Y.astype(float), sp.csr_array(Y), sp.coo_matrix(Y), pd.DataFrame(Y), Y.tolist()]
    for y in forms:
        for found, wanted in zip(splitter.split(scenes.data[:80], y), expected, strict=True):
            assert_array_equal(found[0], wanted[0])
            assert_array_equal(found[1], wanted[1])
    other = list(type(splitter)(random_state=1).split(Y, Y))
    assert not np.array_equal(other[0][1], expected[0][1])


def test_without_shuffle_every_call_gives_the_same(scenes):
    Y = drop_labels(scenes.target[:80], known=0.3, random_state=0)
    splitter = PartialLabelKFold(4, shuffle=False)
    first, second = ([test for _, test in splitter.split(Y, Y)] for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert_array_equal(one, other)
    assert fold_counts(splitter, Y)[:, counts(Y, slice(None)) >= 4].min() >= 1


def test_a_random_state_instance_goes_on():
    Y = np.tile([[1, -1], [-1, 0]], (20, 1))
    splitter = PartialLabelKFold(4, random_state=np.random.RandomState(0))
    first, second = (next(splitter.split(Y, Y))[1] for _ in range(2))
    assert not np.array_equal(first, second)


def test_vector_y_is_split_by_class():
    y = np.array(["a"] * 20 + ["b"] * 12)
    X = np.zeros((32, 1))
    pairs = [
        (PartialLabelKFold(4, random_state=3), StratifiedKFold(4, shuffle=True, random_state=3)),
        (PartialLabelKFold(4, shuffle=False), StratifiedKFold(4)),
        (
            PartialLabelShuffleSplit(2, test_size=8, random_state=3),
            StratifiedShuffleSplit(2, test_size=8, random_state=3),
        ),
    ]
    for ours, theirs in pairs:
        for y_form in (y, y.tolist()):
            for found, expected in zip(ours.split(X, y_form), theirs.split(X, y), strict=True):
                assert_array_equal(found[0], expected[0])
                assert_array_equal(found[1], expected[1])


def test_works_as_cv_of_a_grid_search(scenes):
    X, Y = scenes.data, drop_labels(scenes.target, known=0.5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), PartialLabelClassifier(random_state=0))
    grid = {"partiallabelclassifier__alpha": [1e-3, 1.0]}
    cv = PartialLabelKFold(3, random_state=0)
    search = GridSearchCV(pipeline, grid, cv=cv, scoring=mean_average_precision_scorer, n_jobs=2).fit(X, Y)
    expected = cross_val_score(
        clone(search.best_estimator_), X, Y, cv=list(cv.split(X, Y)), scoring=mean_average_precision_scorer
    )
    found = [search.cv_results_[f"split{fold}_test_score"][search.best_index_] for fold in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_representation_and_number_of_splits():
    assert repr(PartialLabelKFold(3)) == (
        "PartialLabelKFold(n_splits=3, random_state=None, shuffle=True,\n         unlabelled='split')"
    )
    assert "test_size=0.2" in repr(PartialLabelShuffleSplit(test_size=0.2))
    assert PartialLabelKFold(3).get_n_splits() == 3
    assert PartialLabelKFold(3).get_n_splits(np.zeros(5), np.zeros((5, 2)), None) == 3


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_errors_of_split(splitter):
    with pytest.raises(ValueError, match="pass y"):
        next(splitter.split(np.zeros((5, 2))))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        next(splitter.split(np.zeros((6, 2)), np.ones((5, 2))))
    with pytest.raises(ValueError, match="Unknown label type"):
        next(splitter.split(np.zeros((5, 2)), np.full((5, 2), 7)))


def test_errors():
    with pytest.raises(ValueError, match="Cannot split 3 rows into n_splits=5"):
        next(PartialLabelKFold().split(np.zeros((3, 1)), np.ones((3, 2))))
    for n_splits in (1, 2.0, True, "3"):
        with pytest.raises(ValueError, match="PartialLabelKFold: n_splits must be a whole number of at least 2, got"):
            PartialLabelKFold(n_splits)
    with pytest.raises(ValueError, match="shuffle must be True or False"):
        PartialLabelKFold(shuffle="yes")
    with pytest.raises(ValueError, match="no effect without shuffle"):
        PartialLabelKFold(shuffle=False, random_state=0)
    with pytest.raises(ValueError, match="ShuffleSplit: n_splits must be a whole number of at least 1, got"):
        PartialLabelShuffleSplit(0)
    with pytest.raises(ValueError, match="test_size=30"):
        next(PartialLabelShuffleSplit(test_size=30).split(np.zeros((5, 1)), np.ones((5, 2))))


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_unlabelled_rows_in_training_parts_alone(form):
    Y = make_digit_scenes(60, random_state=0).target.copy()
    empty = np.arange(0, 60, 3)
    Y[empty] = 0
    tested = []
    for train, test in PartialLabelKFold(4, random_state=0, unlabelled="train").split(np.zeros((60, 1)), form(Y)):
        assert np.isin(empty, train).all()
        assert not set(train) & set(test)
        tested += test.tolist()
    assert sorted(tested) == np.setdiff1d(np.arange(60), empty).tolist()
    splitter = PartialLabelShuffleSplit(2, test_size=0.25, random_state=0, unlabelled="train")
    for train, test in splitter.split(np.zeros((60, 1)), form(Y)):
        assert np.isin(empty, train).all()
        assert len(test) == pytest.approx(10, abs=2)
        assert len(train) + len(test) == 60
    with pytest.raises(ValueError, match="unlabelled must be 'split' or 'train'"):
        PartialLabelKFold(4, unlabelled="drop")
    with pytest.raises(ValueError, match="no known label in any row"):
        list(PartialLabelKFold(2, unlabelled="train").split(np.zeros((4, 1)), form(np.zeros((4, 2), dtype=int))))
    # Classes know no unlabelled rows.
    classes = np.repeat([0, 1], 4)
    assert len(list(PartialLabelKFold(2, unlabelled="train").split(np.zeros((8, 1)), classes))) == 2
