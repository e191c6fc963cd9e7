"""Label embeddings: against the linear head, against reduced-rank regression, and in estimators."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.features._moments import InputUnits
from skpartial.heads import CategoryGNN, Ensemble, HeadContext, LabelEmbedding
from skpartial.heads._module import build_head
from skpartial.images import Backbone
from skpartial.labels import drop_labels
from skpartial.losses import WARP, IgnoreUnknown
from skpartial.metrics import mean_average_precision
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training._checkpoints import Checkpoint

# To the optimum: whole batches, with steps that end at zero.
TO_THE_END = Minibatch(learning_rate=0.1, max_epochs=600, batch_size=200, schedule="cosine")


def weights(clf):
    """The linear map that a fitted embedding is."""
    return clf.head_parameters_["embedding"] @ clf.head_parameters_["projection"]


def some_module(n_components=2, head=None):
    module = build_head(head or LabelEmbedding(n_components), HeadContext(6, 4, seed=3))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return module


def test_logits_are_products_of_embeddings():
    module = some_module()
    module.set_units(InputUnits(0.5))
    kept = module.arrays()
    X = np.random.default_rng(0).standard_normal((7, 6)).astype(np.float32)
    expected = X @ (kept["embedding"] @ kept["projection"]).T + kept["bias"]
    for rows in (torch.as_tensor(X), torch.as_tensor(X).to_sparse_coo()):
        np.testing.assert_allclose(module(rows).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    again = LabelEmbedding(2).build(HeadContext(6, 4))
    again.set_units(InputUnits(2.0))
    again.load_arrays(kept)
    np.testing.assert_allclose(again(torch.as_tensor(X)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_that_of_the_product():
    module = some_module()
    kept = module.arrays()
    expected = ((kept["embedding"] @ kept["projection"]) ** 2).sum()
    assert LabelEmbedding(2).extra_penalty(module).item() == pytest.approx(expected, rel=1e-5)
    # As a part of other heads, too.
    network = some_module(head=CategoryGNN(base=LabelEmbedding(2)))
    base = network.base
    assert CategoryGNN(base=LabelEmbedding(2)).extra_penalty(network).item() == pytest.approx(
        LabelEmbedding(2).extra_penalty(base).item()
    )
    head = Ensemble(LabelEmbedding(2), n_members=3)
    members = some_module(head=head).inner
    found = [LabelEmbedding(2).extra_penalty(member).item() for member in members.members]
    assert len(set(found)) == 3
    assert head.extra_penalty(members).item() == pytest.approx(sum(found))
    assert Ensemble("linear").extra_penalty(nn.Identity()) is None


@pytest.mark.parametrize("alpha", [0.02, 1.0])
def test_with_as_many_components_as_labels_it_is_the_linear_head(partial_data, alpha):
    X, Y = partial_data
    X = 3 * X
    linear = PartialLabelClassifier("iu", alpha=alpha, solver=FullBatch(tol=1e-10)).fit(X, Y)
    settings = {"alpha": alpha, "solver": TO_THE_END, "random_state": 0}
    clf = PartialLabelClassifier("iu", head=LabelEmbedding(), **settings).fit(X, Y)
    np.testing.assert_allclose(weights(clf), linear.coef_, atol=2e-3 * np.abs(linear.coef_).max())
    np.testing.assert_allclose(clf.head_parameters_["bias"], linear.intercept_, atol=2e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_with_few_components_it_is_reduced_rank_regression(partial_data, alpha):
    X, Y = partial_data
    Y = np.where(Y == 0, np.sign(np.roll(X, 1, axis=1)[:, :5]), Y)
    settings = {"alpha": alpha, "solver": TO_THE_END, "random_state": 0}
    clf = PartialLabelClassifier(IgnoreUnknown(surrogate="squared"), head=LabelEmbedding(2), **settings).fit(X, Y)
    # Izenman 1975: the ridge regression, projected on the directions in which its fitted values are longest. Rows that
    # stand for the penalty are fitted, too. A known entry costs (x - 2 y)^2 / 8.
    rows, values, d = X - X.mean(0), 2 * (Y - Y.mean(0)), X.shape[1]
    padded = np.vstack([rows, np.sqrt(4 * len(X) * alpha) * np.eye(d)])
    ridge = np.linalg.lstsq(padded, np.vstack([values, np.zeros((d, 5))]), rcond=None)[0]
    direction = np.linalg.svd(padded @ ridge, full_matrices=False)[2][:2]
    expected = (ridge @ direction.T @ direction).T
    assert np.abs(expected - ridge.T).max() > 0.05
    np.testing.assert_allclose(weights(clf), expected, atol=5e-3 * np.abs(expected).max())


def test_labels_that_share_directions_learn_from_each_other():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 30)).astype(np.float32)
    logits = 4 * X @ rng.standard_normal((30, 2)) / 30**0.5 @ rng.standard_normal((2, 40))
    complete = np.where(logits > rng.logistic(size=logits.shape), 1, -1)
    settings = {"random_state": 0, "solver": Minibatch(schedule="cosine")}
    # WSABIE proper is the last: a ranking loss on the same space.
    for loss, known, alpha in (("iu", 0.05, 0.03), (WARP(unknown="ignore"), 0.2, 0.03)):
        Y, found = np.asarray(drop_labels(complete[:300], known=known, random_state=0)), {}
        for head in ("linear", LabelEmbedding(2)):
            clf = PartialLabelClassifier(loss, head=head, alpha=alpha, **settings).fit(X[:300], Y)
            scores = clf.decision_function(X[300:])
            if loss == "iu":
                found[str(head)] = mean_average_precision(complete[300:], scores)
            else:  # the order of the labels of a row is what it learns
                found[str(head)] = mean_average_precision(complete[300:].T, scores.T)
        assert found["LabelEmbedding(n_components=2)"] > found["linear"] + 0.05


def test_units_of_the_features_are_not_seen(partial_data):
    X, Y = partial_data
    settings = {"head": LabelEmbedding(2), "random_state": 0, "solver": Minibatch(max_epochs=5)}
    plain = PartialLabelClassifier(alpha=0.01, **settings).fit(X, Y)
    scaled = PartialLabelClassifier(alpha=0.01 * 100**2, **settings).fit(100 * X, Y)
    np.testing.assert_allclose(scaled.decision_function(100 * X), plain.decision_function(X), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(100 * weights(scaled), weights(plain), rtol=1e-6, atol=1e-8)
    # "auto" stands for what it does for a linear head.
    auto, linear = (
        PartialLabelClassifier(head=head, random_state=0).fit(X, Y).alpha_ for head in (LabelEmbedding(), "linear")
    )
    assert auto == linear


def test_sparse_features_are_the_same(partial_data):
    X, Y = partial_data
    X = np.where(X > 0, X, 0)
    settings = {"head": LabelEmbedding(3), "alpha": 0.01, "solver": Minibatch(max_epochs=3), "random_state": 0}
    dense, sparse = (PartialLabelClassifier(**settings).fit(A, Y) for A in (X, sp.csr_array(X)))
    np.testing.assert_allclose(dense.decision_function(X), sparse.decision_function(sp.csr_array(X)), rtol=1e-6)


def test_labels_that_cannot_be_fitted_have_constant_logits_and_no_say(partial_data):
    X, Y = partial_data
    found = []
    for first in (0, 1):
        Y = Y.copy()
        Y[:, 0] = first
        with pytest.warns(UserWarning, match="1 of 5 labels cannot be fitted"):
            clf = PartialLabelClassifier("iu", head=LabelEmbedding(2), alpha=0.01, random_state=0).fit(X, Y)
        found.append(clf.decision_function(X))
        assert np.ptp(found[-1][:, 0]) == 0
        assert not clf.head_parameters_["embedding"][0].any()
    assert np.ptp(found[0][:, 1:], axis=0).min() > 0.1
    np.testing.assert_array_equal(found[0][:, 1:], found[1][:, 1:])


def test_it_is_cloned_pickled_and_searched(partial_data):
    X, Y = partial_data
    settings = {"alpha": 0.01, "solver": Minibatch(max_epochs=4), "random_state": 0}
    clf = PartialLabelClassifier(head=LabelEmbedding(2), **settings).fit(X, Y)
    for copy in (clone(clf).fit(X, Y), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(copy.decision_function(X), clf.decision_function(X))
    named = PartialLabelClassifier(head="embedding", **settings)
    search = GridSearchCV(named, {"head__n_components": [1, 3]}, cv=2, error_score="raise").fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"].round(8))) == 2
    assert LabelEmbedding().build(HeadContext(7, 5)).projection.shape == (5, 7)
    assert LabelEmbedding().build(HeadContext(700, 500)).projection.shape == (100, 700)
    with pytest.raises(ValueError, match=r"the head LabelEmbedding\(\) is not linear. Use solver=Minibatch"):
        PartialLabelClassifier(head="embedding", alpha=0.01, solver=FullBatch()).fit(X, Y)


@pytest.mark.parametrize("n_components", [0, 2.5, "all", True])
def test_what_is_out_of_range_is_refused(partial_data, n_components):
    with pytest.raises(ValueError, match="n_components must be None or a whole number of at least 1, got "):
        PartialLabelClassifier(head=LabelEmbedding(n_components), alpha=0.01).fit(*partial_data)


def test_a_stream_goes_on(partial_data):
    X, Y = partial_data
    Y = np.where(Y == 0, 1, Y)
    clf = PartialLabelClassifier("iu", head=LabelEmbedding(2), alpha=0.01)
    before = clf.partial_fit(X[:60], Y[:60]).head_parameters_["projection"]
    after = clf.partial_fit(X[60:], Y[60:]).head_parameters_["projection"]
    assert 1e-6 < np.abs(after - before).max() < np.abs(before).max()


# ------------------------------------------------------------------------------------------------------- networks


def on_images(**more):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    backbone = Backbone(network, image_size=32, finetune="linear_init")
    solver = Minibatch(learning_rate=1e-3, max_epochs=3, batch_size=20)
    settings = {"head": LabelEmbedding(3), "backbone": backbone, "solver": solver, "alpha": 0.01, "random_state": 0}
    return PartialLabelClassifier("iu", **(settings | more))


def test_in_a_network_it_is_interrupted_and_goes_on(tmp_path, monkeypatch):
    scenes = make_digit_scenes(80, random_state=0)
    X, Y = scenes.images, np.asarray(drop_labels(scenes.target[:, :5], known=0.6, random_state=0))
    clf = on_images().fit(X, Y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.decision_function(X), clf.decision_function(X))
    # The penalty reaches it there, too.
    assert np.linalg.norm(weights(on_images(alpha=30.0).fit(X, Y))) < 0.7 * np.linalg.norm(weights(clf))
    save, count = Checkpoint.save, 0

    def interrupted(self, content):
        nonlocal count
        save(self, content)
        count += 1
        if count == 27:  # two epochs into the second stage
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        on_images(checkpoint_dir=tmp_path).fit(X, Y)
    monkeypatch.undo()
    resumed = on_images(checkpoint_dir=tmp_path).fit(X, Y)
    np.testing.assert_array_equal(resumed.decision_function(X), clf.decision_function(X))
    np.testing.assert_array_equal(weights(resumed), weights(clf))
