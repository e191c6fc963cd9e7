"""Features are centred in minibatch training: a change of coordinates, which reaches the same optimum sooner."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.features._choice import as_features
from skpartial.features._moments import InputUnits, centered_units
from skpartial.heads import CategoryGNN, Ensemble, HeadContext, LabelEmbedding, Linear
from skpartial.heads._module import build_head
from skpartial.labels import drop_labels
from skpartial.solvers import FullBatch, Minibatch

HEADS = [
    Linear(),
    Ensemble(n_members=2),
    LabelEmbedding(n_components=3),
    CategoryGNN(n_steps=1),
    Ensemble(LabelEmbedding(n_components=3), n_members=2),
    Ensemble(CategoryGNN(n_steps=1), n_members=2),
]


@pytest.fixture(scope="module")
def scenes():
    """Pixels, whose mean is much longer than their spread."""
    found = make_digit_scenes(900, random_state=0)
    Y = drop_labels(found.target[:600], known=0.3, random_state=0)
    X = found.data.astype(np.float64)
    return X[:600], Y, X[600:], found.target[600:]


@pytest.mark.parametrize("offset", [0, 1e4])
def test_default_steps_reach_the_optimum(scenes, offset):
    """Without centring they are seven points below it, and fifty far from zero."""
    X, Y, X_test, Y_test = scenes
    optimum = PartialLabelClassifier(solver=FullBatch()).fit(X, Y).score(X_test, Y_test)
    far, far_test = (X + offset).astype(np.float32), (X_test + offset).astype(np.float32)
    clf = PartialLabelClassifier(solver=Minibatch(), random_state=0).fit(far, Y)
    assert clf.score(far_test, Y_test) == pytest.approx(optimum, abs=0.01)


@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_a_constant_added_to_features_changes_nothing(scenes, head):
    X, Y, X_test, _ = scenes
    solver = Minibatch(max_epochs=2)
    fits = [
        PartialLabelClassifier(head=head, solver=solver, alpha=0.01, random_state=0).fit(shift + X, Y)
        for shift in (0, 10)
    ]
    logits = [clf.decision_function(shift + X_test) for clf, shift in zip(fits, (0, 10))]
    assert_allclose(logits[0], logits[1], atol=1e-7)


@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_sparse_rows_are_centred_by_products(scenes, head):
    X, Y, X_test, _ = scenes
    clf = PartialLabelClassifier(head=head, solver=Minibatch(max_epochs=2), alpha=0.01, random_state=0)
    dense = clf.fit(X, Y).decision_function(X_test)
    assert_allclose(clf.fit(sp.csr_array(X), Y).decision_function(X_test), dense, atol=1e-7)


@pytest.mark.parametrize("head", HEADS, ids=repr)
def test_arrays_refer_to_features_as_passed(head):
    rng = np.random.default_rng(0)
    X = torch.as_tensor(rng.normal(3, 1, size=(7, 6)))
    module = build_head(head, HeadContext(6, 4, seed=0)).double()
    module.set_units(InputUnits(0.5, torch.as_tensor(rng.normal(3, 1, 6))))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.as_tensor(rng.normal(size=parameter.shape)))
    logits = module(X).detach()
    again = build_head(head, HeadContext(6, 4, seed=0)).double()
    again.load_arrays(module.arrays())
    assert_allclose(again(X).detach(), logits, atol=1e-10)
    # Also in other units.
    again.set_units(InputUnits(3.0, torch.ones(6)))
    again.load_arrays(module.arrays())
    assert_allclose(again(X).detach(), logits, atol=1e-10)


def test_intercepts_move_as_fast_as_logits():
    """Labels that are far more frequent than a loss starts from: the mean of the features no longer helps them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 900))
    Y = np.where(rng.random((400, 3)) < 0.9, 1, -1)
    # A penalty that leaves nothing but intercepts.
    first = PartialLabelClassifier(alpha=1e3, solver=Minibatch(), random_state=0).fit(X, -Y)
    again = first.set_params(warm_start=True).fit(X, Y)
    # At the rate of a weight they would still be at a tenth.
    assert (again.predict_proba(X).mean(0) > 0.75).all()


def units_of(X):
    dtype = torch.as_tensor(X).dtype
    return centered_units(as_features(X, dtype=dtype, device=torch.device("cpu"), max_resident_bytes=None), None)


def test_units():
    rng = np.random.default_rng(0)
    X = rng.normal([1, 2, 300], [1, 2, 3], size=(1000, 3))

    scale, center = units_of(X)
    assert_allclose(center, X.mean(0))
    assert np.square(scale * (X - X.mean(0))).mean() == pytest.approx(1)
    # Equal rows have no spread to be scaled by.
    scale, center = units_of(np.tile(X[0], (10, 1)))
    assert center is None
    assert np.square(scale * X[0]).mean() == pytest.approx(1)


def unit_normal(n_rows=400, seed=0):
    """Rows of unit variance, whose default fit has logits with a standard deviation near four."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 8))
    return X, np.where(X @ rng.normal(size=(8, 4)) + 0.5 * rng.normal(size=(n_rows, 4)) > 0, 1, -1)


def logits_of(X, Y):
    return PartialLabelClassifier(solver=Minibatch(), random_state=0).fit(X, Y).decision_function(X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [1e4, 1e9])
def test_constant_columns_have_no_influence(dtype, constant):
    X, Y = unit_normal()
    expected = logits_of(X.astype(dtype), Y)
    wider = np.c_[X, np.full(400, constant)].astype(dtype)
    # The default rate depends on the number of columns.
    assert_allclose(logits_of(wider, Y), expected, atol=0.1 * expected.std())
    if constant < 1e6:  # products of sparse float32 rows are rounded before the center is subtracted
        assert_allclose(logits_of(sp.csr_array(wider), Y), logits_of(wider, Y), atol=0.01)


@pytest.mark.parametrize("offset", [1e5, 1e6])
def test_features_far_from_zero(offset):
    X, Y = unit_normal()
    assert_allclose(logits_of(X + offset, Y), logits_of(X, Y), atol=1e-3)


@pytest.mark.parametrize("offset", [0, 1000])
def test_rare_features_far_from_zero(offset):
    """Most rows are equal: sums about zero would cancel in float32."""
    rng = np.random.default_rng(0)
    X = (rng.random((4000, 3)) < 0.02).astype(np.float32)
    units = units_of(X + np.float32(offset))
    assert units.scale == pytest.approx(1 / X.astype(np.float64).var(0).mean() ** 0.5, rel=0.01)
    assert_allclose(units.center, X.mean(0) + offset, rtol=1e-6)


def test_the_order_of_rows_has_no_influence_on_the_units():
    X, _ = unit_normal(6400)
    X[::100] *= 1e-6
    ordered, mixed = units_of(X), units_of(np.random.default_rng(0).permutation(X))
    assert ordered.scale == pytest.approx(mixed.scale, rel=1e-3)
