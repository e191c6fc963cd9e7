"""Pooled heads: against the linear head on averages, and against the boost written out in NumPy."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.heads import AveragePooling, HeadContext
from skpartial.losses import ROLE, LargeLoss
from skpartial.solvers import FullBatch, Minibatch


@pytest.fixture
def maps():
    """Objects of 5 labels in some of 9 regions each, and labels of which half are unknown."""
    rng = np.random.default_rng(0)
    present = rng.random((150, 5)) < 0.3
    where = rng.integers(9, size=(150, 5))
    channels = rng.standard_normal((5, 12))
    X = 0.5 * rng.standard_normal((150, 12, 9))
    for i, j in zip(*np.nonzero(present)):
        X[i, :, where[i, j]] += channels[j]
    Y = np.where(present, 1, -1)
    return X.reshape(150, 12, 3, 3), np.where(rng.random(Y.shape) < 0.5, Y, 0), Y


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_without_a_boost_it_is_the_linear_head_on_averages(maps, optimizer):
    X, Z, _ = maps
    solver = Minibatch(optimizer, 0.1, max_epochs=5)
    pooled = PartialLabelClassifier(head=AveragePooling(), solver=solver, alpha=0.1, random_state=0).fit(X, Z)
    linear = PartialLabelClassifier(solver=solver, alpha=0.1, random_state=0).fit(X.mean((2, 3)), Z)
    np.testing.assert_allclose(pooled.head_parameters_["weight"], linear.coef_, rtol=1e-6)
    np.testing.assert_allclose(pooled.decision_function(X), linear.decision_function(X.mean((2, 3))), rtol=1e-6)
    assert pooled.n_features_in_ == 12


def test_the_boost_is_the_formula(maps):
    X, Z, _ = maps
    head = AveragePooling(boost=5.0)
    clf = SinglePositiveClassifier(LargeLoss(), head=head, threshold=0.5, random_state=0).fit(X, Z == 1)
    weight, bias = clf.head_parameters_["weight"], clf.head_parameters_["bias"]
    scores = np.einsum("jc,nchw->njhw", weight, X)
    boosted = np.where(scores > 0, 5 * scores, scores)
    np.testing.assert_allclose(clf.decision_function(X), boosted.mean((2, 3)) + bias, rtol=1e-6)
    module = AveragePooling(boost=5.0).build(HeadContext(12, 5)).double()
    module.load_state_dict({"weight": torch.as_tensor(weight), "bias": torch.as_tensor(bias)})
    np.testing.assert_allclose(module.score_maps(torch.as_tensor(X)).detach(), scores, rtol=1e-6)


def test_a_boost_finds_small_objects(maps):
    """An average hides what shows in one region of nine; a boost brings it out."""
    X, Z, Y = maps
    scores = [
        PartialLabelClassifier("iu", head=AveragePooling(boost), solver=Minibatch(max_epochs=40), random_state=0)
        .fit(X, Z)
        .score(X, np.where(Z == 0, Y, 0))
        for boost in (1.0, 5.0)
    ]
    assert scores[1] > scores[0] + 0.03


@pytest.mark.parametrize("loss", ["ll_r", "ll_ct", "ll_cp", ROLE(1.5), "gr"])
def test_every_kind_of_loss_trains_it(maps, loss):
    X, Z, Y = maps
    clf = SinglePositiveClassifier(loss, head=AveragePooling(boost=5), random_state=0).fit(X, Z == 1)
    assert clf.score(X, Y) > 0.6
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))


def test_maps_of_any_kind(maps, tmp_path):
    X, Z, _ = maps
    X = X.astype(np.float32)
    np.save(tmp_path / "maps.npy", X)
    solver = Minibatch(max_epochs=2)
    fits = [
        PartialLabelClassifier(head=AveragePooling(5.0), solver=solver, random_state=0).fit(kind, Z)
        for kind in (X, torch.from_numpy(X), np.load(tmp_path / "maps.npy", mmap_mode="r"))
    ]
    for clf in fits[1:]:
        np.testing.assert_array_equal(clf.predict_proba(X), fits[0].predict_proba(X))
    held = PartialLabelClassifier(head=AveragePooling(5.0), solver=solver, random_state=0)
    held.fit(X[:100], Z[:100], X_val=X[100:], y_val=Z[100:])
    assert held.best_epoch_ in (1, 2)


def test_units_of_the_maps_do_not_matter(maps):
    X, Z, _ = maps
    fits = [
        PartialLabelClassifier(head=AveragePooling(5.0), solver=Minibatch(max_epochs=3), alpha=0, random_state=0)
        .fit(unit * X, Z)
        .decision_function(unit * X)
        for unit in (1, 1024)
    ]
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-6)


def test_refusals(maps):
    X, Z, _ = maps
    with pytest.raises(ValueError, match=r"head=AveragePooling\(\) takes feature maps .* but X has 2 dimensions"):
        PartialLabelClassifier(head=AveragePooling()).fit(X.mean((2, 3)), Z)
    with pytest.raises(ValueError, match="X has 4 dimensions, but head='linear' takes features"):
        PartialLabelClassifier().fit(X, Z)
    with pytest.raises(ValueError, match="X has 4 dimensions, but head='linear' takes features"):
        PartialLabelClassifier().fit(torch.from_numpy(X), Z)
    with pytest.raises(ValueError, match="boost must be a number above 0, got 0"):
        PartialLabelClassifier(head=AveragePooling(boost=0)).fit(X, Z)
    with pytest.raises(ValueError, match=r"the head AveragePooling\(\) is not linear"):
        PartialLabelClassifier(head=AveragePooling(), solver=FullBatch()).fit(X, Z)
    clf = PartialLabelClassifier(head=AveragePooling(), solver=Minibatch(max_epochs=1)).fit(X, Z)
    with pytest.raises(ValueError, match="X has 6 features, but PartialLabelClassifier is expecting 12"):
        clf.predict(X[:, :6])
    X[3, 2, 1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        clf.predict(X)
