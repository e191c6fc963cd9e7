"""Propagation: against the released code's numbers, a plain search, and what must hold for any labels."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.images import Backbone
from skpartial.losses import RampWARP
from skpartial.model_selection import PartialLabelKFold
from skpartial.relabeling import Propagation, Relabeling, RelabelingContext, _neighbors
from skpartial.solvers import Minibatch
from skpartial.training import TrainingData


class Rows:
    """A predictor that only has features."""

    def __init__(self, features):
        self.X = torch.as_tensor(features)

    def features(self, rows):
        return self.X if rows is None else self.X[rows]


def context(X, Y, state=None, **more):
    data = TrainingData.encode(Y)
    return RelabelingContext(given=data, current=data, epoch=1, n_features=X.shape[1], predictor=Rows(X), **more)


def propagate(rule, X, Y):
    """The training data and the state after a propagation."""
    found = context(X, Y)
    state = rule.start(found)
    found = RelabelingContext(**{**vars(found), "state": state})
    return rule.relabel(found), state


def unlabelled_scenes(n=150, labelled=60):
    scenes = make_digit_scenes(n, random_state=0)
    Y = scenes.target.copy()
    Y[labelled:] = 0
    return scenes.data, Y, scenes.target


def test_numbers_of_the_released_code(golden):
    arrays = golden("relabeling")
    X = np.concatenate([arrays["rml_prop_lf"], arrays["rml_prop_uf"]])
    Y = np.zeros((9, 6), dtype=int)
    Y[:5] = np.where(arrays["rml_prop_ly"] == 1, 1, -1)
    clf = PartialLabelClassifier("an", relabeling=Propagation(), alpha=0.1).fit(X, Y)
    np.testing.assert_array_equal(clf.neighbors_[5:, 0], arrays["rml_prop_nn"])
    np.testing.assert_array_equal(clf.neighbors_[:5, 0], -1)
    np.testing.assert_allclose(clf.similarities_[5:], arrays["rml_prop_sim"], rtol=1e-6)
    np.testing.assert_array_equal(clf.similarities_[:5], 1)
    np.testing.assert_array_equal(clf.propagated_labels_[5:] == 1, arrays["rml_prop_uy"] == 1)
    given = PartialLabelClassifier("an", relabeling=Propagation(bandwidth=float(arrays["rml_prop_t"])), alpha=0.1)
    np.testing.assert_allclose(given.fit(X, Y).similarities_, clf.similarities_, rtol=1e-6)


@pytest.mark.parametrize("loss", ["an", "iu"])
def test_equals_a_fit_on_the_inherited_labels_with_those_weights(loss):
    """By hand: nearest labelled row, heat kernel, then a plain fit with sample weights."""
    X, Y, _ = unlabelled_scenes()
    X = X.astype(np.float64)
    distances = np.linalg.norm(X[60:, None] - X[None, :60], axis=2)
    weights = np.exp(-distances.min(axis=1) / (distances.min(axis=1).sum() / len(X)))
    by_hand = PartialLabelClassifier(loss, alpha=0.1).fit(
        X, np.concatenate([Y[:60], Y[distances.argmin(axis=1)]]), np.concatenate([np.ones(60), weights])
    )
    clf = PartialLabelClassifier(loss, relabeling=Propagation(), alpha=0.1).fit(X, Y)
    np.testing.assert_allclose(clf.coef_, by_hand.coef_, atol=1e-4)
    without = PartialLabelClassifier("iu", alpha=0.1).fit(X, Y)
    assert np.abs(clf.coef_ - without.coef_).max() > 1e-2


def test_several_neighbours_mix_by_similarity():
    X = np.array([[0.0], [1.0], [5.0], [0.4]])
    Y = np.array([[1, -1], [-1, 0], [1, 1], [0, 0]])
    data, state = propagate(Propagation(n_neighbors=2, bandwidth=2.0), X, Y)
    near, far = np.exp(-0.2), np.exp(-0.3)
    np.testing.assert_allclose(data.targets[3], [near / (near + far), 0])
    np.testing.assert_allclose(data.weights[3], [(near + far) / 2, near / 2])
    assert np.isnan(data.targets[:3]).all()
    assert (data.weights[:3] == 1).all()
    assert state["neighbors"][3].tolist() == [0, 1]


def test_entries_of_partly_known_rows():
    X = np.array([[0.0], [1.0], [3.0]])
    Y = np.array([[1, 0, 0], [-1, 1, 0], [0, 0, 0]])
    whole, _ = propagate(Propagation(), X, Y)
    np.testing.assert_array_equal(whole.labels.toarray(), [[1, 0, 0], [-1, 1, 0], [-1, 1, 0]])
    data, state = propagate(Propagation(fill="entries", bandwidth=1.0), X, Y)
    filled = data.nearest_labels().toarray()
    np.testing.assert_array_equal(filled, [[1, 1, 0], [-1, 1, 0], [-1, 1, 0]])  # what is known stays
    np.testing.assert_allclose(data.weights[0], [1, np.exp(-1), 1])
    assert state["neighbors"][:, 0].tolist() == [1, 0, 1]  # never itself


def test_labels_given_are_left_alone_and_nothing_to_do_changes_nothing():
    X, Y, truth = unlabelled_scenes()
    before = Y.copy()
    PartialLabelClassifier("iu", relabeling=Propagation(), alpha=0.1).fit(X, Y)
    np.testing.assert_array_equal(Y, before)
    plain = PartialLabelClassifier("iu", alpha=0.1).fit(X, truth)
    clf = PartialLabelClassifier("iu", relabeling=Propagation(), alpha=0.1).fit(X, truth)
    np.testing.assert_array_equal(clf.coef_, plain.coef_)
    assert (clf.neighbors_ == -1).all()


def test_identical_rows_weigh_one():
    data, _ = propagate(Propagation(), np.zeros((3, 2)), np.array([[1, -1], [0, 0], [0, 0]]))
    np.testing.assert_array_equal(data.weights, 1)


def test_two_labelled_rows_are_needed():
    with pytest.raises(ValueError, match=r"n_neighbors=2\) needs at least 2 rows with known labels.*y has 1"):
        PartialLabelClassifier("an", relabeling=Propagation(2), alpha=0.1).fit(np.eye(3), [[1, -1], [0, 0], [0, 0]])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Propagation(n_neighbors=0), "n_neighbors must be a whole number of at least 1"),
        (Propagation(bandwidth="median"), "bandwidth must be 'mean' or a positive number"),
        (Propagation(bandwidth=0.0), "bandwidth must be 'mean' or a positive number"),
        (Propagation(refresh_every=0), "refresh_every must be"),
        (Propagation(fill="all"), "fill must be 'rows' or 'entries'"),
        (Propagation(index=3), "index must be None or an object with fit and kneighbors"),
    ],
)
def test_odd_parameters(rule, message):
    X, Y, _ = unlabelled_scenes()
    with pytest.raises(ValueError, match=f"Propagation: {message}"):
        PartialLabelClassifier("iu", relabeling=rule).fit(X, Y)


class TestSearch:
    @pytest.mark.parametrize("n_neighbors", [1, 4])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_exact_in_tiles(self, monkeypatch, n_neighbors, dtype):
        monkeypatch.setattr(_neighbors, "_TILE_ENTRIES", 700)
        monkeypatch.setattr(_neighbors, "_BLOCK_ROWS", 33)
        rng = np.random.default_rng(0)
        X = (rng.standard_normal((200, 7)) + 1000).astype(dtype)  # far from zero
        queries, references = np.arange(0, 200, 2), np.sort(rng.permutation(200)[:120])
        found = context(X, np.ones((200, 1), dtype=int))
        distances, neighbors = _neighbors.nearest_rows(
            found, torch.as_tensor(queries), torch.as_tensor(references), n_neighbors
        )
        every = np.linalg.norm(X[queries, None].astype(float) - X[references].astype(float), axis=2)
        every[queries[:, None] == references] = np.inf
        np.testing.assert_allclose(distances, np.sort(every, axis=1)[:, :n_neighbors], rtol=1e-6)
        np.testing.assert_array_equal(neighbors, references[np.argsort(every, axis=1)[:, :n_neighbors]])

    @pytest.mark.parametrize("directions", [False, True])
    def test_an_index_of_the_users_finds_the_same(self, directions):
        X = np.random.default_rng(0).standard_normal((80, 5))
        rows, found, index = torch.arange(80), context(X, np.ones((80, 1), dtype=int)), NearestNeighbors()
        exact = _neighbors.nearest_rows(found, rows, rows, 3, directions=directions)
        indexed = _neighbors.nearest_rows(found, rows, rows, 3, directions=directions, index=index)
        for one, other in zip(exact, indexed):
            torch.testing.assert_close(one, other)
        assert not hasattr(index, "n_samples_fit_")

    def test_sparse_features(self):
        X, Y, _ = unlabelled_scenes()
        dense = PartialLabelClassifier("iu", relabeling=Propagation(), alpha=0.1).fit(X, Y)
        sparse = PartialLabelClassifier("iu", relabeling=Propagation(), alpha=0.1).fit(sp.csr_array(X), sp.csr_array(Y))
        np.testing.assert_array_equal(sparse.neighbors_, dense.neighbors_)
        np.testing.assert_array_equal(sparse.propagated_labels_.toarray(), dense.propagated_labels_)


class TestInEstimators:
    def test_searches_pipelines_clones_and_pickles(self):
        X, Y, _ = unlabelled_scenes()
        steps = make_pipeline(StandardScaler(), PartialLabelClassifier("iu", relabeling=Propagation(), alpha=0.1))
        grid = {"partiallabelclassifier__relabeling__n_neighbors": [1, 3]}
        search = GridSearchCV(steps, grid, cv=PartialLabelKFold(2, random_state=0, unlabelled="train")).fit(X, Y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        best = search.best_estimator_[-1]
        assert best.neighbors_.shape == (len(X), best.relabeling.n_neighbors)
        copies = clone(best).fit(StandardScaler().fit_transform(X), Y), pickle.loads(pickle.dumps(best))
        for copy in copies:
            np.testing.assert_allclose(copy.coef_, best.coef_, atol=1e-6)

    @pytest.mark.parametrize("unknown", ["absent", "ignore"])
    def test_ranking_with_weighted_rows_in_minibatches(self, unknown):
        X, Y, _ = unlabelled_scenes()
        how = {"alpha": 1e-3, "solver": Minibatch(max_epochs=4), "random_state": 0}
        clf = PartialLabelClassifier(RampWARP(unknown=unknown), relabeling=Propagation(), **how).fit(X, Y)
        labels, weights = clf.propagated_labels_, clf.similarities_

        class ByHand(Relabeling):
            from_start = True
            rows = weights

            def relabel(self, context):
                return TrainingData.encode(labels, weights=self.rows)

        by_hand = PartialLabelClassifier(RampWARP(unknown=unknown), relabeling=ByHand(), **how).fit(X, Y)
        np.testing.assert_array_equal(clf.coef_, by_hand.coef_)
        ByHand.rows = None
        equal = PartialLabelClassifier(RampWARP(unknown=unknown), relabeling=ByHand(), **how).fit(X, Y)
        assert np.abs(clf.coef_ - equal.coef_).max() > 1e-2 * np.abs(clf.coef_).max()

    def test_presences_only(self):
        X, Y, _ = unlabelled_scenes()
        clf = SinglePositiveClassifier(relabeling=Propagation(), alpha=0.1).fit(X, np.maximum(Y, 0))
        labels = clf.propagated_labels_
        np.testing.assert_array_equal(labels[60:], np.maximum(Y, 0)[clf.neighbors_[60:, 0]])

    def test_checkpoints_and_best_epochs(self, tmp_path):
        X, Y, truth = unlabelled_scenes()
        how = {"alpha": 1e-3, "solver": Minibatch(max_epochs=3), "random_state": 0, "relabeling": Propagation()}
        plain = PartialLabelClassifier("iu", **how).fit(X, Y)
        saved = PartialLabelClassifier("iu", **how, checkpoint_dir=tmp_path).fit(X, Y)
        np.testing.assert_array_equal(saved.coef_, plain.coef_)
        chosen = PartialLabelClassifier("iu", **how).fit(X, Y, X_val=X, y_val=truth)
        np.testing.assert_array_equal(chosen.neighbors_, plain.neighbors_)


class Network(nn.Module):
    """Pooled colours and one layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=4)
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        return self.layer(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(("refresh_every", "expected"), [(None, [1, 2, 3, 4]), (2, [1, 3])])
def test_behind_a_network_it_looks_again(refresh_every, expected, monkeypatch):
    scenes = make_digit_scenes(24, random_state=0)
    Y = scenes.target.copy()
    Y[8:] = 0
    Y[0], Y[1] = 1, -1
    images = np.repeat(scenes.images, 3, axis=3) if scenes.images.shape[3] == 1 else scenes.images
    looked, relabel = [], Propagation.relabel

    def watch(self, context):
        found = relabel(self, context)
        looked.extend([] if found is None else [context.epoch])
        return found

    monkeypatch.setattr(Propagation, "relabel", watch)
    torch.manual_seed(0)
    clf = PartialLabelClassifier(
        "an",
        backbone=Backbone(Network(), weights=None, image_size=32, augment=None),
        relabeling=Propagation(refresh_every=refresh_every),
        solver=Minibatch(max_epochs=4, learning_rate=0.01),
        alpha=0.0,
        random_state=0,
    ).fit(images, Y)
    assert looked == expected
    assert (clf.neighbors_[8:] >= 0).all()
