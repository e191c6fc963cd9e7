"""Interactive smoothness: the term by hand, its state in the training loop, and what estimators make of it."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpartial import PartialLabelClassifier, SinglePositiveClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.images import Backbone
from skpartial.labels import LabelMatrix, drop_labels
from skpartial.model_selection import BatchedGridSearchCV
from skpartial.regularizers import BatchContext, InteractiveSmoothness, joint_nnomp
from skpartial.relabeling import Relabeling
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training import TrainingContext, TrainingData
from skpartial.training._checkpoints import Checkpoint

N, L, D = 30, 4, 6


class Given:
    """Features of a training set, as a context asks for them."""

    def __init__(self, X):
        self.X = X

    def features(self, rows):
        return self.X[rows]


def problem(mode=None, n=N, seed=0, **settings):
    """A regulariser with its state, features, labels and a linear head, in float64."""
    rng = np.random.default_rng(seed)
    X = torch.tensor(np.abs(rng.normal(size=(n, D))))
    Y = rng.choice([-1, 0, 1], size=(n, L), p=[0.3, 0.4, 0.3]).astype(np.int8)
    head = nn.Linear(D, L).double()
    with torch.no_grad():
        head.weight.copy_(torch.tensor(rng.normal(size=(L, D))))
        head.bias.copy_(torch.tensor(rng.normal(size=L)))
    smooth = InteractiveSmoothness(n_atoms=3, mode=mode, **settings)
    data = TrainingData.encode(Y)
    smooth.check(data.labels)
    state = smooth.start(TrainingContext(given=data, current=data, predictor=Given(X)))
    return smooth, state, X, Y, head


def batch_of(state, X, Y, head, rows, **more):
    rows = torch.as_tensor(rows)
    features = X[rows]
    labels = torch.tensor(Y[rows.numpy()])
    leaves = state | {"graph": state["graph"].detach().requires_grad_()}
    return BatchContext(features, head(features), labels, rows, head, 1, leaves, **more)


def pursuits_of(smooth):
    """A list that takes up what its pursuits find."""
    found, original = [], smooth._similar
    smooth._similar = lambda *given: found.append(original(*given)) or found[-1]
    return found


def term_by_hand(smooth, state, X, Y, head, rows, graph=None):
    """The labels' term in NumPy, of formulas as they are published."""
    a, mode = smooth.absent_value, smooth.mode
    x = head(X).detach().numpy()
    known = np.where(Y == 1, 1.0, a)
    predicted = (np.exp(2 * x) - 1) / (np.exp(2 * x) - 1 / a) if mode == "code" else a + (1 - a) / (1 + np.exp(-x))
    A = np.zeros((L, L)) if graph is None else graph
    if graph is None:
        A[tuple(state["edges"].numpy())] = state["graph"].numpy()
    mixed = np.where(Y == 0, predicted, known) @ A if mode == "paper" else np.where(Y == 0, predicted @ A, known)
    F = X.numpy() * float(state["feature_scale"])
    if mode == "code":
        F = np.column_stack([F, np.ones(len(F))])
    total = 0.0
    for row in rows:
        others = np.arange(len(X)) != row
        query = np.where(Y[row] == 0, predicted[row], known[row])
        found = joint_nnomp(
            np.where(others[:, None], F, 0),  # a row of zeros is never chosen
            np.where(others[:, None], mixed, 0),
            F[[row]],
            query[None],
            n_atoms=smooth.n_atoms,
            label_weight=smooth.label_weight,
            feature_weight=smooth.feature_weight,
            mode=mode,
        )
        total += (found.label_residual[0] ** 2).sum() if (found.support[0] >= 0).any() else 0.0
    return smooth.label_weight * total / len(rows) / L


@pytest.mark.parametrize("mode", [None, "paper", "code"])
@pytest.mark.parametrize("settings", [{}, {"absent_value": -1.0, "label_weight": 0.5, "label_graph": "identity"}])
def test_the_term_by_hand(mode, settings):
    smooth, state, X, Y, head = problem(mode, **settings)
    rows = [3, 0, 17, 8]  # row 0 of the code's dictionary is chosen first or never
    if mode == "code":
        rows = rows[1:]
    value = smooth(batch_of(state, X, Y, head, rows))
    assert value.item() == pytest.approx(term_by_hand(smooth, state, X, Y, head, rows), rel=1e-9)
    assert value.item() > 0


def test_gradients_of_head_and_graph():
    """With similar rows and coefficients as they are the term is smooth: its gradients are those of finite steps."""
    smooth, state, X, Y, head = problem()
    rows = [3, 1, 17, 8]
    batch = batch_of(state, X, Y, head, rows)
    found = pursuits_of(smooth)
    smooth(batch).backward()
    smooth._similar = lambda *given: found[0]
    for tensor, gradient in ((head.weight, head.weight.grad), (state["graph"], batch.state["graph"].grad)):
        assert gradient.abs().max() > 1e-4
        for index in list(np.ndindex(*tensor.shape))[:12]:
            values = []
            for step in (1e-6, -1e-6):
                with torch.no_grad():
                    tensor[index] += step
                    values.append(smooth(batch_of(state, X, Y, head, rows)).item())
                    tensor[index] -= step
            assert float(gradient[index]) == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-7)


def test_golden_label_values(golden):
    """What the released code makes of labels and predictions, and the paper's mixture of clamped ones."""
    arrays = {key.removeprefix("imcl_"): torch.tensor(value) for key, value in golden("similarities").items()}
    for c in (1, 2):
        code, paper = (InteractiveSmoothness(mode=mode, absent_value=-1 / c) for mode in ("code", "paper"))
        presence = torch.ones(6, dtype=torch.float64)
        queries, atoms = (code._values(arrays[name], None, presence) for name in ("lq", "ldict"))
        x_query, x_atoms = (arrays[name] @ arrays["Theta"] for name in ("Fq", "Fdict"))
        filled = torch.where(queries.isnan(), code._predicted(x_query, presence), queries)
        torch.testing.assert_close(filled, arrays[f"c{c}_yq"])
        predicted = code._predicted(x_atoms, presence)
        torch.testing.assert_close(code._mixed(atoms, predicted, arrays["A"]), arrays[f"c{c}_Ydict_tf"])
        torch.testing.assert_close(paper._mixed(atoms, predicted, arrays["A"]), arrays[f"c{c}_AY_paper"])
        far = code._predicted(torch.tensor([[-1e4, -300.0, 300, 1e4]], dtype=torch.float64), presence[:4])
        torch.testing.assert_close(far, torch.tensor([[-1 / c, -1 / c, 1, 1]], dtype=torch.float64))


def test_balance_makes_the_term_as_large_as_the_loss():
    smooth, state, X, Y, head = problem(balance=True)
    for step, loss in enumerate((0.7, 0.2)):
        loss = torch.tensor(loss, dtype=torch.float64)
        value = smooth(batch_of(state, X, Y, head, [1, 5, 9 + step], loss=loss))
        if step == 0:
            assert value.item() == pytest.approx(0.7)
    assert float(state["measured"][0]) == 2
    for _ in range(12):
        smooth(batch_of(state, X, Y, head, [1, 5, 9], loss=loss))
    assert float(state["measured"][0]) == 10  # and no more


def test_the_bank_is_bounded_and_takes_the_newest_rows():
    smooth, state, X, Y, head = problem(bank_size=7)
    assert state["bank_features"].shape == (7, D)
    for rows in ([0, 1, 2], [3, 4, 5], [6, 7, 8]):
        smooth(batch_of(state, X, Y, head, rows))
    assert sorted(state["bank_rows"].tolist()) == [2, 3, 4, 5, 6, 7, 8]
    order = state["bank_rows"]
    torch.testing.assert_close(state["bank_features"], X[order])
    np.testing.assert_array_equal(state["bank_known"].isnan(), Y[order] == 0)
    smooth(batch_of(state, X, Y, head, list(range(10, 20))))  # more than it holds
    assert sorted(state["bank_rows"].tolist()) == [13, 14, 15, 16, 17, 18, 19]
    whole, state, X, Y, head = problem(bank_size=1000)
    whole(batch_of(state, X, Y, head, [5, 2]))
    assert state["bank_rows"].tolist() == list(range(N))


def test_weights_of_rows_and_soft_targets():
    smooth, state, X, Y, head = problem()
    rows, weights = [3, 1, 17], torch.tensor([1.0, 0.0, 3.0])
    value = smooth(batch_of(state, X, Y, head, rows, weights=weights)).item()
    terms = [term_by_hand(smooth, state, X, Y, head, [row]) for row in rows]
    assert value == pytest.approx((terms[0] + 3 * terms[2]) / 4, rel=1e-9)
    by_entry = weights[:, None].expand(3, L)
    assert smooth(batch_of(state, X, Y, head, rows, weights=by_entry)).item() == pytest.approx(value)
    targets = torch.where(torch.tensor(Y[rows]) == 0, 0.25, torch.nan)
    smooth(batch_of(state, X, Y, head, rows, targets=targets))
    expected = np.where(Y[rows] == 0, -0.5 + 1.5 * 0.25, np.where(Y[rows] == 1, 1, -0.5))
    np.testing.assert_allclose(state["bank_known"][rows], expected)


def test_side_labels_say_what_is_similar():
    rng = np.random.default_rng(0)
    n, classes = 60, rng.integers(4, size=60)
    own = rng.choice([-1, 0, 1], size=(n, 12))
    Y = np.column_stack([own, 2 * np.eye(4, dtype=int)[classes] - 1]).astype(np.int8)
    names = [*(f"label {i}" for i in range(12)), *(f"class {i}" for i in range(4))]
    data = TrainingData.encode(pd.DataFrame(Y, columns=names))
    X = torch.tensor(np.abs(rng.normal(size=(n, D))))
    torch.manual_seed(0)
    head = nn.Linear(D, 16).double()
    shares = []
    for side_labels in (None, names[12:], [12, 13, 14, 15]):
        smooth = InteractiveSmoothness(n_atoms=2, side_labels=side_labels)
        smooth.check(data.labels)
        state = smooth.start(TrainingContext(given=data, current=data, predictor=Given(X)))
        found = pursuits_of(smooth)
        smooth(batch_of(state, X, Y, head, list(range(20))))
        shares.append((classes[found[0].support[:, 0]] == classes[:20]).mean())
        graph = smooth.fitted_attributes(state)["label_graph_"]
        if side_labels is not None:  # joined to nothing
            np.testing.assert_array_equal(graph[12:], np.eye(16)[12:])
            np.testing.assert_array_equal(graph[:, 12:], np.eye(16)[:, 12:])
    assert shares[1] == shares[2] == 1
    assert shares[0] < 0.9


# ------------------------------------------------------------------------------------------------------- in estimators


@pytest.fixture(scope="module")
def scenes():
    scenes = make_digit_scenes(150, random_state=0)
    return scenes.data, np.asarray(drop_labels(scenes.target[:, :5], known=0.6, random_state=0)), scenes


def make(**settings):
    settings = {"n_atoms": 2, "bank_size": 40, **settings}
    solver = Minibatch(max_epochs=3, batch_size=20, learning_rate=0.02)
    return PartialLabelClassifier(
        "iu", alpha=0.01, regularizer=InteractiveSmoothness(**settings), solver=solver, random_state=0
    )


def test_it_refines_the_convex_solution(scenes):
    X, Y, _ = scenes
    clf = make().fit(X, Y)
    stages = [record["stage"] for record in clf.history_]
    assert stages == ["start"] * (len(stages) - 3) + ["head"] * 3
    convex = PartialLabelClassifier("iu", alpha=0.01).fit(X, Y)
    still = clone(clf).set_params(solver__learning_rate=1e-12).fit(X, Y)
    np.testing.assert_allclose(still.coef_, convex.coef_, atol=1e-6)
    # Smoothness moves the classifier, other than the same steps without it.
    without = clone(clf).set_params(regularizer__label_weight=1e-9).fit(X, Y)
    assert np.abs(clf.coef_ - convex.coef_).max() > 1e-3
    assert np.abs(clf.coef_ - without.coef_).max() > 1e-4
    assert clf.score(X, Y) > 0.8


def test_the_graph_is_learned_on_its_support(scenes):
    X, Y, _ = scenes
    clf = make(n_neighbors_labels=2).fit(X, Y)
    fixed = make(n_neighbors_labels=2, learn_graph=False).fit(X, Y)
    graph, start = clf.label_graph_, fixed.label_graph_
    assert graph.shape == (5, 5)
    assert graph.min() >= 0
    assert graph.max() <= 1
    np.testing.assert_allclose(start.sum(axis=0), 1, atol=1e-6)
    counts = np.array([(Y == 1).astype(int).T[j] @ (Y == 1) for j in range(5)])
    assert ((graph[~np.eye(5, dtype=bool)] > 0).sum()) <= 10
    assert not graph[(counts == 0)].any()
    assert np.abs(graph - start).max() > 0.02
    assert not np.array_equal(clf.coef_, fixed.coef_)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, pd.DataFrame])
def test_a_graph_of_the_users(scenes, form):
    X, Y, _ = scenes
    counts = np.zeros((5, 5))
    counts[0, 1], counts[2, 1] = 30, 10
    given = counts.copy()
    clf = make(label_graph=form(counts), learn_graph=False).fit(X, Y)
    np.testing.assert_array_equal(counts, given)
    expected = np.eye(5)
    expected[:, 1] = np.array([1, 1, 1 / 3, 0, 0]) / (1 + 1 + 1 / 3)
    np.testing.assert_allclose(clf.label_graph_, expected, atol=1e-6)
    learned = make(label_graph=form(counts)).fit(X, Y).label_graph_
    assert not learned[expected == 0].any()


@pytest.mark.parametrize("mode", [None, "paper", "code"])
def test_modes_clones_and_pickles(scenes, mode):
    X, Y, _ = scenes
    before = Y.copy()
    clf = make(mode=mode, balance=mode is None, label_graph=np.ones((5, 5))).fit(X, Y)
    np.testing.assert_array_equal(Y, before)
    for copy in (clone(clf).fit(X, Y), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(copy.decision_function(X), clf.decision_function(X))
        np.testing.assert_array_equal(copy.label_graph_, clf.label_graph_)
    assert np.isfinite(clf.coef_).all()


def test_searched_over(scenes):
    X, Y, _ = scenes
    grid = {"regularizer__n_atoms": [1, 4], "regularizer__label_weight": [0.1, 30.0]}
    found = GridSearchCV(make(), grid, cv=2, error_score="raise").fit(X, Y)
    assert len(set(found.cv_results_["mean_test_score"].round(8))) == 4
    with pytest.warns(UserWarning, match="because the regularizer refines a head"):
        batched = BatchedGridSearchCV(make(), grid, cv=2, error_score="raise").fit(X, Y)
    np.testing.assert_allclose(batched.cv_results_["mean_test_score"], found.cv_results_["mean_test_score"], rtol=1e-6)


@pytest.mark.parametrize("bank_size", [40, 1000])
def test_a_fit_that_is_killed_goes_on_to_equal_weights(scenes, tmp_path, monkeypatch, bank_size):
    X, Y, _ = scenes
    whole = make(bank_size=bank_size, balance=True).fit(X, Y)
    save, saved = Checkpoint.save, []

    def killed(self, content):
        save(self, content)
        saved.append(content["learner"].get("states"))
        if len(saved) in (1, 3):  # after the convex solve, and in the middle of the refinement
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", killed)
    clf = make(bank_size=bank_size, balance=True).set_params(checkpoint_dir=tmp_path)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, Y)
    clf.fit(X, Y)
    np.testing.assert_array_equal(clf.coef_, whole.coef_)
    np.testing.assert_array_equal(clf.label_graph_, whole.label_graph_)
    state = saved[-1]["regularizer"]
    assert state["bank_features"].shape == (min(bank_size, 150), X.shape[1])
    assert [record["stage"] for record in clf.history_] == [record["stage"] for record in whole.history_]


def test_warm_start_and_partial_fit_go_on_with_the_graph(scenes):
    X, Y, _ = scenes
    clf = make().set_params(warm_start=True).fit(X, Y)
    graph = clf.label_graph_
    again = clf.set_params(solver__learning_rate=1e-12).fit(X, Y)
    np.testing.assert_allclose(again.label_graph_, graph, atol=1e-6)
    assert {record["epoch"] for record in again.history_} == {1, 2, 3}  # the head alone
    stream = make()
    for part in (slice(75), slice(75, 150)):
        stream.partial_fit(X[part], Y[part])
    assert stream.n_iter_ == 2
    assert stream.label_graph_.shape == (5, 5)


class Soft(Relabeling):
    """Draws unknown entries towards one half."""

    def relabel(self, context):
        labels = context.given.labels.toarray()
        return TrainingData.encode(context.given.labels, targets=np.where(labels == 0, 0.5, np.nan))


def test_other_input(scenes):
    X, Y, _ = scenes
    dense = make().fit(X, Y)
    sparse = make().fit(sp.csr_array(X), sp.csr_array(Y))
    np.testing.assert_allclose(sparse.coef_, dense.coef_, atol=1e-3)
    soft = make().set_params(relabeling=Soft()).fit(X, Y)
    assert np.abs(soft.coef_ - dense.coef_).max() > 1e-3
    binary = make().fit(X, np.where(X[:, 0] > np.median(X[:, 0]), "yes", "no"))
    assert binary.label_graph_.shape == (1, 1)
    held_out = make().set_params(validation_fraction=0.2).fit(X, Y)
    assert held_out.best_epoch_ in (1, 2, 3)


@pytest.mark.parametrize("finetune", ["head", "linear_init", "all"])
def test_networks(scenes, finetune):
    _, Y, scenes = scenes
    images, Y = scenes.images[:60], Y[:60]
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 5, stride=3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    backbone = Backbone(nn.Sequential(*layers), image_size=32, finetune=finetune)
    solver = Minibatch(max_epochs=2, batch_size=20, learning_rate=0.01)
    fits = []
    for weight in (0.5, 0.0):
        smooth = InteractiveSmoothness(n_atoms=2, bank_size=40, feature_weight=weight)
        clf = PartialLabelClassifier(
            "iu", backbone=backbone, alpha=0.01, regularizer=smooth, solver=solver, random_state=0
        )
        fits.append(clf.fit(images, Y))
    # The term of the features reaches the network before the head.
    kernels = [fit.network_.state_dict()["body.0.weight"].numpy() for fit in fits if finetune != "head"]
    assert finetune == "head" or np.abs(kernels[0] - kernels[1]).max() > 1e-5
    stages = list(dict.fromkeys(record.get("stage") for record in fits[0].history_))
    assert stages == {"head": ["start", "head"], "linear_init": ["head", "all"], "all": [None]}[finetune]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("kind", [PartialLabelClassifier, SinglePositiveClassifier])
def test_presences_alone_are_refused_before_any_training(scenes, monkeypatch, kind):
    X, Y, _ = scenes
    monkeypatch.setattr(FullBatch, "solve", None)
    clf = kind("an", regularizer=InteractiveSmoothness())
    with pytest.raises(ValueError, match="y holds no -1: from positives alone"):
        clf.fit(X, Y.clip(0))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"label_weight": -1}, r"InteractiveSmoothness: label_weight must be a number in \[0, inf\), got -1"),
        ({"label_weight": 0, "feature_weight": 0}, "must not both be 0"),
        ({"n_atoms": 0}, "n_atoms must be a whole number of at least 1, got 0"),
        ({"bank_size": 2.5}, "bank_size must be a whole number"),
        ({"absent_value": 0.0}, r"absent_value must be a number in \[-1, 0\), got 0.0"),
        ({"side_weight": 0}, "side_weight must be"),
        ({"side_labels": ["bird"]}, "side_labels holds 'bird', which is not one of the labels"),
        ({"learn_graph": "yes"}, "learn_graph must be True or False, got 'yes'"),
        ({"mode": "tf"}, "mode must be None, 'paper' or 'code', got 'tf'"),
        ({"label_graph": "wiki"}, "label_graph must be 'cooccurrence' or 'identity', got 'wiki'"),
        ({"label_graph": np.ones((3, 3))}, r"label_graph must have shape \(5, 5\), a row and a column per label"),
        ({"label_graph": -np.ones((5, 5))}, "label_graph must hold finite weights of at least 0"),
        ({"label_graph": [["a"] * 5] * 5}, "label_graph must be a matrix of numbers"),
    ],
)
def test_refusals(settings, message):
    Y = LabelMatrix.encode(np.array([[1, -1, 0, 1, 1]]))
    with pytest.raises(ValueError, match=message):
        InteractiveSmoothness(**settings).check(Y)


def test_a_graph_with_names_is_put_in_order(scenes):
    X, Y, _ = scenes
    Y = pd.DataFrame(Y, columns=list("abcde"))
    graph = pd.DataFrame(np.arange(25.0).reshape(5, 5), index=Y.columns, columns=Y.columns)
    mixed = graph.loc[list("ecadb"), list("bdeac")]
    before = mixed.copy()
    one, other = (make(label_graph=g, learn_graph=False).fit(X, Y).label_graph_ for g in (graph, mixed))
    np.testing.assert_array_equal(one, other)
    assert one[0, 1] < one[3, 1]
    pd.testing.assert_frame_equal(mixed, before)


def test_a_graph_of_other_labels_is_refused():
    Y = LabelMatrix.encode(pd.DataFrame([[1, -1]], columns=["cat", "dog"]))
    names = ["cat", "cow"]
    with pytest.raises(ValueError, match=r"label_graph must name each label once.*: 'dog' missing in its index"):
        InteractiveSmoothness(label_graph=pd.DataFrame(np.eye(2), index=names, columns=names)).check(Y)


def test_no_two_labels_together_are_told():
    X, Y = np.random.default_rng(0).normal(size=(20, 3)), np.eye(4, dtype=int)[np.arange(20) % 4] * 2 - 1
    clf = make().set_params(solver__max_epochs=1)
    with pytest.warns(UserWarning, match="No two labels are known to be positive in the same row"):
        clf.fit(X, Y)
    np.testing.assert_array_equal(clf.label_graph_, np.eye(4))
