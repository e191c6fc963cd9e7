"""Curricula against the rules worked out in NumPy: what each strategy labels, and what is then trained on."""

from __future__ import annotations

import pickle
import signal

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import Ensemble, Head, Linear
from skpartial.images import Backbone
from skpartial.labels import drop_labels, keep_single_positive
from skpartial.relabeling import Curriculum
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training._checkpoints import Checkpoint

STRATEGIES = ["threshold", "proportion", "positives", "ensemble", "uncertainty", "all", "calibrated"]
#: Thresholds at which each labels a part of the entries below.
THRESHOLDS = {"threshold": 1.0, "proportion": 0.4, "positives": 0.2, "ensemble": 1.0, "uncertainty": 2.5}
ALPHA = 0.02


def make_data(n=120, n_labels=5, known=0.5):
    scenes = make_digit_scenes(n, random_state=0)
    Y = np.asarray(drop_labels(scenes.target[:, :n_labels], known=known, random_state=0))
    return scenes.data.astype(np.float64), Y, scenes


def curriculum(strategy, **more):
    return Curriculum(strategy, THRESHOLDS.get(strategy), **more)


def signs(x):
    return np.where(x > 0, 1, -1)


def chosen_by(strategy, logits, variance, unknown, theta=None):
    """The rules of METHODS, in NumPy; for all entries, of which the known ones are left out later."""
    theta = THRESHOLDS.get(strategy) if theta is None else theta
    if strategy in ("threshold", "ensemble"):
        return np.select([logits >= theta, logits < -theta], [1, -1], 0)
    if strategy == "proportion":
        order = sorted(zip(*np.nonzero(unknown)), key=lambda entry: -abs(logits[entry]))
        value = np.zeros(logits.shape, dtype=int)
        for entry in order[: round(theta * len(order))]:
            value[entry] = signs(logits[entry])
        return value
    if strategy == "positives":
        return np.where(logits >= theta, 1, 0)
    if strategy == "uncertainty":
        return np.where(variance <= theta, signs(logits), 0)
    return signs(logits)


def as_matrix(record, shape, field="value"):
    matrix = np.zeros(shape)
    matrix[record["row"], record["label"]] = record[field]
    return matrix


def fitted(relabeling, X, Y, *, loss="partial_bce", solver=None, weights=None, **more):
    solver = FullBatch(rounds=2, tol=1e-10) if solver is None else solver
    clf = PartialLabelClassifier(loss, relabeling=relabeling, solver=solver, alpha=ALPHA, random_state=3, **more)
    return clf.fit(X, Y, weights)


@pytest.mark.parametrize("weight", [1.0, 0.3])
@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in ("ensemble", "calibrated")])
def test_a_round_is_the_rule_and_then_a_fit_of_what_it_labelled(strategy, weight):
    X, Y, _ = make_data()
    before = Y.copy()
    clf = fitted(curriculum(strategy, weight=weight, epochs=[2]), X, Y)
    first = fitted(None, X, Y)
    logits = first.decision_function(X)
    value = chosen_by(strategy, logits, X**2 @ (first.coef_**2).T, Y == 0)
    labels = np.where(Y == 0, value, Y)
    assert (labels != 0).mean() - (Y != 0).mean() > 0
    np.testing.assert_array_equal(clf.labels_in_use_, labels)
    np.testing.assert_array_equal(Y, before)
    # The weight of a row under partial-BCE follows the labels in use.
    second = fitted(None, X, labels, weights=np.where((Y == 0) & (value != 0), weight, 1.0))
    np.testing.assert_allclose(clf.coef_, second.coef_, rtol=1e-4, atol=1e-5)
    record = clf.relabeled_
    assert record.dtype.names == ("row", "label", "value", "epoch", "score")
    np.testing.assert_array_equal(as_matrix(record, Y.shape), np.where(Y == 0, value, 0))
    assert set(record["epoch"]) == {2}
    scores = X**2 @ (first.coef_**2).T if strategy == "uncertainty" else logits
    np.testing.assert_allclose(record["score"], scores[record["row"], record["label"]], rtol=1e-3)


@pytest.mark.parametrize("strategy", ["threshold", "all", "positives"])
def test_balanced_weights_keep_the_share_of_presences(strategy):
    X, Y, _ = make_data()
    clf = fitted(curriculum(strategy, epochs=[2]), X, Y)
    weak = as_matrix(clf.relabeled_, Y.shape)
    weights = np.ones(Y.shape)
    for given, value, weight in zip(Y.T, weak.T, weights.T):
        of_present = of_absent = 0.3
        present, absent = (value == 1).sum(), (value == -1).sum()
        odds = ((given == 1).sum() + 0.5) / ((given == -1).sum() + 0.5)
        if strategy != "positives" and present < odds * absent:
            # Nothing for absences where there are no presences.
            of_absent *= present / absent / odds
        elif strategy != "positives":
            of_present *= odds * absent / present
        weight[value == 1], weight[value == -1] = of_present, of_absent
    lowered = np.unique(weights[weak != 0])
    assert lowered.tolist() == [0.3] if strategy == "positives" else len(lowered) > 3
    assert strategy != "threshold" or lowered.min() == 0
    second = fitted(None, X, np.where(weak != 0, weak, Y), weights=weights)
    np.testing.assert_allclose(clf.coef_, second.coef_, rtol=1e-4, atol=1e-5)
    plain = fitted(curriculum(strategy, epochs=[2], weight=0.3), X, Y)
    assert (strategy == "positives") == np.allclose(plain.coef_, clf.coef_)


def test_members_of_an_ensemble_are_fits_of_rows_with_weights_of_their_own():
    X, Y, _ = make_data()
    clf = fitted(curriculum("ensemble", weight=1, epochs=[2], n_members=3), X, Y)
    seed = np.random.RandomState(3).randint(np.iinfo(np.int32).max)
    weights = np.random.RandomState(seed).gamma(4.0, size=(3, len(X)))
    weights /= weights.mean(axis=1, keepdims=True)
    logits = np.mean([fitted(None, X, Y, weights=own).decision_function(X) for own in weights], axis=0)
    labels = np.where(Y == 0, chosen_by("ensemble", logits, None, Y == 0), Y)
    np.testing.assert_array_equal(clf.labels_in_use_, labels)
    members = [fitted(None, X, labels, weights=own) for own in weights]
    np.testing.assert_allclose(clf.member_coef_, [each.coef_ for each in members], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(clf.coef_, clf.member_coef_.mean(axis=0))
    found = clf.member_decision_function(X)
    assert found.std(axis=0).min() > 0
    np.testing.assert_allclose(found, [each.decision_function(X) for each in members], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(clf.predict_proba(X), 1 / (1 + np.exp(-found.mean(axis=0))), rtol=1e-6)


def test_calibrated_weights_are_the_precision_of_a_fold_that_was_held_out():
    X, Y, _ = make_data(n=200)
    clf = fitted(Curriculum("calibrated", 0.6, weight=0.5, epochs=[2]), X, Y)
    seed = np.random.RandomState(3).randint(np.iinfo(np.int32).max)
    fold = torch.randint(5, Y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8).numpy()
    held = (fold == 0) & (Y != 0)
    assert 0.1 < held.sum() / (Y != 0).sum() < 0.3
    p = fitted(None, X, Y, weights=np.where(held, 0.0, 1.0)).predict_proba(X)
    centres, precisions = [], []
    for low in np.arange(20) / 20:
        inside = held & (p >= low) & (p < low + 0.05)
        if inside.any():
            centres.append(p[inside].mean())
            precisions.append(((Y[inside] == 1).sum() + 0.5) / (inside.sum() + 1))
    present = np.interp(p, centres, precisions)
    right = np.maximum(present, 1 - present)
    weak = (Y == 0) & (right >= 0.6)
    labels = np.where(weak, signs(present - 0.5), Y)
    np.testing.assert_array_equal(clf.labels_in_use_, labels)
    np.testing.assert_allclose(as_matrix(clf.relabeled_, Y.shape, "score"), np.where(weak, right, 0), rtol=1e-4)
    second = fitted(None, X, labels, weights=np.where(weak, 0.5 * right, 1.0))
    np.testing.assert_allclose(clf.coef_, second.coef_, rtol=1e-3, atol=1e-5)


def test_weak_labels_are_looked_at_anew_or_stay():
    X, Y, _ = make_data()
    first = fitted(None, X, Y).decision_function(X)
    record = {
        kind: fitted(Curriculum("threshold", 1.0, epochs=[2, 3], accumulate=kind), X, Y, solver=FullBatch(rounds=3))
        for kind in (False, True)
    }
    second = fitted(Curriculum("threshold", 1.0, epochs=[2]), X, Y).decision_function(X)
    earlier, later = (np.where(Y == 0, chosen_by("threshold", x, None, None), 0) for x in (first, second))
    assert ((earlier != 0) & (later != earlier)).any()
    assert ((earlier == 0) & (later != 0)).any()
    for accumulate, clf in record.items():
        expected = np.where(earlier != 0, earlier, later) if accumulate else later
        since = np.where(expected == 0, 0, np.where(expected == earlier, 2, 3))
        np.testing.assert_array_equal(as_matrix(clf.relabeled_, Y.shape), expected)
        np.testing.assert_array_equal(as_matrix(clf.relabeled_, Y.shape, "epoch"), since)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_minibatches_are_relabelled_by_the_head_of_the_epoch_before(strategy):
    X, Y, _ = make_data()
    solver = Minibatch(max_epochs=4, learning_rate=0.02)
    # Heads that have seen little are sure of everything.
    theta = 3.0 if strategy == "uncertainty" else THRESHOLDS.get(strategy)
    clf = fitted(Curriculum(strategy, theta, epochs=[4]), X, Y, solver=solver)
    assert len(clf.relabeled_)
    assert set(clf.relabeled_["epoch"]) == {4}
    np.testing.assert_array_equal(clf.labels_in_use_[Y != 0], Y[Y != 0])
    if strategy == "calibrated":
        return
    head = Ensemble() if strategy == "ensemble" else "linear"
    shorter = fitted(None, X, Y, solver=Minibatch(max_epochs=3, learning_rate=0.02), head=head)
    value = chosen_by(strategy, shorter.decision_function(X), X**2 @ (shorter.coef_**2).T, Y == 0, theta)
    np.testing.assert_array_equal(clf.labels_in_use_, np.where(Y == 0, value, Y))


@pytest.mark.parametrize(
    ("planned", "epochs", "expected"),
    [(20, None, {10}), (5, None, {3}), (2, None, {2}), (6, [6, 2, 4, 9], {2, 4, 6})],
)
def test_it_relabels_halfway_or_where_it_is_told_to(planned, epochs, expected):
    X, Y, _ = make_data(n=40, n_labels=3)
    asked = []

    class Watched(Curriculum):
        def _label(self, context, state, n_before):
            asked.append(context.epoch)
            super()._label(context, state, n_before)

    fitted(Watched(epochs=epochs), X, Y, solver=Minibatch(max_epochs=planned))
    assert set(asked) == expected
    assert len(asked) == len(expected)


class Hidden(Head):
    """Nothing that has a closed form."""

    def build(self, context):
        return nn.Sequential(nn.Linear(context.n_features, 8), nn.Tanh(), nn.Linear(8, context.n_labels))


@pytest.mark.parametrize("head", [Linear(dropout=0.2), Hidden(), Ensemble(Hidden(), 2)], ids=repr)
@pytest.mark.parametrize("strategy", ["ensemble", "uncertainty"])
def test_heads_of_other_kinds(strategy, head):
    X, Y, _ = make_data(n=60)
    clf = fitted(Curriculum(strategy, 0.5), X, Y, solver=Minibatch(max_epochs=4, learning_rate=0.02), head=head)
    assert len(clf.relabeled_)
    n_members = 2 if isinstance(head, Ensemble) else 5 if strategy == "ensemble" else 1
    members = clf.member_decision_function(X)
    assert members.shape == (n_members, *Y.shape)
    np.testing.assert_allclose(members.mean(axis=0), clf.decision_function(X), atol=1e-5)
    for copy in (clone(clf).fit(X, Y), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(copy.decision_function(X), clf.decision_function(X))
        np.testing.assert_array_equal(copy.relabeled_, clf.relabeled_)


def small_network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_networks(strategy):
    _, Y, scenes = make_data(n=40)
    backbone = Backbone(small_network(), image_size=32, finetune="all")
    solver = Minibatch(max_epochs=2, learning_rate=1e-3, batch_size=20)
    limit = {"threshold": 0.0, "positives": -5.0, "ensemble": 0.0, "uncertainty": 5.0}.get(strategy)
    clf = fitted(Curriculum(strategy, limit), scenes.images, Y, solver=solver, backbone=backbone)
    assert len(clf.relabeled_)
    np.testing.assert_array_equal(clf.labels_in_use_[Y != 0], Y[Y != 0])
    members = clf.member_decision_function(scenes.images)
    assert len(members) == (5 if strategy == "ensemble" else 1)
    np.testing.assert_allclose(members.mean(axis=0), clf.decision_function(scenes.images), atol=1e-5)


def test_a_network_goes_on_with_what_its_head_has_labelled():
    _, Y, scenes = make_data(n=40)
    backbone = Backbone(small_network(), image_size=32, finetune="linear_init")
    solver = Minibatch(max_epochs=1, learning_rate=1e-3, batch_size=20)
    with pytest.warns(UserWarning, match="but only 1 is planned"):
        clf = fitted(Curriculum("proportion"), scenes.images, Y, solver=solver, backbone=backbone)
    assert len(clf.relabeled_) == round(0.8 * (Y == 0).sum())
    assert (clf.labels_in_use_ != 0).sum() == (Y != 0).sum() + len(clf.relabeled_)


def test_a_warm_start_goes_on_with_the_weak_labels():
    X, Y, _ = make_data()
    clf = fitted(Curriculum("proportion", 0.5), X, Y, warm_start=True)
    added = clf.relabeled_
    clf.set_params(solver__rounds=1)
    with pytest.warns(UserWarning, match="first relabels before epoch or round 2, but only 1 is planned"):
        clf.fit(X, Y)
    np.testing.assert_array_equal(clf.relabeled_, added)
    assert (clf.labels_in_use_ != 0).sum() == (Y != 0).sum() + len(added)


def test_sparse_features_and_labels():
    X, Y, _ = make_data()
    dense = fitted(curriculum("uncertainty"), X, Y)
    known = sp.csr_array(Y)
    clf = fitted(curriculum("uncertainty"), sp.csr_array(X), known)
    np.testing.assert_array_equal(clf.labels_in_use_.toarray(), dense.labels_in_use_)
    np.testing.assert_array_equal(known.toarray(), Y)


def test_it_is_searched_over():
    X, Y, _ = make_data(n=90, n_labels=3, known=0.8)
    clf = PartialLabelClassifier(relabeling=Curriculum(), alpha=ALPHA, random_state=0)
    search = GridSearchCV(clf, {"relabeling__strategy": STRATEGIES}, cv=2, error_score="raise").fit(X, Y)
    assert len(search.cv_results_["mean_test_score"]) == len(STRATEGIES)


class Killed(Exception):
    """What ends a fit halfway."""


@pytest.mark.parametrize("solver", [FullBatch(rounds=4), Minibatch(max_epochs=6)], ids=["rounds", "epochs"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fit_that_ended_halfway_goes_on_to_equal_weights_and_records(tmp_path, monkeypatch, strategy, solver):
    X, Y, _ = make_data(n=60)
    more = {"loss": "partial_bce", "solver": solver}
    epochs = [2, 4] if strategy == "calibrated" else None
    whole = fitted(curriculum(strategy, epochs=epochs), X, Y, **more)
    save = Checkpoint.save

    def killed(self, content):
        save(self, content)
        if content["epoch"] == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", killed)
        with pytest.raises(Killed):
            fitted(curriculum(strategy, epochs=epochs), X, Y, checkpoint_dir=tmp_path, **more)
    saved = []

    def counted(self, content):
        saved.append(content["epoch"])
        save(self, content)

    monkeypatch.setattr(Checkpoint, "save", counted)
    clf = fitted(curriculum(strategy, epochs=epochs), X, Y, checkpoint_dir=tmp_path, **more)
    assert saved == list(range(4, 5 if isinstance(solver, FullBatch) else 7))
    np.testing.assert_array_equal(clf.coef_, whole.coef_)
    np.testing.assert_array_equal(clf.relabeled_, whole.relabeled_)
    np.testing.assert_array_equal(clf.labels_in_use_, whole.labels_in_use_)


SCRIPT = """
import os, signal, sys
import numpy as np
from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.relabeling import Curriculum
from skpartial.solvers import Minibatch
from skpartial.training._checkpoints import Checkpoint

data, folder, out, last = sys.argv[1:]
save = Checkpoint.save


def saved(self, content):
    save(self, content)
    if content["epoch"] == int(last):
        os.kill(os.getpid(), signal.SIGKILL)


Checkpoint.save = saved
with np.load(data) as file:
    X, Y = file["X"], file["Y"]
curriculum = Curriculum("calibrated", epochs=[3, 6])
solver = Minibatch("adam", 1 / X.shape[1], 8)
clf = PartialLabelClassifier(
    relabeling=curriculum, solver=solver, alpha=0.02, random_state=3, checkpoint_dir=folder or None
).fit(X, Y)
np.savez(out, coef=clf.coef_, relabeled=clf.relabeled_, in_use=clf.labels_in_use_)
"""


def test_a_fit_that_was_killed_goes_on_to_equal_weights_and_records(tmp_path, interpreters):
    X, Y, _ = make_data(n=60)
    np.savez(tmp_path / "data.npz", X=X, Y=Y)
    (tmp_path / "fit.py").write_text(SCRIPT)

    def fit(interpreter, folder, name, last=0):
        return interpreter.run(tmp_path / "fit.py", tmp_path / "data.npz", folder, tmp_path / name, last)

    one_day, another = interpreters
    assert fit(one_day, tmp_path / "checkpoints", "killed.npz", 4) == -signal.SIGKILL
    assert fit(another, tmp_path / "checkpoints", "killed.npz") == 0
    assert fit(one_day, "", "whole.npz") == 0
    with np.load(tmp_path / "whole.npz") as expected, np.load(tmp_path / "killed.npz") as found:
        assert len(expected["relabeled"])
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize(("epochs", "goes_on"), [(None, False), ([2], True)])
def test_a_longer_fit_goes_on_only_where_it_relabels_alike(tmp_path, monkeypatch, epochs, goes_on):
    X, Y, _ = make_data(n=60)
    save, seen = Checkpoint.save, []

    def killed(self, content):
        save(self, content)
        seen.append(content["epoch"])
        if len(seen) == 3:
            raise Killed

    monkeypatch.setattr(Checkpoint, "save", killed)
    with pytest.raises(Killed):
        fitted(Curriculum(epochs=epochs), X, Y, solver=Minibatch(max_epochs=4), checkpoint_dir=tmp_path)
    fitted(Curriculum(epochs=epochs), X, Y, solver=Minibatch(max_epochs=8), checkpoint_dir=tmp_path)
    assert seen[3] == (4 if goes_on else 1)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"strategy": "easy"}, "strategy must be 'threshold', 'proportion'"),
        ({"strategy": "proportion", "threshold": 80}, r"threshold must be a number in \[0, 1\], got 80"),
        ({"strategy": "threshold", "threshold": -1}, r"threshold must be a number in \[0, inf\], got -1"),
        ({"strategy": "all", "threshold": 1.0}, "threshold must be None for strategy='all'"),
        ({"weight": -1}, "weight must be 'balanced' or a number of at least 0"),
        ({"epochs": [1]}, "epochs must be None or whole numbers of at least 2, got 1"),
        ({"epochs": 10}, "epochs must be None or whole numbers of at least 2, got 10"),
        ({"epochs": []}, "epochs must be None or whole numbers of at least 2"),
        ({"accumulate": 2}, "accumulate must be"),
        ({"n_members": 1}, "n_members must be a whole number of at least 2"),
        ({"dropout": 0}, r"dropout must be a number in \(0, 1\)"),
        ({"n_samples": 1}, "n_samples must be a whole number of at least 2"),
    ],
)
def test_what_has_no_meaning_is_refused(partial_data, parameters, message):
    clf = PartialLabelClassifier(relabeling=Curriculum(**parameters), alpha=ALPHA)
    with pytest.raises(ValueError, match="Curriculum: " + message):
        clf.fit(*partial_data)


@pytest.mark.parametrize("strategy", ["threshold", "proportion", "all", "ensemble", "uncertainty", "positives"])
def test_balanced_weights_do_not_harm_recorded_positives(strategy):
    scenes = make_digit_scenes(400, random_state=0)
    seen = keep_single_positive(scenes.target, random_state=0)
    relabeling = Curriculum(strategy, 0.01 if strategy == "uncertainty" else None, n_members=2)
    plain = SinglePositiveClassifier(random_state=0).fit(scenes.data, seen)
    clf = SinglePositiveClassifier(relabeling=relabeling, random_state=0).fit(scenes.data, seen)
    before, after = (average_precision_score(scenes.target == 1, c.predict_proba(scenes.data)) for c in (plain, clf))
    assert after > before - 0.01
    assert clf.predict(scenes.data).mean() < 1.2 * plain.predict(scenes.data).mean()


@pytest.mark.parametrize("strategy", ["threshold", "positives"])
def test_balanced_weights_are_1_for_labels_without_known_negatives(strategy):
    X, Y, _ = make_data()
    Y[:, 0] = np.where(Y[:, 0] == 1, 1, 0)
    weights = []

    class Noted(Curriculum):
        def relabel(self, context):
            data = super().relabel(context)
            weights.append(None if data is None else data.weights)
            return data

    theta = THRESHOLDS[strategy]
    clf = SinglePositiveClassifier(relabeling=Noted(strategy, theta, epochs=[2]), threshold=0.5, random_state=0)
    clf.fit(X, Y)
    weak = as_matrix(clf.relabeled_, Y.shape) != 0
    found = [each for each in weights if each is not None][-1]
    assert weak[:, 0].any()
    assert (found[weak & (np.arange(Y.shape[1]) == 0)] == 1).all()
    assert (found[weak & (np.arange(Y.shape[1]) > 0)] <= np.float32(0.3)).all()


@pytest.mark.parametrize(("sign", "kind"), [(1, "negatives"), (-1, "positives"), (0, "positives")])
def test_precision_is_not_measured_on_entries_of_one_sign(sign, kind):
    X, Y, _ = make_data()
    clf = SinglePositiveClassifier(relabeling=Curriculum("calibrated"))
    with pytest.raises(ValueError, match=rf"Curriculum\(strategy='calibrated'\).* no known {kind}: record some"):
        clf.fit(X, np.where(sign == Y, Y, 0))


@pytest.mark.filterwarnings("ignore::skpartial.exceptions.UnfittableLabelsWarning")
@pytest.mark.parametrize("strategy", ["threshold", "proportion", "all", "ensemble", "uncertainty", "positives"])
def test_labels_without_any_known_entry_are_fitted_as_without_a_curriculum(strategy):
    X, Y, _ = make_data()
    clf = SinglePositiveClassifier(relabeling=Curriculum(strategy)).fit(X, 0 * Y)
    assert not clf.predict(X).any()
