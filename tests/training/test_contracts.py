"""Methods with a memory of their own, defined here alone, on features and on a small network of images.

A curriculum that keeps a record, a relabelling that answers with soft targets and weights, one that starts from the
user's prior, a regulariser with a memory bank and a learned matrix, a head built from co-occurrence: each trains,
searches in two processes, clones, pickles, and goes on to equal weights after SIGKILL.
"""

from __future__ import annotations

import pickle
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import Head, HeadContext, ParameterGroup
from skpartial.images import Backbone
from skpartial.labels import drop_labels
from skpartial.losses import IgnoreUnknown, Targets, Traits
from skpartial.model_selection import BatchedGridSearchCV, TunedThresholdsCV
from skpartial.regularizers import Regularizer
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training import StateTensor, TrainingData

try:
    import cloudpickle
except ImportError:  # older versions of joblib bring it with them
    from joblib.externals import cloudpickle


class Curriculum(Relabeling):
    """Labels what the head is sure of, more each time, and keeps what it labelled when."""

    def __init__(self, threshold=1.0):
        self.threshold = threshold

    def state_spec(self):
        return {"since": StateTensor(per_row=True), "limit": StateTensor(), "n_epochs": StateTensor()}

    def start(self, context, previous=None):
        if previous is not None:
            return {name: tensor.clone() for name, tensor in previous.items()}
        shape = (context.n_rows, context.n_labels)
        limit = torch.tensor(float(self.threshold), dtype=torch.float64)
        return {"since": torch.zeros(shape, dtype=torch.int32), "limit": limit, "n_epochs": torch.zeros(())}

    def relabel(self, context):
        logits, given = context.logits().cpu().numpy(), context.given.labels.toarray()
        sure = (given == 0) & (np.abs(logits) >= float(context.state["limit"]))
        new = torch.as_tensor(sure) & (context.state["since"] == 0)
        context.state["since"][new] = context.epoch
        return np.where(sure, np.sign(logits), given).astype(np.int8)

    def end_epoch(self, state, epoch, context=None):
        assert context.epoch == epoch
        state["limit"] *= 0.95
        state["n_epochs"] += 1

    def fitted_attributes(self, state, context=None):
        return {"labelled_since_": state["since"].numpy(), "n_relabelling_epochs_": int(state["n_epochs"])}


class SelfTraining(Relabeling):
    """Draws unknown entries towards the head's own probabilities; rows without a presence count less."""

    def __init__(self, weight=0.5):
        self.weight = weight

    def relabel(self, context):
        p = torch.sigmoid(context.logits()).cpu().numpy()
        labels = context.given.labels.toarray()
        known, weights = labels != 0, np.where((labels == 1).any(axis=1), 1.0, self.weight)
        return TrainingData.encode(context.given.labels, targets=np.where(known, np.nan, p), weights=weights)


class FromPrior(Relabeling):
    """Starts from what the user expects, and looks at nothing else."""

    uses_prior = True
    from_start = True

    def relabel(self, context):
        known = context.given.labels.toarray() != 0
        targets = np.full(known.shape, np.nan) if context.given.prior is None else context.given.prior.copy()
        targets[known] = np.nan
        return TrainingData.encode(context.given.labels, targets=targets)


class Smooth(Regularizer):
    """Draws logits towards those of neighbours in a memory bank, mixed by a matrix that is learned, within [0, 1]."""

    def __init__(self, strength=1.0):
        self.strength = strength

    def state_spec(self):
        return {
            "bank_features": StateTensor(),
            "bank_labels": StateTensor(),
            "graph": StateTensor(learned=True, project=lambda tensor: tensor.clamp(0, 1)),
            "offsets": StateTensor(learned=True, per_row=True),
            "epochs": StateTensor(),
        }

    def start(self, context, previous=None):
        if previous is not None:
            return {name: tensor.clone() for name, tensor in previous.items()}
        rows = torch.arange(min(20, context.n_rows))
        features = context.features(rows)
        return {
            "bank_features": features,
            "bank_labels": context.labels(rows).to(features.dtype),
            "graph": torch.eye(context.n_labels, dtype=features.dtype),
            "offsets": torch.zeros(context.n_rows, dtype=features.dtype),
            "epochs": torch.zeros(()),
        }

    def begin_epoch(self, state, epoch, context=None):
        # The bank goes round the training set.
        rows = (torch.arange(len(state["bank_labels"])) + 7 * epoch) % context.n_rows
        state["bank_features"].copy_(context.features(rows))
        state["bank_labels"].copy_(context.labels(rows))

    def end_epoch(self, state, epoch, context=None):
        state["epochs"] += 1

    def fitted_attributes(self, state, context=None):
        return {
            "graph_": state["graph"].numpy(),
            "offsets_": state["offsets"].numpy(),
            "n_epochs_": int(state["epochs"]),
        }

    def __call__(self, batch):
        # What the head sees, never pixels; and the head, never the network.
        if not any(isinstance(module, nn.Dropout) for module in batch.head.modules()):
            torch.testing.assert_close(batch.head(batch.features), batch.logits)
        state = batch.state
        distance = torch.cdist(batch.features.flatten(1), state["bank_features"].flatten(1))
        nearest = state["bank_labels"][distance.argmin(1)] @ state["graph"]
        target = nearest + state["offsets"][batch.rows][:, None]
        return self.strength * ((torch.tanh(batch.logits) - target) ** 2).mean()


class Neighbours(Head):
    """A hidden layer, and logits that borrow from labels that occur together; two members, with dropout."""

    def __init__(self, width=8, dropout=0.5):
        self.width = width
        self.dropout = dropout

    def build(self, context):
        return _NeighboursModule(context, self.width, self.dropout)

    def parameter_groups(self, module):
        fast = [module.share]
        rest = [p for p in module.parameters() if p is not module.share]
        return [ParameterGroup(rest), ParameterGroup(fast, penalty=0.0, learning_rate=10.0)]


class _NeighboursModule(nn.Module):
    def __init__(self, context, width, dropout):
        super().__init__()
        counts = torch.as_tensor(context.cooccurrence.toarray(), dtype=torch.float32).fill_diagonal_(0)
        self.register_buffer("graph", counts / counts.sum(1, keepdim=True).clamp(min=1))
        bounds = torch.rand(2, context.n_features, width, generator=context.generator) - 0.5
        self.hidden = nn.Parameter(bounds / context.n_features**0.5)
        self.out = nn.Parameter(torch.zeros(2, width, context.n_labels))
        self.share = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)

    def member_logits(self, features):
        logits = self.dropout(torch.tanh(features @ self.hidden)) @ self.out
        return logits + self.share * (logits @ self.graph.T)

    def forward(self, features):
        return self.member_logits(features).mean(0)


class Counted(nn.Sequential):
    """Counts the images that it has seen."""

    n_images = 0

    def forward(self, images):
        Counted.n_images += len(images)
        return super().forward(images)


def small_network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 5, stride=3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return Counted(*layers)


METHODS = {
    "curriculum": {"relabeling": Curriculum(threshold=0.4)},
    "soft targets": {"relabeling": SelfTraining()},
    "regulariser": {"regularizer": Smooth()},
    "head": {"head": Neighbours()},
    "all": {"relabeling": Curriculum(threshold=0.4), "regularizer": Smooth(), "head": Neighbours()},
}
SEARCHED = {
    "curriculum": ("relabeling__threshold", [0.1, 3.0]),
    "soft targets": ("relabeling__weight", [0.1, 1.0]),
    "regulariser": ("regularizer__strength", [0.0, 5.0]),
    "head": ("head__width", [2, 12]),
    "all": ("head__width", [2, 12]),
}


def data(on):
    scenes = make_digit_scenes(120, random_state=0)
    Y = np.asarray(drop_labels(scenes.target[:, :5], known=0.6, random_state=0))
    return (scenes.data if on == "features" else scenes.images), Y


def make(on, method, **more):
    backbone = None if on == "features" else Backbone(small_network(), image_size=32, finetune="linear_init")
    rate = 0.02 if on == "features" else 1e-3
    solver = Minibatch(learning_rate=rate, max_epochs=5, batch_size=20)
    return PartialLabelClassifier("iu", solver=solver, backbone=backbone, random_state=0, **METHODS[method], **more)


ON = ["features", "images"]


@pytest.fixture
def _by_value():
    """Let worker processes, which cannot import this file, unpickle the classes defined in it."""
    module = sys.modules[Curriculum.__module__]
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("method", METHODS)
def test_it_trains_clones_and_pickles(on, method):
    X, Y = data(on)
    clf = make(on, method).fit(X, Y)
    plain = PartialLabelClassifier(**(clf.get_params(deep=False) | {"relabeling": None, "regularizer": None}))
    if method != "head":
        assert np.abs(plain.fit(X, Y).decision_function(X) - clf.decision_function(X)).max() > 1e-3
    again = clone(clf).fit(X, Y)
    for copy in (again, pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(copy.decision_function(X), clf.decision_function(X))
    known = Y != 0
    # States go from the first stage of a network, of 5 convex rounds or 25 epochs, to the second.
    n_epochs = 5 if on == "features" else 10 if method == "curriculum" else 30
    if method in ("curriculum", "all"):
        added = clf.labelled_since_ > 0
        assert added.any()
        assert not added[known].any()
        assert set(np.unique(clf.labelled_since_)) <= {0, *range(2, 26)}
        np.testing.assert_array_equal(clf.labels_in_use_[known], Y[known])
        assert clf.n_relabelling_epochs_ == n_epochs
    if method == "soft targets":
        assert np.isnan(clf.targets_in_use_[known]).all()
        assert not np.isnan(clf.targets_in_use_[~known]).any()
        np.testing.assert_array_equal(clf.labels_in_use_, Y)
    if method in ("regulariser", "all"):
        assert clf.graph_.min() >= 0
        assert clf.graph_.max() <= 1
        assert not np.allclose(clf.graph_, np.eye(Y.shape[1]))
        assert clf.offsets_.shape == (120,)
        assert np.abs(clf.offsets_).min() > 0
        assert clf.n_epochs_ == n_epochs


@pytest.mark.usefixtures("_by_value")
@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("method", METHODS)
def test_it_is_searched_over_in_two_processes(on, method):
    X, Y = data(on)
    name, values = SEARCHED[method]
    clf = make(on, method).set_params(solver__max_epochs=2, solver__learning_rate=0.03)
    search = GridSearchCV(clf, {name: values}, cv=2, n_jobs=2, error_score="raise").fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"].round(8))) == 2


SCRIPT = """
import importlib.util, os, signal, sys
import numpy as np

file, on, method, folder, out, last = sys.argv[1:]
spec = importlib.util.spec_from_file_location("contracts", file)
contracts = importlib.util.module_from_spec(spec)
sys.modules["contracts"] = contracts
spec.loader.exec_module(contracts)
from skpartial.training._checkpoints import Checkpoint

save, count = Checkpoint.save, 0


def counted(self, content):
    global count
    save(self, content)
    count += 1
    if count == int(last):
        os.kill(os.getpid(), signal.SIGKILL)


Checkpoint.save = counted
X, Y = contracts.data(on)
clf = contracts.make(on, method, checkpoint_dir=folder or None).fit(X, Y)
states = {name: value for name, value in vars(clf).items() if name in contracts.SHOWN}
np.savez(out, logits=clf.decision_function(X), **states)
"""
SHOWN = ("labels_in_use_", "targets_in_use_", "labelled_since_", "graph_", "offsets_")


@pytest.mark.parametrize("on", ON)
@pytest.mark.parametrize("method", ["all", "soft targets"])
def test_it_is_killed_and_goes_on_to_equal_weights(tmp_path, interpreters, on, method):
    (tmp_path / "fit.py").write_text(SCRIPT)
    folder = tmp_path / "checkpoints"

    def fit(interpreter, folder, name, last=0):
        return interpreter.run(tmp_path / "fit.py", __file__, on, method, folder, tmp_path / name, last)

    # In the second stage of a network, once more a few epochs on.
    moments = (3, 1) if on == "features" else (7, 2) if method == "soft targets" else (27, 1)
    for interpreter, last in zip(interpreters, moments):
        assert fit(interpreter, folder, "killed.npz", last) == -signal.SIGKILL
    assert fit(interpreters[0], folder, "killed.npz") == 0
    assert fit(interpreters[1], "", "whole.npz") == 0
    with np.load(tmp_path / "whole.npz") as expected, np.load(tmp_path / "killed.npz") as found:
        assert sorted(found.files) == sorted(expected.files)
        assert len(found.files) >= 3
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert not any(Path(folder).iterdir())


@pytest.mark.parametrize("on", ON)
def test_states_are_those_of_the_best_epoch(on):
    X, Y = data(on)
    clf = make(on, "all").set_params(solver__learning_rate=0.3, validation_fraction=0.3).fit(X, Y)
    assert clf.n_epochs_ <= clf.best_epoch_ + (0 if on == "features" else 25)  # of the first stage the best goes on
    if on == "features":
        assert clf.n_epochs_ == clf.n_relabelling_epochs_ == clf.best_epoch_
        assert clf.labelled_since_.max() <= clf.best_epoch_


@pytest.mark.parametrize("solver", [FullBatch(rounds=3, tol=1e-9), Minibatch(max_epochs=60)], ids=["rounds", "epochs"])
def test_soft_targets_are_mixtures_of_both_signs(solver):
    """A soft target is a row with a presence of weight t, and a row with an absence of weight 1 - t."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 4)), rng.integers(-1, 2, size=(60, 3))
    prior = np.where(Y == 0, rng.random(Y.shape), np.nan)

    settings = {"alpha": 0.02, "solver": solver, "random_state": 0}
    soft = PartialLabelClassifier("iu", relabeling=FromPrior(), **settings).fit(X, Y, label_prior=prior)
    np.testing.assert_array_equal(soft.targets_in_use_, prior)
    twice = np.concatenate([np.where(Y == 0, sign, Y) for sign in (1, -1)])
    shares = [np.where(Y == 0, share, 0.5) for share in (prior, 1 - prior)]
    oracle = PartialLabelClassifier("iu", alpha=0.02, solver=FullBatch(tol=1e-9))
    oracle.fit(np.concatenate([X, X]), twice, sample_weight=np.concatenate(shares))
    exact = isinstance(solver, FullBatch)
    np.testing.assert_allclose(soft.coef_, oracle.coef_, atol=1e-4 if exact else 0.05)
    hard = PartialLabelClassifier("iu", alpha=0.02, solver=FullBatch(tol=1e-9)).fit(X, Y)
    assert np.abs(hard.coef_ - oracle.coef_).max() > 0.2  # the same test of labels alone would fail


class Weighted(Relabeling):
    """Weights of rows, and of entries."""

    from_start = True

    def __init__(self, weights):
        self.weights = weights

    def relabel(self, context):
        return TrainingData.encode(context.given.labels, weights=self.weights)


@pytest.mark.parametrize(
    "solver", [FullBatch(rounds=2, tol=1e-9), Minibatch(max_epochs=1, learning_rate=0.0)], ids=["rounds", "epochs"]
)
@pytest.mark.parametrize("shape", [(120,), (120, 5)], ids=["rows", "entries"])
def test_weights_of_a_relabelling_are_sample_weights(partial_data, solver, shape):
    X, Y = partial_data
    classifier = partial(PartialLabelClassifier, "partial_bce", alpha=1e-4)
    weights = np.random.default_rng(0).random(shape) + 0.1
    own = classifier(solver=solver, relabeling=Weighted(weights), random_state=0).fit(X, Y)
    passed = classifier(solver=solver, random_state=0).fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(own.coef_, passed.coef_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(own.intercept_, passed.intercept_, rtol=1e-5, atol=1e-6)
    name = "loss" if "loss" in own.history_[-1] else "objective"
    assert own.history_[-1][name] == pytest.approx(passed.history_[-1][name], rel=1e-6)
    plain = classifier(solver=solver, random_state=0).fit(X, Y)
    assert own.history_[-1][name] != pytest.approx(plain.history_[-1][name], rel=1e-3)


def test_a_prior_is_sliced_routed_and_refused(partial_data):
    X, Y = partial_data
    prior = np.where(Y == 0, np.where(X[:, :1] > 0, 0.9, 0.1), np.nan)
    clf = PartialLabelClassifier("iu", relabeling=FromPrior(), solver=FullBatch(rounds=1), alpha=1e-4)
    expected = cross_val_score(clf, X, Y, cv=3, params={"label_prior": prior})
    assert np.abs(expected - cross_val_score(clf, X, Y, cv=3)).max() > 1e-3
    grid = {"alpha": [1e-4]}
    for kind in (GridSearchCV, BatchedGridSearchCV):
        with pytest.warns(UserWarning, match="relabeling is set") if kind is BatchedGridSearchCV else _nothing():
            search = kind(clf, grid, cv=3).fit(X, Y, label_prior=prior)
        assert search.cv_results_["mean_test_score"][0] == pytest.approx(expected.mean())
    tuned = TunedThresholdsCV(clf, cv=3).fit(X, Y, label_prior=prior)
    np.testing.assert_array_equal(tuned.estimator_.targets_in_use_, prior)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = clone(clf).set_fit_request(label_prior=True)
        np.testing.assert_allclose(cross_val_score(routed, X, Y, cv=3, params={"label_prior": prior}), expected)
        search = GridSearchCV(routed, grid, cv=3).fit(X, Y, label_prior=prior)
        assert search.cv_results_["mean_test_score"][0] == pytest.approx(expected.mean())
    with pytest.raises(ValueError, match="label_prior is used by neither loss='iu' nor relabeling=None"):
        PartialLabelClassifier("iu").fit(X, Y, label_prior=prior)
    for wrong, message in (
        (prior[:, :3], r"label_prior must have shape \(120, 5\)"),
        (prior + 1, r"label_prior must hold probabilities in \[0, 1\]"),
        (np.full(prior.shape, "a"), "label_prior must be an array of numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            clone(clf).fit(X, Y, label_prior=wrong)


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


class KeepsPrior(IgnoreUnknown):
    """Draws unknown entries towards the prior, which it keeps in its state."""

    def traits(self):
        return Traits(convex=True, uses_prior=True)

    def state_spec(self):
        return {"prior": StateTensor(per_row=True)}

    def start(self, context, previous=None):
        return {"prior": torch.as_tensor(context.given.prior).nan_to_num(0.5)}

    def targets(self, block):
        return Targets(
            torch.where(block.unknown, block.state["prior"][block.rows].to(block.dtype), block.present), None
        )


def test_a_loss_may_use_a_prior_and_is_searched_together_with_others(partial_data):
    X, Y = partial_data
    prior = np.where(Y == 0, np.where(X[:, :1] > 0, 0.9, 0.1), np.nan)
    clf, grid = PartialLabelClassifier(KeepsPrior()), {"alpha": [1e-4, 1e-2]}
    together = BatchedGridSearchCV(clf, grid, cv=3).fit(X, Y, label_prior=prior)  # a warning would be an error
    alone = GridSearchCV(clf, grid, cv=3).fit(X, Y, label_prior=prior)
    for name in ("mean_test_score", "split0_test_score"):
        np.testing.assert_allclose(together.cv_results_[name], alone.cv_results_[name], atol=1e-3)


class Looks(Relabeling):
    """Keeps what it was shown; changes nothing."""

    seen: list

    def relabel(self, context):
        rows = torch.tensor([3, 1, 4])
        before = Counted.n_images
        samples = context.sampled_logits(rows, n_samples=200)
        assert Counted.n_images - before in (0, 3)  # many passes of the head are one of the network
        again = context.sampled_logits(rows, n_samples=2)
        members = context.member_logits(rows)
        Looks.seen.append((context.logits(rows), samples, again, members, context.features(rows)))


@pytest.mark.parametrize("on", ON)
def test_predictions_with_dropout_and_of_members(on):
    X, Y = data(on)
    Looks.seen = []
    settings = {"relabeling": Looks(), "head": Neighbours(dropout=0.3)}
    clf = make(on, "head").set_params(**settings, solver__max_epochs=2)
    if on == "images":
        clf.set_params(backbone=Backbone(small_network(), image_size=32, finetune="all"))
    clf.fit(X, Y)
    ((logits, samples, again, members, features),) = Looks.seen
    width = X.shape[1] if on == "features" else 6
    assert features.shape == (3, width)
    assert members.shape == (2, 3, Y.shape[1])
    torch.testing.assert_close(members.mean(0), logits)
    assert samples.shape == (200, 3, Y.shape[1])
    spread = samples.std(0)
    assert spread.max() > 1e-4
    # Dropout keeps the mean of a linear layer; the draws differ from each other.
    assert ((samples.mean(0) - logits).abs() <= 5 * spread / 200**0.5 + 1e-6).all()
    assert not torch.equal(again[0], again[1])
    # Looking changes nothing: neither the head's statistics nor what is drawn later on.
    plain = clone(clf).set_params(relabeling=None).fit(X, Y)
    np.testing.assert_array_equal(plain.decision_function(X), clf.decision_function(X))


@pytest.mark.parametrize("solver", [FullBatch(rounds=2), Minibatch(max_epochs=2)], ids=["rounds", "epochs"])
def test_a_head_without_dropout_says_so(partial_data, solver):
    with pytest.raises(ValueError, match="Predictions with dropout need a head"):
        PartialLabelClassifier("iu", relabeling=Looks(), solver=solver).fit(*partial_data)


def test_a_head_of_the_first_version_is_told_how_to_move(partial_data):
    class Old(Head):
        def build(self, n_features, n_labels):
            return nn.Linear(n_features, n_labels)

    with pytest.raises(TypeError, match=r"Old.build\(n_features, n_labels\) is the form of an earlier version"):
        PartialLabelClassifier(head=Old()).fit(*partial_data)


class Hidden(Head):
    def build(self, context):
        layers = nn.Linear(context.n_features, 16), nn.Tanh(), nn.Linear(16, context.n_labels)
        return nn.Sequential(*layers)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_any_head_sees_no_units(partial_data, scale):
    X, Y = partial_data
    plain = PartialLabelClassifier(head=Hidden(), random_state=0, alpha=0).fit(X, Y)
    scaled = PartialLabelClassifier(head=Hidden(), random_state=0, alpha=0).fit(scale * X, Y)
    np.testing.assert_allclose(scaled.decision_function(scale * X), plain.decision_function(X), rtol=1e-6, atol=1e-8)


def test_any_head_starts_from_the_prior(partial_data):
    X, Y = partial_data
    solver = Minibatch(learning_rate=0.0, max_epochs=1)
    zero = PartialLabelClassifier("iu", head=Neighbours(), solver=solver).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(zero, np.tile((Y == 1).sum(0) / (Y != 0).sum(0), (len(X), 1)), rtol=1e-6)


def test_labels_that_cannot_be_fitted_have_constant_logits_under_any_head(partial_data):
    X, Y = partial_data
    Y = Y.copy()
    Y[:, 0] = np.abs(Y[:, 0])  # presences only
    Y[:, 1] = 0
    with pytest.warns(UserWarning, match="2 of 5 labels cannot be fitted"):
        clf = PartialLabelClassifier("iu", head=Hidden(), random_state=0).fit(X, Y)
    proba = clf.predict_proba(X)
    assert np.ptp(proba[:, :2], axis=0).max() == 0
    n = (Y[:, 0] == 1).sum()
    np.testing.assert_allclose(proba[0, :2], [(n + 0.5) / (n + 1), 0.5])
    assert np.ptp(proba[:, 2:], axis=0).min() > 0.1


def test_penalties_and_rates_of_a_head_are_its_own(partial_data):
    X, Y = partial_data

    class Rates(Neighbours):
        def __init__(self, width=8, dropout=0.0, rate=1.0, penalty=1.0):
            super().__init__(width, dropout)
            self.rate, self.penalty = rate, penalty

        def parameter_groups(self, module):
            return [ParameterGroup(list(module.parameters()), penalty=self.penalty, learning_rate=self.rate)]

    class Forgets(Neighbours):
        def parameter_groups(self, module):
            return [ParameterGroup([module.hidden])]

    frozen = PartialLabelClassifier(head=Rates(rate=0.0), random_state=0).fit(X, Y)
    assert not frozen.head_parameters_["module.out"].any()
    strong, free = (
        PartialLabelClassifier(head=Rates(penalty=penalty), alpha=10.0, random_state=0).fit(X, Y)
        for penalty in (1.0, 0.0)
    )
    assert np.abs(strong.head_parameters_["module.out"]).max() < 0.5 * np.abs(free.head_parameters_["module.out"]).max()
    with pytest.raises(ValueError, match=r"Forgets.parameter_groups must hold each trainable parameter"):
        PartialLabelClassifier(head=Forgets()).fit(X, Y)


def test_a_head_is_told_names_and_counts(partial_data):
    pd = pytest.importorskip("pandas")
    X, Y = partial_data
    seen = []

    class Told(Hidden):
        def build(self, context):
            seen.append(context)
            return super().build(context)

    clf = PartialLabelClassifier(head=Told(), random_state=0).fit(X, pd.DataFrame(Y, columns=list("abcde")))
    context = seen[0]
    assert isinstance(context, HeadContext)
    assert (context.n_features, context.n_labels, context.label_names) == (6, 5, list("abcde"))
    np.testing.assert_array_equal(context.counts, (Y == 1).sum(0))
    np.testing.assert_array_equal(context.cooccurrence.toarray(), (Y == 1).T.astype(int) @ (Y == 1))
    assert torch.equal(torch.rand(3, generator=context.generator), torch.rand(3, generator=context.generator))
    # What is kept for predictions has no labels in it.
    assert len(pickle.dumps(clf._head_context)) < 2000


class Undescribed(Smooth):
    def start(self, context, previous=None):
        return {"graph": torch.zeros(2)}


class Impossible(Curriculum):
    def state_spec(self):
        return {"weights": StateTensor(learned=True)}


def test_states_that_cannot_be_carried_are_refused(partial_data):
    X, Y = partial_data
    with pytest.raises(ValueError, match="describes 'bank_features' in state_spec, but start does not return it"):
        PartialLabelClassifier(regularizer=Undescribed()).fit(X, Y)
    with pytest.raises(ValueError, match="relabellings have no gradient"):
        PartialLabelClassifier(relabeling=Impossible()).fit(X, Y)


@pytest.mark.parametrize("first", [True, False])
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(partial_data, first):
    X, Y = partial_data
    clf = PartialLabelClassifier("iu")
    if not first:
        clf.fit(X, Y)
    before = dict(vars(clf))

    class Breaks(Relabeling):
        def relabel(self, context):
            raise KeyboardInterrupt

    clf.relabeling = Breaks()
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X[:, :3], Y[:, :2])
    clf.relabeling = None
    assert vars(clf) == before
