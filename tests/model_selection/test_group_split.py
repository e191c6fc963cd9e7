"""Splitters of groups: every group on one side, and what is known of every label spread evenly all the same."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.model_selection import GridSearchCV, GroupKFold, GroupShuffleSplit, KFold, cross_validate

from skpartial import PartialLabelClassifier
from skpartial.model_selection import (
    BatchedGridSearchCV,
    PartialLabelGroupKFold,
    PartialLabelGroupShuffleSplit,
    PartialLabelKFold,
    PartialLabelShuffleSplit,
    TunedThresholdsCV,
    cross_val_predict,
)

SPLITTERS = [
    PartialLabelGroupKFold(4, random_state=0),
    PartialLabelGroupShuffleSplit(3, test_size=0.25, random_state=0),
]

label_matrices = arrays(
    np.int8, st.tuples(st.integers(8, 25), st.integers(1, 6)), elements=st.sampled_from([-1, 0, 0, 1])
)


def make_groups(n_groups, n_labels, *, known=0.3, seed=0):
    """Groups of very different sizes, whose rows mostly share their labels, some of which are rare."""
    rng = np.random.RandomState(seed)
    groups = np.repeat(np.arange(n_groups), 1 + rng.geometric(0.3, size=n_groups))
    prone = (rng.uniform(size=(n_groups, n_labels)) < np.linspace(0.02, 0.4, n_labels))[groups]
    present = prone ^ (rng.uniform(size=prone.shape) < 0.05)
    return groups, np.where(present, 1, -1) * (rng.uniform(size=prone.shape) < known)


def shares(parts, Y):
    """The share of each part in the known presences and absences of every label, and in the rows."""
    held = np.array([[*(Y[rows] == 1).sum(axis=0), *(Y[rows] == -1).sum(axis=0), len(rows)] for rows in parts])
    held = held[:, held.sum(axis=0) > 0]
    return held / held.sum(axis=0)


@pytest.mark.parametrize("n_groups, n_labels", [(60, 5), (400, 10), (2000, 20)])
def test_labels_are_spread_far_better_than_by_groups_alone(n_groups, n_labels):
    groups, Y = make_groups(n_groups, n_labels)
    uneven = {}
    for splitter in (PartialLabelGroupKFold(5, random_state=0), GroupKFold(5)):
        tests = [test for _, test in splitter.split(Y, Y, groups)]
        assert_array_equal(np.sort(np.concatenate(tests)), np.arange(len(Y)))
        uneven[type(splitter)] = np.abs(shares(tests, Y) - 0.2)
    ours, theirs = uneven[PartialLabelGroupKFold], uneven[GroupKFold]
    assert ours.mean() < 0.4 * theirs.mean()
    assert ours.max() < theirs.max()
    assert ours[:, -1].max() < 0.1 * 0.2  # sizes of folds


def test_ten_thousand_groups():
    groups, Y = make_groups(10_000, 80)
    tests = [test for _, test in PartialLabelGroupKFold(5, random_state=0).split(Y, Y, groups)]
    assert np.abs(shares(tests, Y) - 0.2).max() < 0.005


@given(Y=label_matrices, n_splits=st.integers(2, 4), seed=st.integers(0, 5), shuffle=st.booleans())
@settings(max_examples=60, deadline=None)
def test_groups_are_whole_whatever_is_known(Y, n_splits, seed, shuffle):
    groups = np.random.RandomState(seed).randint(6, size=len(Y))
    groups[:4] = [0, 1, 2, 3]
    folds = PartialLabelGroupKFold(n_splits, shuffle=shuffle, random_state=seed if shuffle else None)
    splits = list(folds.split(Y, Y, groups))
    assert len(splits) == folds.get_n_splits() == n_splits
    assert_array_equal(np.sort(np.concatenate([test for _, test in splits])), np.arange(len(Y)))
    splits += PartialLabelGroupShuffleSplit(2, test_size=1, random_state=seed).split(Y, Y, groups)
    for train, test in splits:
        assert len(train) > 0
        assert len(test) > 0
        assert not set(groups[train]) & set(groups[test])
        assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(Y)))


def test_shuffle_split_divides_in_proportion():
    groups, Y = make_groups(500, 8)
    splits = list(PartialLabelGroupShuffleSplit(4, test_size=0.2, train_size=0.5, random_state=0).split(Y, Y, groups))
    for train, test in splits:
        rest = np.setdiff1d(np.arange(len(Y)), np.concatenate([train, test]))
        of_train, of_test, _ = shares([train, test, rest], Y)
        assert np.abs(of_train - 0.5).max() < 0.05
        assert np.abs(of_test - 0.2).max() < 0.05
        assert not set(groups[train]) & set(groups[test])
        # Neither side gets the large groups.
        assert abs(len(set(groups[test])) / 500 - 0.2) < 0.05
    assert len({tuple(test) for _, test in splits}) == 4


def test_splits_of_groups_of_different_sizes_differ():
    # All sizes differ, so that only chance can tell one split from another.
    groups = np.repeat(np.arange(20), np.arange(1, 21))
    Y = np.where(groups % 2, 1, -1)[:, None]
    splits = PartialLabelGroupShuffleSplit(10, random_state=0).split(Y, Y, groups)
    assert len({tuple(test) for _, test in splits}) > 5
    assert PartialLabelGroupShuffleSplit().get_n_splits() == 5  # and a fifth is tested on, as in scikit-learn
    test = next(PartialLabelGroupShuffleSplit(random_state=0).split(Y, Y, groups))[1]
    assert abs(len(test) - 42) < 5


@pytest.mark.parametrize("splitter", SPLITTERS)
def test_forms_and_seeds(splitter):
    groups, Y = make_groups(40, 3)
    names = np.array([f"patient {group}" for group in groups])
    expected = list(splitter.split(Y, Y, groups))
    forms = [(Y, names), (sp.coo_matrix(Y), groups.tolist()), (pd.DataFrame(Y), pd.Series(names))]
    forms += [(Y, pd.Series(names, dtype="category")), (Y.tolist(), [("site", int(group)) for group in groups])]
    forms += [(Y, groups.astype(float))]
    for y, form in forms:
        for found, wanted in zip(splitter.split(Y, y, form), expected, strict=True):
            assert_array_equal(found[0], wanted[0])
            assert_array_equal(found[1], wanted[1])
    other = list(type(splitter)(random_state=1).split(Y, Y, groups))
    assert not np.array_equal(other[0][1], expected[0][1])


def test_sparse_labels_are_never_made_dense(monkeypatch):
    def refuse(self, *args, **kwargs):
        raise AssertionError("50 GB")

    for form in (sp.csr_array, sp.csc_array, sp.coo_array):
        monkeypatch.setattr(form, "toarray", refuse)
        monkeypatch.setattr(form, "todense", refuse)
    rng = np.random.RandomState(0)
    rows, columns = rng.randint(3000, size=6000), rng.randint(1 << 24, size=6000)
    y = sp.coo_array((np.ones(6000, dtype=np.int8), (rows, columns)), shape=(3000, 1 << 24))
    y = y.tocsr()
    y.data[:] = 1
    for splitter in (PartialLabelKFold(3, random_state=0), PartialLabelShuffleSplit(1, random_state=0)):
        _, test = next(splitter.split(y, y))
        assert len(test) > 0


def test_classes():
    y = np.repeat(["a", "b", "c"], [40, 20, 20])
    groups = np.arange(80) // 4
    for _, test in PartialLabelGroupKFold(5, random_state=0).split(y, y, groups):
        assert [int((y[test] == kind).sum()) for kind in "abc"] == [8, 4, 4]
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        list(PartialLabelGroupKFold(2).split(groups, np.linspace(0, 1, 80), groups))


@pytest.mark.parametrize("splitter", SPLITTERS)
@pytest.mark.parametrize(
    "groups, message",
    [
        (None, "keeps groups of rows together: pass groups"),
        ([0, 1, 2, None, 4, 5], "groups has no group at row 3"),
        (np.array([0, 1, np.nan, 3, 4, 5]), "groups has no group at row 2"),
        ([[0], [1], [2], [3], [4], [5]], "groups must hold hashable values"),
        (np.zeros((6, 2)), r"groups must have shape \(n_rows,\).*got shape \(6, 2\)"),
        (np.zeros(5), "inconsistent numbers of samples"),
    ],
)
def test_errors_of_groups(splitter, groups, message):
    with pytest.raises(ValueError, match=message):
        next(splitter.split(np.zeros((6, 1)), np.ones((6, 2)), groups))


def test_errors():
    X, Y = np.zeros((6, 1)), np.ones((6, 2))
    with pytest.raises(ValueError, match="Cannot split 3 groups into n_splits=5"):
        next(PartialLabelGroupKFold().split(X, Y, [0, 1, 2, 0, 1, 2]))
    with pytest.raises(ValueError, match="test_size=4"):
        next(PartialLabelGroupShuffleSplit(test_size=4).split(X, Y, [0, 1, 2, 0, 1, 2]))
    for splitter in (PartialLabelGroupKFold(), PartialLabelGroupShuffleSplit()):
        with pytest.raises(ValueError, match="pass y"):
            splitter.split(X, None, np.zeros(6))
    with pytest.raises(ValueError, match="PartialLabelGroupKFold: n_splits must be a whole number of at least 2"):
        PartialLabelGroupKFold(1)
    with pytest.raises(ValueError, match="no effect without shuffle"):
        PartialLabelGroupKFold(shuffle=False, random_state=0)


# ---------------------------------------------------------------------- groups are used, or refused, never ignored

GROUPS, LABELS = make_groups(30, 2, known=1.0, seed=1)
FEATURES = np.random.RandomState(0).normal(size=(len(LABELS), 3)) + LABELS[:, [0, 1, 0]]
CLASSES = np.where(LABELS[:, 1] == 1, "yes", "no")


def plain():
    return PartialLabelClassifier(random_state=0)


USES = {
    "cross_val_predict": lambda cv, y, groups: cross_val_predict(plain(), FEATURES, y, cv=cv, groups=groups),
    "BatchedGridSearchCV": lambda cv, y, groups: (
        BatchedGridSearchCV(plain(), {"alpha": [1.0]}, cv=cv).fit(FEATURES, y, groups=groups).best_score_
    ),
    "TunedThresholdsCV": lambda cv, y, groups: (
        TunedThresholdsCV(plain(), cv=cv, unknown="absent", random_state=0).fit(FEATURES, y, groups=groups).thresholds_
    ),
}


@pytest.mark.parametrize("splitter", [PartialLabelKFold(3), PartialLabelShuffleSplit(1)])
def test_splitters_of_rows_refuse_groups(splitter):
    name = type(splitter).__name__
    with pytest.raises(ValueError, match=f"{name} does not use groups .*use {name.replace('Label', 'LabelGroup')}"):
        splitter.split(FEATURES, LABELS, GROUPS)
    with pytest.raises(ValueError, match="does not use groups"):
        GridSearchCV(plain(), {"alpha": [1.0]}, cv=splitter).fit(FEATURES, LABELS, groups=GROUPS)


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
@pytest.mark.parametrize("y", [LABELS, CLASSES], ids=["matrix", "classes"])
def test_groups_reach_the_splitter(use, y):
    for splitter in (PartialLabelGroupKFold(3, random_state=0), GroupKFold(3)):
        expected = use(list(splitter.split(FEATURES, y, GROUPS)), y, None)
        assert_array_equal(use(splitter, y, GROUPS), expected)


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
@pytest.mark.parametrize("y", [LABELS, CLASSES], ids=["matrix", "classes"])
@pytest.mark.parametrize(
    "cv",
    [
        KFold(3),
        PartialLabelKFold(3),
        [(np.arange(len(GROUPS)) % 3 != fold, np.arange(len(GROUPS)) % 3 == fold) for fold in range(3)],
    ],
    ids=["KFold", "PartialLabelKFold", "splits"],
)
@pytest.mark.filterwarnings("ignore:The groups parameter is ignored by KFold")  # scikit-learn's
def test_what_divides_groups_is_refused(use, y, cv):
    if isinstance(cv, list):
        cv = [(np.flatnonzero(train), np.flatnonzero(test)) for train, test in cv]
    with pytest.raises(ValueError, match=r"puts rows of the group \d+ into|does not use groups"):
        use(cv, y, GROUPS)


@pytest.mark.parametrize("name", ["cross_val_predict", "BatchedGridSearchCV"])
@pytest.mark.parametrize("y", [LABELS, CLASSES], ids=["matrix", "classes"])
def test_a_number_of_folds_is_no_splitter_of_groups(name, y):
    for cv, cure in ((None, 5), (3, 3)):
        with pytest.raises(ValueError, match=rf"cv={cv} ignore them: .*cv=PartialLabelGroupKFold\({cure}\)"):
            USES[name](cv, y, GROUPS)


def test_numbers_of_folds_of_tuned_thresholds_keep_groups_whole():
    pairs = [
        (None, PartialLabelGroupKFold(5, random_state=0)),
        (3, PartialLabelGroupKFold(3, random_state=0)),
        (0.3, PartialLabelGroupShuffleSplit(1, test_size=0.3, random_state=0)),
    ]
    for cv, splitter in pairs:
        expected = USES["TunedThresholdsCV"](list(splitter.split(FEATURES, LABELS, GROUPS)), LABELS, None)
        assert_array_equal(USES["TunedThresholdsCV"](cv, LABELS, GROUPS), expected)
        with config_context(enable_metadata_routing=True):
            assert_array_equal(USES["TunedThresholdsCV"](cv, LABELS, GROUPS), expected)
    with pytest.raises(ValueError, match="cv='prefit' makes no splits"):
        TunedThresholdsCV(plain(), cv="prefit", refit=False).fit(FEATURES, LABELS, groups=GROUPS)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        TunedThresholdsCV(plain()).fit(FEATURES, LABELS, groups=GROUPS[1:])


def test_metadata_routing():
    splitter = PartialLabelGroupKFold(3, random_state=0)
    splits = list(splitter.split(FEATURES, LABELS, GROUPS))
    with config_context(enable_metadata_routing=True):
        found = cross_val_predict(plain(), FEATURES, LABELS, cv=splitter, params={"groups": GROUPS})
        assert_array_equal(found, cross_val_predict(plain(), FEATURES, LABELS, cv=splits))
        tuned = TunedThresholdsCV(plain(), cv=splitter).fit(FEATURES, LABELS, groups=GROUPS)
        expected = TunedThresholdsCV(plain(), cv=splits).fit(FEATURES, LABELS)
        assert_array_equal(tuned.thresholds_, expected.thresholds_)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # candidates are fitted one by one
            search = BatchedGridSearchCV(plain(), {"alpha": [1.0]}, cv=splitter).fit(FEATURES, LABELS, groups=GROUPS)
            same = BatchedGridSearchCV(plain(), {"alpha": [1.0]}, cv=splits).fit(FEATURES, LABELS)
        assert search.best_score_ == same.best_score_
        scores = cross_validate(plain(), FEATURES, LABELS, cv=splitter, params={"groups": GROUPS})["test_score"]
        assert_array_equal(scores, cross_validate(plain(), FEATURES, LABELS, cv=splits)["test_score"])
        # Thresholds inside a search: the splitters of both get the groups.
        nested = GridSearchCV(TunedThresholdsCV(plain(), cv=3, random_state=0), {"scoring": ["f1"]}, cv=splitter)
        nested.fit(FEATURES, LABELS, groups=GROUPS)
        inner = TunedThresholdsCV(plain(), cv=3, random_state=0).fit(FEATURES, LABELS, groups=GROUPS)
        assert_array_equal(nested.best_estimator_.thresholds_, inner.thresholds_)
        for cv in (None, 3):
            with pytest.raises(ValueError, match="ignore them: pass a splitter"):
                cross_val_predict(plain(), FEATURES, LABELS, cv=cv, params={"groups": GROUPS})
        with pytest.raises(TypeError, match="groups"):
            cross_val_predict(plain(), FEATURES, LABELS, cv=PartialLabelKFold(3), params={"groups": GROUPS})


def test_two_sides_of_one_group_are_told_apart_from_two_groups():
    # The check itself must not refuse what scikit-learn's own splitters of groups make.
    splitter = GroupShuffleSplit(1, test_size=0.3, random_state=0)
    tuned = TunedThresholdsCV(plain(), cv=splitter).fit(FEATURES, LABELS, groups=GROUPS)
    assert tuned.tuned_.all()
