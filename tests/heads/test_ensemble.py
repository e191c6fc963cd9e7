"""Ensembles: members that are trained each for itself, whatever they are and whatever trains them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import Ensemble, Head, ParameterGroup
from skpartial.labels import drop_labels
from skpartial.losses import LargeLoss
from skpartial.regularizers import Regularizer
from skpartial.solvers import FullBatch, Minibatch


def make_data(n=60, n_labels=4):
    scenes = make_digit_scenes(n, random_state=0)
    Y = np.asarray(drop_labels(scenes.target[:, :n_labels], known=0.6, random_state=0))
    return scenes.data[:, ::4].astype(np.float64), Y


def fitted(X, Y, loss="iu", **more):
    settings = {"head": Ensemble(n_members=3), "alpha": 0.05, "random_state": 0} | more
    return PartialLabelClassifier(loss, **settings).fit(X, Y)


def test_both_solvers_find_the_same_members():
    X, Y = make_data()
    solved = fitted(X, Y, alpha=0.3, solver=FullBatch(tol=1e-10))
    solver = Minibatch(learning_rate=0.1, max_epochs=200, batch_size=60, schedule="cosine")
    trained = fitted(X, Y, alpha=0.3, solver=solver)
    apart = solved.member_coef_.std(axis=0).mean()
    assert apart > 0.002
    np.testing.assert_allclose(trained.member_coef_, solved.member_coef_, atol=0.1 * apart)
    np.testing.assert_allclose(trained.member_intercept_, solved.member_intercept_, atol=0.01)


class Nothing(Regularizer):
    """A term that is zero."""

    def __call__(self, batch):
        assert batch.logits.ndim == 2
        return 0 * batch.logits.sum()


@pytest.mark.parametrize("more", [{"regularizer": Nothing()}, {"solver": Minibatch(max_epochs=3, accumulate=3)}])
def test_other_ways_through_the_loop_change_nothing(more):
    X, Y = make_data()
    solver = Minibatch(max_epochs=3)
    found, expected = fitted(X, Y, **{"solver": solver, **more}), fitted(X, Y, solver=solver)
    np.testing.assert_allclose(found.member_coef_, expected.member_coef_, rtol=1e-6, atol=1e-8)


class Wide(Head):
    def __init__(self, penalty=1.0):
        self.penalty = penalty

    def build(self, context):
        return nn.Sequential(nn.Linear(context.n_features, 6), nn.Tanh(), nn.Linear(6, context.n_labels))

    def parameter_groups(self, module):
        last = [*module[2].parameters()]
        return [ParameterGroup([*module[0].parameters()], penalty=self.penalty), ParameterGroup(last, 0.0, 2.0)]


def test_any_head_may_be_a_member():
    X, Y = make_data()
    solver = Minibatch(max_epochs=5, learning_rate=0.02)
    clf = fitted(X, Y, head=Ensemble(Wide(), 3), solver=solver)
    members = clf.member_decision_function(X)
    assert members.std(axis=0).min() > 0
    np.testing.assert_allclose(members.mean(axis=0), clf.decision_function(X), atol=1e-6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).member_decision_function(X), members)
    other = fitted(X, Y, head=Ensemble(Wide(50.0), 3), solver=solver)
    assert np.abs(other.decision_function(X) - clf.decision_function(X)).max() > 1e-3


@pytest.mark.parametrize("solver", [FullBatch(rounds=3), Minibatch(max_epochs=3)], ids=["rounds", "epochs"])
@pytest.mark.parametrize("loss", [LargeLoss("correct", delta=0.02), LargeLoss("correct_permanently", delta=0.02)])
def test_losses_that_look_at_logits(solver, loss):
    X, Y = make_data()
    clf = fitted(X, np.where(Y == -1, 0, Y), loss=loss, solver=solver)
    assert clf.member_coef_.std(axis=0).max() > 1e-4
    if loss.scheme == "correct_permanently":
        assert (clf.corrected_labels_ == 1).sum() > (Y == 1).sum()


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=3)], ids=["rounds", "epochs"])
def test_sparse_features_weights_and_a_warm_start(solver):
    X, Y = make_data()
    weights = np.random.default_rng(0).random(Y.shape)
    settings = {"head": Ensemble(n_members=3), "alpha": 0.05, "random_state": 0, "solver": solver}
    dense, sparse = (
        PartialLabelClassifier("iu", class_weight="balanced", **settings).fit(features, Y, weights)
        for features in (X, sp.csr_array(X))
    )
    np.testing.assert_allclose(dense.member_coef_, sparse.member_coef_, rtol=1e-3, atol=1e-5)
    members = sparse.member_decision_function(sp.csr_array(X))
    np.testing.assert_allclose(members, dense.member_decision_function(X), rtol=1e-3, atol=1e-4)
    if isinstance(solver, FullBatch):
        first = fitted(X, Y, warm_start=True, solver=FullBatch(tol=1e-10))
        n_steps, coef = first.n_iter_, first.member_coef_
        again = first.fit(X, Y)
        assert again.n_iter_ <= n_steps // 2
        np.testing.assert_allclose(again.member_coef_, coef, rtol=1e-5, atol=1e-8)


def test_a_label_of_one_sign_is_constant_in_every_member():
    X, Y = make_data()
    Y = np.where(np.arange(4) == 2, abs(Y), Y)
    with pytest.warns(UserWarning, match="1 of 4 labels cannot be fitted"):
        clf = fitted(X, Y)
    assert not clf.member_coef_[:, 2].any()
    assert clf.member_coef_[:, [0, 1, 3]].any(axis=(1, 2)).all()


def test_a_head_that_is_none_has_one_member():
    X, Y = make_data()
    clf = fitted(X, Y, head="linear")
    np.testing.assert_array_equal(clf.member_decision_function(X), clf.decision_function(X)[None])
    # Nothing is left of an ensemble that was fitted before.
    again = fitted(X, Y)
    again.set_params(head="linear").fit(X, Y)
    np.testing.assert_array_equal(again.member_decision_function(X), clf.member_decision_function(X))
