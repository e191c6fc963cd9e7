"""Streams of `partial_fit`: what may change between calls, and what the first rows decide."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from skpartial import PartialLabelClassifier
from skpartial.heads import Ensemble, LabelEmbedding


@pytest.fixture
def data():
    rng = np.random.RandomState(0)
    X = rng.randn(400, 8)
    return X, np.where(X @ rng.randn(8, 4) + 0.5 * rng.randn(400, 4) > 0, 1, -1)


@pytest.mark.parametrize("first", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("linear", {"head": "gnn"}),
        ("gnn", {"head": "linear"}),
        ("linear", {"head": Ensemble()}),
        (Ensemble(), {"head": "linear"}),
        (Ensemble(), {"head__n_members": 3}),
        (LabelEmbedding(), {"head__n_components": 2}),
    ],
)
def test_heads_with_other_parameters_are_refused(data, first, head, changes):
    X, Y = data[0][:60], data[1][:60]
    clf = getattr(PartialLabelClassifier(head=copy.deepcopy(head), random_state=0), first)(X, Y)
    before = clf.decision_function(X)
    clf.set_params(**changes)
    with pytest.raises(ValueError, match=r"^partial_fit continues a fit with head=.*: call fit, or partial_fit of"):
        clf.partial_fit(X, Y)
    np.testing.assert_array_equal(clf.decision_function(X), before)


@pytest.mark.parametrize("first", ["fit", "partial_fit"])
@pytest.mark.parametrize("n_before", [1, 3])
def test_alpha_is_that_of_the_parameter_now(data, first, n_before):
    X, Y = data
    clf = getattr(PartialLabelClassifier(alpha=0.5), first)(X, Y)
    for _ in range(n_before):
        assert clf.partial_fit(X, Y).alpha_ == 0.5
    auto = clf.set_params(alpha="auto").partial_fit(X, Y).alpha_
    assert auto == pytest.approx(PartialLabelClassifier().partial_fit(X, Y).alpha_)
    assert clf.partial_fit(X, Y).alpha_ == pytest.approx(auto)
    assert clf.set_params(alpha=0.25).partial_fit(X, Y).alpha_ == 0.25


def test_auto_of_a_fit_is_kept(data):
    X, Y = data
    clf = PartialLabelClassifier().fit(X, Y)
    alpha = clf.alpha_
    assert clf.partial_fit(3 * X, Y).alpha_ == clf.partial_fit(X, Y).alpha_ == alpha


def trained(clf, X, Y):
    for _ in range(10):
        clf.partial_fit(X, Y)
    return clf


@pytest.mark.parametrize("first", ["fit", "partial_fit"])
@pytest.mark.parametrize(("constant", "scale"), [(0.0, 1e4), (5.0, 1e-4), (-3e4, 1e3)])
def test_equal_rows_at_the_start_do_not_fix_the_units(data, first, constant, scale):
    X, Y = data
    Z = constant + scale * X
    alone = trained(PartialLabelClassifier(random_state=0), Z, Y)
    clf = PartialLabelClassifier(random_state=0)
    clf = trained(getattr(clf, first)(np.full((1000, 8), constant), np.resize(Y, (1000, 4))), Z, Y)
    assert clf.alpha_ == pytest.approx(alone.alpha_, rel=0.01)
    assert clf.decision_function(Z).std() == pytest.approx(alone.decision_function(Z).std(), rel=0.2)
    areas = [roc_auc_score(Y == 1, each.decision_function(Z)) for each in (clf, alone)]
    assert areas[0] > areas[1] - 0.005


def test_names_are_those_of_a_data_frame(data):
    X, Y = data
    numbers, table = [5, 6, 7, 8], pd.DataFrame(data[1], columns=[5, 6, 7, 8])
    calls = [(Y, numbers), (table, None), (table, numbers), (Y, np.array(numbers)), (Y, ["5", "6", "7", "8"])]
    for first in calls:
        clf = PartialLabelClassifier().partial_fit(X, first[0], classes=first[1])
        for labels, classes in calls:
            clf.partial_fit(X, labels, classes=classes)
        assert clf.label_names_.tolist() == ["5", "6", "7", "8"]
        with pytest.raises(ValueError, match="in the order of earlier calls"):
            clf.partial_fit(X, Y, classes=numbers[::-1])
        with pytest.raises(ValueError, match="differ from the classes of earlier calls"):
            clf.partial_fit(X, Y, classes=[5, 6, 7, 9])


@pytest.mark.parametrize(
    ("classes", "message", "of_vectors"),
    [
        (["a", "a", "b", "c"], "names the label 'a' more than once", False),
        ([1, "1", 2, 3], "names the label '1' more than once", False),
        ([np.nan, 1, 2, 3], "classes must not hold missing values", True),
        ([None, "a", "b", "c"], "classes must not hold missing values", True),
        ([(1, 2), (3,), 4, 5], "classes must be None or a list", True),
        ([(1, 2), (3, 4)], r"a list of the classes or label names, got an array of shape \(2, 2\)", True),
        ("abcd", "got 'abcd'", True),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_classes_that_are_no_names(data, classes, message, of_vectors, later):
    X, Y = data
    for y in (Y, Y[:, 0]) if of_vectors else (Y,):
        clf = PartialLabelClassifier()
        if later:
            clf.partial_fit(X, y)
        with pytest.raises(ValueError, match=message):
            clf.partial_fit(X, y, classes=classes)


def test_weights_come_in_chunks(data):
    X, Y = data
    weights = np.random.RandomState(1).randint(1, 5, size=len(X)).astype(float)

    def parts(values, size=100):
        return (values[start : start + size] for start in range(0, len(values), size))

    whole = PartialLabelClassifier(random_state=0).partial_fit(parts(X), parts(Y), sample_weight=weights)
    chunked = PartialLabelClassifier(random_state=0).partial_fit(parts(X), parts(Y), sample_weight=parts(weights))
    np.testing.assert_array_equal(chunked.coef_, whole.coef_)
    for wrong, message in [
        (parts(weights[:300]), "Chunk 3 of X has no sample_weight"),
        (parts(np.tile(weights, 2)), "sample_weight has more chunks than X"),
        (parts(weights, 50), r"\(50,\), expected \(100,\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            PartialLabelClassifier().partial_fit(parts(X), parts(Y), sample_weight=wrong)
