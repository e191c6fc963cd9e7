"""What later methods need, shown by test-only objects that use public interfaces alone.

A loss with learned state for every row, an iterative loss, a ranking loss, a relabelling, a regulariser and a head: all
defined here, with no edit elsewhere, and all trained, searched over, cloned and pickled.
"""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.heads import Head
from skpartial.labels import LabelMatrix
from skpartial.losses import AssumeNegative, IgnoreUnknown, Loss, PointwiseLoss, StateTensor, Targets, Traits
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch


class RowBias(Loss):
    """Cross-entropy of known entries with a learned offset for every training row, kept in [-limit, limit]."""

    def __init__(self, limit=1.0, rate=10.0):
        self.limit = limit
        self.rate = rate

    def traits(self):
        return Traits(unknown="ignore")

    def state_spec(self):
        limit = self.limit
        return {
            "offset": StateTensor(
                learned=True,
                learning_rate_multiplier=self.rate,
                per_row=True,
                project=lambda tensor: tensor.clamp(-limit, limit),
            ),
            "epochs": StateTensor(),
        }

    def init_state(self, labels, generator=None, previous=None):
        if previous is not None:
            return {name: tensor.clone() for name, tensor in previous.items()}
        return {"offset": torch.zeros(len(labels), dtype=torch.float64), "epochs": torch.zeros(())}

    def end_epoch(self, state, epoch, context=None):
        state["epochs"] += 1

    def fitted_attributes(self, state, context=None):
        return {"row_offsets_": state["offset"].numpy(), "epochs_seen_": state["epochs"].numpy()}

    def __call__(self, logits, labels, state=None, *, rows=None, epoch=1, weights=None):
        return IgnoreUnknown()(logits + state["offset"][rows][:, None], labels, weights=weights)


class RejectConfident(PointwiseLoss):
    """Assume negative, but leave out the unknown entries that the classifier itself calls present."""

    def __init__(self, threshold=2.0, *, eps=0.0):
        super().__init__(eps=eps)
        self.threshold = threshold

    def traits(self):
        return Traits(iterative=True, unknown="absent")

    def targets(self, block):
        if block.epoch == 1:
            return Targets(block.present, None)
        return Targets(block.present, 1 - (block.unknown & (block.logits > self.threshold)).to(block.dtype))


class HardestPair(Loss):
    """A ranking loss: the hinge between the lowest present and the highest absent logit of a row."""

    def __call__(self, logits, labels, state=None, *, rows=None, epoch=1, weights=None):
        low = logits.masked_fill(labels != 1, float("inf")).amin(1)
        high = logits.masked_fill(labels != -1, float("-inf")).amax(1)
        gap = (1 - low + high)[torch.isfinite(low) & torch.isfinite(high)]
        return gap.clamp(min=0).sum() / len(logits)


class Confident(Relabeling):
    """Label unknown entries by the sign of a confident logit; remembers nothing of the estimator."""

    def __init__(self, threshold=1.0):
        self.threshold = threshold

    def relabel(self, context):
        logits = context.logits(None).numpy()
        assert len(context.features(torch.tensor([0, 1]))) == 2
        given = context.given.labels.toarray()
        guess = np.where(np.abs(logits) >= self.threshold, np.sign(logits), 0)
        return np.where(given == 0, guess, given).astype(np.int8)


class Wrong(Relabeling):
    def relabel(self, context):
        return np.ones((2, 2))


class Shrink(Regularizer):
    """Penalty on the logits of unknown entries, seen through every part of the batch."""

    def __init__(self, strength=1.0):
        self.strength = strength

    def __call__(self, batch):
        assert torch.equal(batch.head(batch.features), batch.logits)
        assert batch.rows.shape == batch.labels.shape[:1]
        return self.strength * (batch.logits.square() * (batch.labels == 0)).mean()


class Hidden(Head):
    """One hidden layer."""

    def __init__(self, width=16):
        self.width = width

    def build(self, context):
        return torch.nn.Sequential(
            torch.nn.Linear(context.n_features, self.width),
            torch.nn.Tanh(),
            torch.nn.Linear(self.width, context.n_labels),
        )


FAST = Minibatch(max_epochs=4)


def test_learned_state_of_rows(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(RowBias(), solver=Minibatch(max_epochs=30), random_state=0).fit(X, Y)
    assert clf.row_offsets_.shape == (len(X),)
    assert clf.epochs_seen_ == 30
    # Rows of many known presences are pulled up, rows of absences down, and the projection holds the limit.
    surplus = Y.sum(1)
    assert np.corrcoef(clf.row_offsets_, surplus)[0, 1] > 0.6
    assert np.abs(clf.row_offsets_).max() == pytest.approx(1.0)
    # The multiple of the learning rate is real: frozen offsets stay where they began.
    frozen = PartialLabelClassifier(RowBias(rate=0.0), solver=FAST, random_state=0).fit(X, Y)
    assert not frozen.row_offsets_.any()


def test_learned_state_follows_rows_not_batches(partial_data):
    """Full batches, so that the order of rows can only matter through wrong bookkeeping."""
    X, Y = partial_data
    order = np.random.default_rng(0).permutation(len(X))
    solver = Minibatch(max_epochs=5, batch_size=len(X))
    plain = PartialLabelClassifier(RowBias(), solver=solver, random_state=0).fit(X, Y)
    mixed = PartialLabelClassifier(RowBias(), solver=solver, random_state=0).fit(X[order], Y[order])
    np.testing.assert_allclose(mixed.row_offsets_, plain.row_offsets_[order], atol=1e-9)


def test_learned_state_is_of_the_chosen_epoch(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(
        RowBias(), solver=Minibatch(max_epochs=15, learning_rate=0.5), validation_fraction=0.3, random_state=0
    ).fit(X, Y)
    assert clf.epochs_seen_ == clf.best_epoch_
    assert clf.row_offsets_.shape == (84,)


def test_solvers_and_partial_fit_refuse_what_they_cannot_serve(partial_data):
    X, Y = partial_data
    with pytest.raises(ValueError, match="neither convex nor a sequence"):
        PartialLabelClassifier(RowBias(), solver=FullBatch()).fit(X, Y)
    with pytest.raises(ValueError, match="keeps a state for every training row"):
        PartialLabelClassifier(RowBias()).partial_fit(X, Y)


def test_iterative_loss_in_rounds(partial_data):
    X, Y = partial_data
    seen = np.where(Y == 1, 1, 0)
    rounds = SinglePositiveClassifier(RejectConfident(threshold=0.0), solver=FullBatch(rounds=3), alpha=1e-4).fit(
        X, seen
    )
    assert {record["epoch"] for record in rounds.history_} == {1, 2, 3}
    plain = SinglePositiveClassifier("an", solver=FullBatch(tol=1e-8), alpha=1e-4, threshold=0.5).fit(X, seen)
    solver = FullBatch(rounds=1, tol=1e-8)
    one = SinglePositiveClassifier(RejectConfident(threshold=0.0), solver=solver, alpha=1e-4).fit(X, seen)
    np.testing.assert_allclose(one.coef_, plain.coef_, atol=1e-3)
    # Rejecting what it calls present makes the classifier call more present.
    assert rounds.predict(X).sum() > plain.predict(X).sum()
    # A round solves the problem that its rule poses at the logits of the round before.
    solver = FullBatch(rounds=2, tol=1e-10)
    second = SinglePositiveClassifier(RejectConfident(threshold=0.0), solver=solver, alpha=1e-4).fit(X, seen)
    keep = ~((seen == 0) & (plain.decision_function(X) > 0))
    alpha = 1e-4 * seen.size / keep.sum()
    oracle = SinglePositiveClassifier("an", solver=FullBatch(tol=1e-10), alpha=alpha, threshold=0.5)
    oracle.fit(X, seen, sample_weight=keep.astype(float))
    np.testing.assert_allclose(second.decision_function(X), oracle.decision_function(X), atol=2e-2)
    by_batches = SinglePositiveClassifier(RejectConfident(threshold=0.0), solver=Minibatch(), random_state=0)
    assert by_batches.fit(X, seen).predict(X).sum() > plain.predict(X).sum()


@pytest.mark.parametrize("solver", [FullBatch(rounds=3), Minibatch(max_epochs=20)], ids=["rounds", "epochs"])
def test_relabelling(partial_data, solver):
    X, Y = partial_data
    before = Y.copy()
    clf = PartialLabelClassifier("iu", relabeling=Confident(), solver=solver, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(Y, before)
    known = Y != 0
    np.testing.assert_array_equal(clf.labels_in_use_[known], Y[known])
    assert (clf.labels_in_use_ != 0).sum() > 1.5 * known.sum()
    plain = PartialLabelClassifier("iu", solver=solver, random_state=0).fit(X, Y)
    assert not np.allclose(clf.coef_, plain.coef_)
    assert not hasattr(plain, "labels_in_use_")
    # A threshold that nothing reaches changes nothing.
    never = PartialLabelClassifier("iu", relabeling=Confident(threshold=1e9), solver=solver, random_state=0).fit(X, Y)
    np.testing.assert_allclose(never.decision_function(X), plain.decision_function(X), rtol=0.02, atol=0.02)
    with pytest.raises(ValueError, match=r"Wrong.relabel returned labels of shape \(2, 2\)"):
        PartialLabelClassifier(relabeling=Wrong(), solver=solver).fit(X, Y)


def test_ranking_loss(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(HardestPair(), solver=Minibatch(max_epochs=40), random_state=0)
    logits = clf.fit(X, Y).decision_function(X)
    low = np.where(Y == 1, logits, np.inf).min(1)
    high = np.where(Y == -1, logits, -np.inf).max(1)
    pairs = np.isfinite(low) & np.isfinite(high)
    assert (low > high)[pairs].mean() > 0.85


def test_regulariser(partial_data):
    X, Y = partial_data
    unknown = Y == 0
    spread = [
        np.square(
            PartialLabelClassifier("iu", regularizer=Shrink(strength), solver=Minibatch(max_epochs=20), random_state=0)
            .fit(X, Y)
            .decision_function(X)[unknown]
        ).mean()
        for strength in (0.0, 0.1, 10.0)
    ]
    assert spread[0] > 1.5 * spread[1] > 1.5 * spread[2]


def test_head(partial_data):
    """Labels that no linear head can tell apart."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(400, 2))
    Y = np.column_stack([np.where(X[:, 0] * X[:, 1] > 0, 1, -1), np.where(X[:, 0] > 0, 1, -1)])
    clf = PartialLabelClassifier(
        head=Hidden(), solver=Minibatch(learning_rate=0.02, max_epochs=60), random_state=0
    ).fit(X, Y)
    assert clf.score(X, Y) > 0.95
    assert PartialLabelClassifier().fit(X, Y).score(X, Y) < 0.8
    assert not hasattr(clf, "coef_")
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))
    clf.set_params(warm_start=True, solver__max_epochs=1, solver__learning_rate=0.0).fit(X, Y)
    np.testing.assert_allclose(clf.predict_proba(X), copy.predict_proba(X))


class Noisy(Head):
    """Dropout, drawn from PyTorch's global generator, between layers of whatever type the features have."""

    def build(self, context):
        return torch.nn.Sequential(torch.nn.Dropout(0.3), torch.nn.Linear(context.n_features, context.n_labels))


def test_head_that_draws_random_numbers(partial_data):
    X, Y = partial_data
    torch.manual_seed(0)
    expected = torch.rand(2)
    fits = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        fits.append(PartialLabelClassifier(head=Noisy(), solver=FAST, random_state=0).fit(X, Y))
    np.testing.assert_array_equal(fits[0].predict_proba(X), fits[1].predict_proba(X))
    # Predictions draw nothing, leave the generator alone, and are of the type that was fitted.
    torch.manual_seed(0)
    assert fits[0].decision_function(X).dtype == np.float64
    assert torch.equal(torch.rand(2), expected)
    # What is set afterwards is for the next fit.
    before = fits[0].predict_proba(X)
    np.testing.assert_array_equal(fits[0].set_params(head=Hidden()).predict_proba(X), before)


class Counting(PointwiseLoss):
    """Assume negative; counts epochs over all fits of a warm start."""

    def traits(self):
        return Traits(convex=True, unknown="absent")

    def state_spec(self):
        return {"epochs": StateTensor()}

    def init_state(self, labels, generator=None, previous=None):
        return {"epochs": torch.zeros(()) if previous is None else previous["epochs"].clone()}

    def end_epoch(self, state, epoch, context=None):
        state["epochs"] += 1

    def fitted_attributes(self, state, context=None):
        return {"epochs_": float(state["epochs"])}

    def targets(self, block):
        return Targets(block.present, None)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=1)], ids=["full", "mini"])
def test_warm_start_hands_the_state_on(partial_data, solver):
    X, Y = partial_data
    clf = SinglePositiveClassifier(Counting(), solver=solver, warm_start=True, random_state=0)
    assert [clf.fit(X, Y).epochs_ for _ in range(3)] == [1, 2, 3]
    cold = SinglePositiveClassifier(Counting(), solver=solver, random_state=0)
    assert [cold.fit(X, Y).epochs_ for _ in range(2)] == [1, 1]
    # A fit with another loss leaves nothing of this one behind.
    assert not hasattr(clf.set_params(loss="an", warm_start=False).fit(X, Y), "epochs_")


class Ranks(PointwiseLoss):
    """Assume negative, but leave out the tenth of unknown entries with the largest logits of what it is asked about."""

    def traits(self):
        return Traits(iterative=True, unknown="absent")

    def targets(self, block):
        assert len(block.labels) == 120  # a rule that compares entries sees them all
        unknown = block.logits[block.unknown]
        limit = unknown.quantile(0.9) if block.epoch > 1 else float("inf")
        return Targets(block.present, 1 - (block.unknown & (block.logits > limit)).to(block.dtype))


def test_rounds_ask_a_rule_about_all_rows_at_once(partial_data, monkeypatch):
    X, Y = partial_data
    monkeypatch.setattr("skpartial.training._targets._BLOCK_ENTRIES", 10)
    clf = SinglePositiveClassifier(Ranks(), solver=FullBatch(rounds=2)).fit(X, Y)
    assert clf.history_[-1]["epoch"] == 2


@pytest.fixture
def _by_value():
    """Let worker processes, which cannot import this file, unpickle the classes defined in it."""
    try:
        from joblib.externals import cloudpickle  # what joblib pickles with, up to 1.5
    except ImportError:
        import cloudpickle
    module = sys.modules[RowBias.__module__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.usefixtures("_by_value")
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_third_party_objects_in_a_grid(partial_data, n_jobs):
    X, Y = partial_data
    grid = GridSearchCV(
        PartialLabelClassifier(IgnoreUnknown(), relabeling=Confident(), solver=FAST, random_state=0),
        [
            {"loss": [RowBias()], "loss__rate": [0.0, 10.0]},
            {"loss": [RejectConfident(), AssumeNegative()], "relabeling__threshold": [0.5, 2.0]},
        ],
        cv=3,
        n_jobs=n_jobs,
    ).fit(X, Y)
    assert len(grid.cv_results_["params"]) == 6
    assert np.isfinite(grid.cv_results_["mean_test_score"]).all()
    assert len(set(grid.cv_results_["mean_test_score"].round(6))) > 2


def test_objects_are_values():
    for thing in (RowBias(), RejectConfident(), HardestPair(), Confident(), Shrink(), Hidden()):
        assert repr(clone(thing)) == repr(thing)
    nested = PartialLabelClassifier(RowBias(rate=3.0), head=Hidden(width=4)).get_params()
    assert (nested["loss__rate"], nested["head__width"]) == (3.0, 4)
    assert isinstance(LabelMatrix.encode(np.eye(2, dtype=int)), LabelMatrix)
