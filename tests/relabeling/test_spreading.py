"""Label spreading: against a dense linear system, and scikit-learn's on labels of one class a row."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import NearestNeighbors

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.labels import drop_labels
from skpartial.model_selection import PartialLabelKFold
from skpartial.relabeling import LabelSpreading, _graph
from skpartial.relabeling._graph import row_graph, spread
from skpartial.solvers import Minibatch


def few_known(n=400, known=0.1, seed=0):
    scenes = make_digit_scenes(n, random_state=seed)
    return scenes.data, drop_labels(scenes.target, known=known, by="label", random_state=seed), scenes.target


def dense_graph(X, k, power):
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    W = np.zeros_like(cosines)
    for i, row in enumerate(cosines):
        nearest = np.argsort(-row)[:k]
        W[i, nearest] = np.maximum(row[nearest], 0) ** power
    W = (W + W.T) / 2
    return W / np.sqrt(np.outer(W.sum(1), W.sum(1)))


def test_targets_are_those_of_walks_on_the_dense_graph(monkeypatch):
    """Thirty steps by hand in double precision, of a graph made by sorting all cosines."""
    monkeypatch.setattr(_graph, "_BLOCK_LABELS", 3)
    X, Y, _ = few_known(80)
    Y[:, 2] = np.maximum(Y[:, 2], 0)  # of this label only presences are known
    S, a = dense_graph(X.astype(float), 6, 4.0), 0.8
    known = Y != 0
    prior = ((Y == 1).sum(0) + 0.5) / (known.sum(0) + 1)
    F0, C0 = np.where(known, (Y == 1) - prior, 0), known.astype(float)
    F, C = F0, C0
    for _ in range(30):
        F, C = a * S @ F + (1 - a) * F0, a * S @ C + (1 - a) * C0
    expected = np.where(known, Y == 1, F / C + prior)
    clf = PartialLabelClassifier("an", relabeling=LabelSpreading(6, a, 4.0), alpha=0.1).fit(X, Y)
    both = (Y == 1).any(0) & (Y == -1).any(0)
    np.testing.assert_allclose(clf.spread_labels_[:, both], expected[:, both], atol=2e-5)
    np.testing.assert_array_equal(np.isnan(clf.targets_in_use_), known | ~both)
    assert (clf.n_neighbors_, clf.damping_) == (6, a)


def test_the_head_is_fitted_to_the_targets():
    X, Y, _ = few_known(120)
    clf = PartialLabelClassifier("iu", relabeling=LabelSpreading(10, 0.9), alpha=0.05).fit(X.astype(float), Y)
    t, p = np.where(Y != 0, Y == 1, clf.spread_labels_), clf.predict_proba(X)
    fitted = ~np.isnan(clf.spread_labels_).any(0)
    # The gradient of the cross-entropy to the targets, with the penalty.
    slope = X.T.astype(float) @ (p - t) / len(X) + 0.05 * clf.coef_.T
    np.testing.assert_allclose(slope[:, fitted], 0, atol=1e-3 * np.abs(X.T @ t / len(X)).max())


def test_what_no_walk_reaches_has_the_prior():
    # Two groups of rows at right angles: nothing of the second is known.
    X = np.array([[1, 0], [1, 0.1], [1, 0.2], [0, 1], [0, 2]], dtype=float)
    graph = row_graph(np.array([[1, 2], [0, 2], [0, 1], [4, 3], [3, 4]]), np.ones((5, 2)), 1.0)
    found = spread(graph, np.array([[1], [-1], [0], [0], [0]], dtype=np.int8), 0.9)
    assert len(X) == len(found)
    np.testing.assert_allclose(found[3:], 0.5)
    assert 0 <= found.min() <= found.max() <= 1


def test_gains_with_few_known_entries():
    """Over three seeds, by more than the spread."""
    gains = []
    for seed in range(3):
        X, Y, _ = few_known(500, 0.05, seed)
        test = make_digit_scenes(500, random_state=100 + seed)
        plain, spread_ = (
            PartialLabelClassifier("iu", relabeling=rule, alpha=0.01, random_state=0).fit(X, Y)
            for rule in (None, LabelSpreading())
        )
        gains.append(spread_.score(test.data, test.target) - plain.score(test.data, test.target))
    assert np.mean(gains) > 3 * np.std(gains) / np.sqrt(3) > 0


def test_auto_chooses_by_held_out_entries():
    X, Y, truth = few_known(300, 0.2)
    auto = PartialLabelClassifier("iu", relabeling=LabelSpreading(), alpha=0.1, random_state=0).fit(X, Y)
    assert auto.n_neighbors_ in (10, 30, 60)
    assert auto.damping_ in (0.5, 0.8, 0.9, 0.97)
    hidden = Y == 0

    def error(k, damping):
        rule = LabelSpreading(k, damping)
        found = PartialLabelClassifier("iu", relabeling=rule, alpha=0.1).fit(X, Y).spread_labels_
        return np.square(found - (truth == 1))[hidden].mean()

    errors = {(k, a): error(k, a) for k in (10, 60) for a in (0.5, 0.97)}
    assert error(auto.n_neighbors_, auto.damping_) <= min(errors.values()) + 0.1 * np.ptp(list(errors.values()))


def test_certainty_weighs_and_an_index_is_used():
    X, Y, _ = few_known(100)
    options = {"n_neighbors": 5, "damping": 0.9}
    equal, certain, indexed = (
        PartialLabelClassifier("iu", relabeling=rule, alpha=0.1, precision="float64").fit(X, Y)
        for rule in (
            LabelSpreading(**options),
            LabelSpreading(**options, weights="certainty"),
            LabelSpreading(**options, index=NearestNeighbors()),
        )
    )
    np.testing.assert_allclose(certain.spread_labels_, equal.spread_labels_)
    assert np.abs(certain.coef_ - equal.coef_).max() > 1e-3
    np.testing.assert_allclose(indexed.coef_, equal.coef_, atol=1e-4)


def test_rows_to_be_predicted_may_take_part():
    X, Y, truth = few_known(300, 0.3)
    Y[200:] = 0
    clf = PartialLabelClassifier("iu", relabeling=LabelSpreading(), alpha=0.1, random_state=0).fit(X, Y)
    found = clf.spread_labels_[200:]
    assert not np.isnan(found).any()
    chance = np.square((truth[:200] == 1).mean(0) - (truth[200:] == 1)).mean()
    assert np.square(found - (truth[200:] == 1)).mean() < 0.85 * chance


def test_labels_of_one_sign_are_left_and_presences_alone_refused():
    X, Y, _ = few_known(100)
    Y[:, 0] = np.maximum(Y[:, 0], 0)
    clf = PartialLabelClassifier("an", relabeling=LabelSpreading(), alpha=0.1, random_state=0).fit(X, Y)
    assert np.isnan(clf.spread_labels_[Y[:, 0] == 0, 0]).all()
    with pytest.raises(ValueError, match="LabelSpreading needs a label with both known positives and known negatives"):
        SinglePositiveClassifier(relabeling=LabelSpreading(), alpha=0.1).fit(X, np.maximum(Y, 0))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (LabelSpreading(n_neighbors="few"), "n_neighbors must be 'auto' or a number"),
        (LabelSpreading(n_neighbors=0), "n_neighbors must be a whole number"),
        (LabelSpreading(damping=1.0), r"damping must be a number in \(0, 1\)"),
        (LabelSpreading(power=0), "power must be"),
        (LabelSpreading(weights="soft"), "weights must be 'equal' or 'certainty'"),
    ],
)
def test_odd_parameters(rule, message):
    X, Y, _ = few_known(50)
    with pytest.raises(ValueError, match=f"LabelSpreading: {message}"):
        PartialLabelClassifier("iu", relabeling=rule).fit(X, Y)


def test_minibatches_searches_and_any_pointwise_loss():
    X, Y, _ = few_known(120, 0.3)
    for loss in ("partial_bce", "an", "asl"):
        clf = PartialLabelClassifier(
            loss, relabeling=LabelSpreading(10, 0.9), solver=Minibatch(max_epochs=2), alpha=0.01, random_state=0
        ).fit(X, Y)
        assert np.isfinite(clf.coef_).all()
    search = GridSearchCV(
        PartialLabelClassifier("iu", relabeling=LabelSpreading(), alpha=0.1, random_state=0),
        {"relabeling__damping": [0.5, 0.9]},
        cv=PartialLabelKFold(2, random_state=0, unlabelled="train"),
    ).fit(X, Y)
    assert search.best_estimator_.damping_ == search.best_params_["relabeling__damping"]


def test_one_round_is_enough():
    X, Y, _ = few_known(100)
    clf = PartialLabelClassifier("iu", relabeling=LabelSpreading(10, 0.9), alpha=0.1).fit(X, Y)
    assert {record["epoch"] for record in clf.history_} == {1}
