"""The training loop: where it converges to, what it depends on and what it does not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.callback import ProgressBar
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.losses import PseudoNegative
from skpartial.solvers import FullBatch, Minibatch


def objective(clf, X, Y):
    """IgnoreUnknown's objective of a linear classifier, in float64."""
    logits = X @ clf.coef_.T.astype(float) + clf.intercept_
    entries = np.where(Y == 0, 0, np.logaddexp(0, -Y * logits))
    return entries.mean() + clf.alpha_ / (2 * Y.shape[1]) * (clf.coef_.astype(float) ** 2).sum()


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_goes_where_the_full_batch_solver_goes(partial_data, optimizer):
    """The same objective, penalty included: with a strong one, whose optimum a wrong factor would move."""
    X, Y = partial_data
    X = 7 * X + 1  # units and offset of the features must not matter
    best = PartialLabelClassifier("iu", alpha=0.5, solver=FullBatch(tol=1e-10)).fit(X, Y)
    rate = {"adam": 3e-3, "sgd": 0.3}[optimizer]
    solver = Minibatch(optimizer, learning_rate=rate, batch_size=120, max_epochs=2500)
    clf = PartialLabelClassifier("iu", alpha=0.5, solver=solver, random_state=0).fit(X, Y)
    assert objective(clf, X, Y) == pytest.approx(objective(best, X, Y), rel=2e-4)
    np.testing.assert_allclose(clf.coef_, best.coef_, atol=5e-3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_defaults_learn(partial_data, optimizer):
    X, Y = partial_data
    start = np.where(Y == 0, 0, np.log(2)).mean()
    best = objective(PartialLabelClassifier("iu").fit(X, Y), X, Y)
    clf = PartialLabelClassifier("iu", solver=Minibatch(optimizer), random_state=0).fit(X, Y)
    assert objective(clf, X, Y) - best < 0.2 * (start - best)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_units_of_the_features_do_not_matter(partial_data, optimizer):
    X, Y = partial_data
    fitted = [
        PartialLabelClassifier(alpha=1e-3 * unit**2, solver=Minibatch(optimizer), random_state=0).fit(unit * X, Y)
        for unit in (1, 1e-3, 30)
    ]
    for clf, unit in zip(fitted, (1, 1e-3, 30)):
        np.testing.assert_allclose(
            clf.decision_function(unit * X), fitted[0].decision_function(X), rtol=1e-6, atol=1e-8
        )


def test_same_seed_same_result(partial_data):
    X, Y = partial_data
    solver = Minibatch(max_epochs=3)
    first, again, other = (
        PartialLabelClassifier(PseudoNegative(), solver=solver, random_state=seed).fit(X, Y) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.coef_, again.coef_)
    assert not np.array_equal(first.coef_, other.coef_)


def test_global_random_state_is_left_alone(partial_data):
    import torch

    X, Y = partial_data
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    PartialLabelClassifier(solver=Minibatch(max_epochs=1), random_state=5).fit(X, Y)
    assert torch.equal(torch.rand(3), expected)


def test_shuffling_can_be_switched_off(partial_data):
    X, Y = partial_data
    still = [
        PartialLabelClassifier(solver=Minibatch(max_epochs=2, shuffle=False), random_state=seed).fit(X, Y).coef_
        for seed in (0, 1)
    ]
    np.testing.assert_array_equal(*still)


def test_history_has_a_record_an_epoch(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=4), random_state=0).fit(X, Y)
    assert [record["epoch"] for record in clf.history_] == [1, 2, 3, 4]
    assert clf.n_iter_ == 4
    assert clf.history_[-1]["loss"] < clf.history_[0]["loss"]


def test_the_best_epoch_by_validation_is_kept(partial_data):
    X, Y = partial_data
    X_train, X_val, Y_train, Y_val = train_test_split(X, Y, random_state=0)
    solver = Minibatch(learning_rate=0.5, max_epochs=12)
    clf = PartialLabelClassifier(solver=solver, random_state=0).fit(X_train, Y_train, X_val=X_val, y_val=Y_val)
    scores = [record["validation_score"] for record in clf.history_]
    assert clf.best_epoch_ == 1 + int(np.argmax(scores))
    assert clf.score(X_val, Y_val) == pytest.approx(max(scores))
    # The epoch is really that of a run stopped there, unless the last one happened to be the best.
    stopped = PartialLabelClassifier(
        solver=Minibatch(learning_rate=0.5, max_epochs=clf.best_epoch_), random_state=0
    ).fit(X_train, Y_train)
    np.testing.assert_array_equal(clf.coef_, stopped.coef_)


def test_patience_stops_early(partial_data):
    X, Y = partial_data
    X_train, X_val, Y_train, Y_val = train_test_split(X, Y, random_state=0)
    solver = Minibatch(learning_rate=0.5, max_epochs=200, patience=3)
    clf = PartialLabelClassifier(solver=solver, random_state=0).fit(X_train, Y_train, X_val=X_val, y_val=Y_val)
    assert clf.n_iter_ == clf.best_epoch_ + 3
    # Without validation rows the training loss decides.
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=500, patience=3, tol=0.01), random_state=0).fit(X, Y)
    assert 3 < clf.n_iter_ < 500


def test_tells_when_patience_was_not_used_up(partial_data):
    X, Y = partial_data
    with pytest.warns(ConvergenceWarning, match="within max_epochs=2: raise solver__max_epochs"):
        PartialLabelClassifier(solver=Minibatch(max_epochs=2, patience=50), random_state=0).fit(X, Y)


def test_positive_only_labels_with_sparse_y(partial_data):
    X, Y = partial_data
    seen = (Y == 1).astype(int)
    dense = SinglePositiveClassifier(solver=Minibatch(max_epochs=2), random_state=0).fit(X, seen)
    sparse = SinglePositiveClassifier(solver=Minibatch(max_epochs=2), random_state=0).fit(X, sp.csc_matrix(seen))
    np.testing.assert_array_equal(dense.coef_, sparse.coef_)


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"optimizer": "lbfgs"}, "optimizer must be 'adam', 'adamw' or 'sgd', got 'lbfgs'"),
        ({"learning_rate": -0.1}, "learning_rate must be a number of at least 0, got -0.1"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number"),
        ({"max_epochs": 0}, "max_epochs must be a whole number of at least 1, got 0"),
        ({"max_epochs": 2.5}, "max_epochs must be a whole number"),
        ({"batch_size": "16"}, "batch_size must be a whole number"),
        ({"patience": 0}, "patience must be a whole number"),
        ({"momentum": 1.0}, r"momentum must be a number in \[0, 1\), got 1\.0"),
    ],
)
def test_refuses_parameters_out_of_range(partial_data, parameters, message):
    X, Y = partial_data
    with pytest.raises(ValueError, match="Minibatch: " + message):
        PartialLabelClassifier(solver=Minibatch(**parameters)).fit(X, Y)


def test_a_diverging_loss_is_an_error(partial_data):
    X, Y = partial_data
    with pytest.raises(ValueError, match=r"training loss became .* in epoch \d+: lower solver__learning_rate"):
        PartialLabelClassifier(solver=Minibatch("sgd", learning_rate=1e30, max_epochs=30)).fit(X.astype(np.float32), Y)


@pytest.mark.parametrize("shape", ["rows", "entries"])
@pytest.mark.parametrize("batch_size", [1, 8, 120])
def test_batches_add_up_to_the_weighted_objective(partial_data, shape, batch_size):
    """An epoch of steps too small to change the gradients moves along the gradient of the whole objective."""
    X, Y = partial_data
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=len(X) if shape == "rows" else Y.shape) ** 2
    solver = Minibatch("sgd", learning_rate=1e-9, momentum=0.0, batch_size=batch_size, max_epochs=1)
    clf = PartialLabelClassifier("iu", alpha=0.0, solver=solver, random_state=0).fit(X, Y, sample_weight=weights)
    # It starts from zero weights and the weighted log odds of the presences.
    entry = (weights[:, None] if weights.ndim == 1 else weights) * (Y != 0)
    prior = (entry * (Y == 1)).sum(0) / entry.sum(0)
    descent = (entry * ((Y == 1) - prior)).T @ X
    np.testing.assert_allclose(clf.coef_ / np.linalg.norm(clf.coef_), descent / np.linalg.norm(descent), atol=1e-5)


def test_read_only_weights(partial_data):
    X, Y = partial_data
    weights = np.linspace(1, 2, len(X))
    expected = PartialLabelClassifier(random_state=0).fit(X, Y, sample_weight=weights).coef_
    weights.setflags(write=False)
    np.testing.assert_array_equal(PartialLabelClassifier().fit(X, Y, sample_weight=weights).coef_, expected)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=2)], ids=["full", "mini"])
@pytest.mark.parametrize("unit", [1e-46, 1e39, 1e307])
def test_units_of_the_weights_do_not_matter(partial_data, solver, unit):
    X, Y = (array.astype(np.float32) for array in partial_data)
    weights = np.linspace(1, 2, len(X))
    plain, scaled = (
        PartialLabelClassifier(solver=solver, random_state=0).fit(X, Y, sample_weight=factor * weights).coef_
        for factor in (1, unit)
    )
    np.testing.assert_allclose(scaled, plain, rtol=1e-5)


@pytest.mark.parametrize("verbose", [0, 1, 2])
@pytest.mark.parametrize("head", ["linear", "gnn"])
@pytest.mark.parametrize("with_rich", [True, False])
def test_bars_inside_epochs(capsys, monkeypatch, verbose, head, with_rich):
    if with_rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    scenes = make_digit_scenes(60, random_state=0)
    solver = Minibatch(max_epochs=2, batch_size=20)
    PartialLabelClassifier(head=head, solver=solver, verbose=verbose, random_state=0).fit(scenes.data, scenes.target)
    output = capsys.readouterr().out
    assert ("3/3" in output) == ("Epoch 2" in output) == (verbose == 2)
    assert ("loss=" in output) == (verbose > 0)


def test_bars_inside_epochs_give_way_to_callbacks(capsys):
    pytest.importorskip("rich")
    scenes = make_digit_scenes(60, random_state=0)
    clf = PartialLabelClassifier(solver=Minibatch(max_epochs=2, batch_size=20), verbose=2, random_state=0)
    clf.set_callbacks(ProgressBar()).fit(scenes.data, scenes.target)
    assert "PartialLabelClassifier - fit" in capsys.readouterr().out


def test_published_rates_are_those_of_features_as_they_are(partial_data):
    """One step of Adam moves every weight by the rate, in the units of the features that it is told in."""
    X, Y = partial_data
    settings = {"learning_rate": 1e-4, "max_epochs": 1, "batch_size": len(X)}
    for unit in (1, 30):
        plain = PartialLabelClassifier("iu", solver=Minibatch(rescale=False, **settings), alpha=0.0).fit(unit * X, Y)
        np.testing.assert_allclose(np.abs(plain.coef_), 1e-4, rtol=1e-3)
        scaled = PartialLabelClassifier("iu", solver=Minibatch(**settings), alpha=0.0).fit(unit * X, Y)
        np.testing.assert_allclose(np.abs(scaled.coef_), 1e-4 / np.sqrt(np.var(unit * X, axis=0).mean()), rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_default_rate_makes_the_same_steps_in_either_units(partial_data, optimizer):
    X, Y = partial_data
    fits = [
        PartialLabelClassifier("iu", solver=Minibatch(optimizer, rescale=rescale), random_state=0).fit(5 * X, Y)
        for rescale in (True, False)
    ]
    # The intercept, which has no units, moves by other steps.
    coefs = [clf.coef_.ravel() for clf in fits]
    assert np.corrcoef(*coefs)[0, 1] > 0.98
    assert 0.7 < np.linalg.norm(coefs[0]) / np.linalg.norm(coefs[1]) < 1.4


def test_a_rate_that_is_far_too_high_warns_with_the_right_one(partial_data):
    X, Y = partial_data
    d = X.shape[1]
    clf = PartialLabelClassifier(solver=Minibatch(learning_rate=6 / d, max_epochs=1), random_state=0)
    with pytest.warns(UserWarning, match=r"by up to about 6 per step.*learning_rate=None takes 0\.01\..*rescale=False"):
        clf.fit(X, Y)
    clf.set_params(solver__learning_rate=4 / d).fit(X, Y)
    # In units of the features as they are, the same rate may suit.
    published = PartialLabelClassifier(solver=Minibatch(learning_rate=4 / d, rescale=False, max_epochs=1))
    published.fit(X / np.sqrt(np.mean(np.square(X))), Y)
    with pytest.warns(UserWarning, match="by up to about 4e.02 per step"):
        published.fit(100 * X / np.sqrt(np.mean(np.square(X))), Y)
