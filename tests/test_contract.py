"""Smaller promises of the estimators, each by a test that fails without it."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import skpartial
from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.losses import AssumeNegative, IgnoreUnknown, StateTensor, Traits
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch


def test_balanced_weights_count_sample_weights(partial_data):
    """A weight of two is a repetition, for class weights as well."""
    X, Y = partial_data
    counts = np.random.default_rng(0).integers(0, 3, size=len(X))
    tight = FullBatch(tol=1e-10)
    weighted = PartialLabelClassifier("iu", class_weight="balanced", solver=tight).fit(X, Y, sample_weight=counts)
    repeated = PartialLabelClassifier("iu", class_weight="balanced", solver=tight)
    repeated.fit(X.repeat(counts, axis=0), Y.repeat(counts, axis=0))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-5)


class NeedsAbsences(IgnoreUnknown):
    def traits(self):
        return Traits(convex=True, unknown="ignore", needs_absent=True)


def test_a_loss_that_needs_absences_says_so_before_any_work(partial_data):
    X, Y = partial_data
    with pytest.raises(ValueError, match="NeedsAbsences learns from known negatives, but y holds no -1"):
        PartialLabelClassifier(NeedsAbsences()).fit(X, np.where(Y == 1, 1, 0))
    PartialLabelClassifier(NeedsAbsences()).fit(X, Y)


def test_classes_of_held_out_rows_are_those_of_the_fit(partial_data):
    X, Y = partial_data
    y = np.where(Y[:, 0] == 1, "yes", "no")
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=2), random_state=0).fit(X, y, X_val=X, y_val=y)
    assert 0 < clf.history_[-1]["validation_score"] <= 1
    with pytest.raises(ValueError, match="y_val holds the classes"):
        clf.fit(X, y, X_val=X, y_val=np.where(y == "yes", "maybe", "no"))


class Counting(IgnoreUnknown):
    """Counts epochs in its state."""

    def traits(self):
        return Traits(iterative=True, unknown="ignore")

    def state_spec(self):
        return {"epochs": StateTensor()}

    def init_state(self, labels, generator=None, previous=None):
        return {"epochs": torch.zeros(())}

    def end_epoch(self, state, epoch, context=None):
        state["epochs"] += 1
        assert state["epochs"] == epoch == context.epoch

    def fitted_attributes(self, state, context=None):
        return {"epochs_seen_": state["epochs"].numpy()}


def test_rounds_end_epochs_and_the_best_one_is_kept(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(Counting(), solver=FullBatch(rounds=3)).fit(X, Y)
    assert clf.epochs_seen_ == 3
    # Every round has the same solution, so that the first is the best.
    clf = PartialLabelClassifier(Counting(), solver=FullBatch(rounds=3, tol=1e-10)).fit(X, Y, X_val=X, y_val=Y)
    scores = [record["validation_score"] for record in clf.history_ if "validation_score" in record]
    assert len(scores) == 3
    assert clf.best_epoch_ == 1 + int(np.argmax(scores))
    assert clf.epochs_seen_ == clf.best_epoch_


class Growing(Relabeling):
    """Calls one more row of unknown labels absent each time, going on from the current labels."""

    def relabel(self, context):
        labels = context.current.labels.toarray()
        row = np.flatnonzero((labels == 0).any(axis=1))[0]
        labels[row] = np.where(labels[row] == 0, -1, labels[row])
        return labels


@pytest.mark.parametrize("solver", [FullBatch(rounds=4), Minibatch(max_epochs=4)], ids=["rounds", "epochs"])
def test_relabelling_sees_the_current_labels(partial_data, solver):
    X, Y = partial_data
    clf = PartialLabelClassifier("iu", relabeling=Growing(), solver=solver, random_state=0).fit(X, Y)
    changed = (clf.labels_in_use_ != Y).any(axis=1)
    assert changed.sum() == 3


@pytest.mark.parametrize("store, kept", [(True, True), (False, False), ("auto", False)])
def test_results_of_the_size_of_y_are_kept_as_asked(partial_data, monkeypatch, store, kept):
    X, Y = partial_data
    monkeypatch.setattr("skpartial._fit._STORE_BYTES", 10)
    clf = PartialLabelClassifier("iu", relabeling=Growing(), store_state=store, solver=FullBatch(rounds=2)).fit(X, Y)
    assert hasattr(clf, "labels_in_use_") == kept


def test_prediction_is_in_the_wider_of_the_types(partial_data):
    X, Y = partial_data
    double = PartialLabelClassifier().fit(X, Y)
    logits = double.decision_function(X.astype(np.float32))
    assert logits.dtype == np.float64
    np.testing.assert_allclose(logits, X.astype(np.float32).astype(float) @ double.coef_.T + double.intercept_)


def test_a_stream_keeps_its_units_once_it_knows_them(partial_data):
    """The first thousand rows tell them, or a fit before."""
    X, Y = partial_data
    many = np.tile(X, (-(-1000 // len(X)), 1))
    labels = np.tile(Y, (-(-1000 // len(X)), 1))
    for settle in ("fit", "partial_fit"):
        clf = getattr(PartialLabelClassifier(random_state=0), settle)(many, labels)
        alpha = clf.alpha_
        scale, center = clf.partial_fit(X, Y)._optimizer_state["units"]
        later = clf.partial_fit(100 * X, Y)._optimizer_state["units"]
        assert (later[0], clf.alpha_) == (scale, alpha)
        np.testing.assert_array_equal(later[1], center)
        np.testing.assert_allclose(center, X.mean(0), rtol=1e-6)


@pytest.mark.parametrize("head", ["linear", "embedding"])
@pytest.mark.parametrize("unit", [1e-3, 1, 1e3])
def test_a_stream_may_begin_with_a_single_row(unit, head):
    """Units and "auto" follow from the rows so far, so that they do not depend on how a stream begins."""
    scenes = make_digit_scenes(700, random_state=0)
    X, Y = unit * scenes.data[:600].astype(np.float64), scenes.target[:600]
    clf = PartialLabelClassifier(head=head, random_state=0)
    for part in (slice(0, 1), slice(1, 3), *(slice(start, start + 100) for start in range(3, 600, 100))):
        clf.partial_fit(X[part], Y[part])
    scale, center = clf._optimizer_state["units"]
    np.testing.assert_allclose(center, X.mean(0), atol=1e-6 * unit)
    assert np.square(scale * (X - X.mean(0))).mean() == pytest.approx(1)
    whole = PartialLabelClassifier(random_state=0).partial_fit(X, Y)
    assert clf.alpha_ == pytest.approx(whole.alpha_)
    for _ in range(5):
        clf.partial_fit(X, Y)
    assert clf.score(unit * scenes.data[600:], scenes.target[600:]) > 0.6


def test_a_pickled_stream_goes_on_exactly(partial_data):
    X, Y = partial_data
    kept, pickled = PartialLabelClassifier(random_state=0), PartialLabelClassifier(random_state=0)
    for part in np.array_split(np.arange(len(X)), 4):
        kept.partial_fit(X[part], Y[part])
        pickled = pickle.loads(pickle.dumps(pickled.partial_fit(X[part], Y[part])))
        np.testing.assert_array_equal(pickled.coef_, kept.coef_)


def test_minibatches_start_from_the_prior(partial_data):
    """Before the first step every label has its known frequency."""
    X, Y = partial_data
    clf = PartialLabelClassifier("iu", solver=Minibatch(learning_rate=0.0, max_epochs=1)).fit(X, Y)
    np.testing.assert_allclose(clf.predict_proba(X)[0], (Y == 1).sum(0) / (Y != 0).sum(0), rtol=1e-6)


def test_history_weighs_batches_by_their_rows(partial_data):
    """120 rows in batches of 100 and 20: the mean over rows, not over batches."""
    X, Y = partial_data
    solver = Minibatch(learning_rate=0.0, max_epochs=1, batch_size=100, shuffle=False)
    clf = SinglePositiveClassifier("an", solver=solver, threshold=0.5).fit(X, Y)
    logits = torch.tensor(clf.decision_function(X))
    assert clf.history_[0]["loss"] == pytest.approx(AssumeNegative()(logits, torch.tensor(Y)).item(), rel=1e-6)


def test_private_names_of_scikit_learn_are_in_one_module():
    private = re.compile(r"from sklearn\.[\w.]* import .*\b_(?!_)|from sklearn\.[\w.]*\._\w* import|_skl_callbacks")
    found = {path.name for path in Path(skpartial.__file__).parent.rglob("*.py") if private.search(path.read_text())}
    assert found == {"_sklearn_compat.py"}
