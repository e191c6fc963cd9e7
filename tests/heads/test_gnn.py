"""The network of categories: against one that goes from label to label in plain Python, and in estimators."""

from __future__ import annotations

import pickle
import signal
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from skpartial import PartialLabelClassifier
from skpartial.datasets import make_digit_scenes
from skpartial.heads import AveragePooling, CategoryGNN, HeadContext, Linear, WeldonPooling, _gnn
from skpartial.heads._module import build_head
from skpartial.images import Backbone
from skpartial.labels import LabelMatrix, drop_labels
from skpartial.metrics import average_precision_per_label
from skpartial.solvers import FullBatch, Minibatch
from skpartial.training._checkpoints import Checkpoint


def trained(head, n_features=4, n_labels=5, **more):
    """A module in which nothing is zero any more, in float64."""
    module = build_head(head, HeadContext(n_features, n_labels, seed=3, **more)).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def oracle(module, x, n_steps, edges):
    """What is added to the logits of one row; `edges[v]` holds the neighbours of v with their weights."""
    p = {name: tensor.detach().numpy() for name, tensor in module.network.named_parameters()}
    width = len(p["readout"])

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    def say(h):
        hidden = np.maximum(p["message_in"] @ h + p["message_in_bias"], 0)
        return p["message_out"] @ hidden + p["message_out_bias"]

    def unit(h, m):
        told = np.split(p["unit.weight_ih"] @ m + p["unit.bias_ih"], 3)
        own = np.split(p["unit.weight_hh"] @ h + p["unit.bias_hh"], 3)
        reset, update = sigmoid(told[0] + own[0]), sigmoid(told[1] + own[1])
        return (1 - update) * np.tanh(told[2] + reset * own[2]) + update * h

    states = [x[v] * p["direction"][v] + p["origin"][v] for v in range(len(x))]
    for _ in range(n_steps):
        told = [sum((weight * say(states[u]) for u, weight in edges[v]), np.zeros(width)) for v in range(len(x))]
        states = [unit(h, m) for h, m in zip(states, told)]
    return np.array([(p["readout"] + p["own_readout"][v]) @ h for v, h in enumerate(states)])


GRAPH = np.array([[9, 1, 0, 3, 0], [0, 0, 0, 0, 0], [1, -1, 5, 0, 2], [0, 0, 0, 1, 0], [1, 1, 1, 1, 0.0]])


@pytest.mark.parametrize("n_steps, width, n_labels", [(1, 5, 5), (3, 2, 5), (2, 7, 5), (2, 3, 1), (1, 1, 2)])
def test_it_is_the_network_of_single_edges(n_steps, width, n_labels):
    module = trained(CategoryGNN(n_steps, width), n_labels=n_labels)
    X = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    others = range(n_labels)
    edges = [[(u, 1 / (n_labels - 1)) for u in others if u != v] for v in others]
    check_against_oracle(module, X, n_steps, edges)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, sp.coo_matrix, np.ndarray.tolist], ids=lambda f: f.__name__)
def test_it_is_the_network_of_the_edges_of_a_graph(form):
    module = trained(CategoryGNN(2, 4, graph=form(GRAPH)))
    X = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    edges = [[(1, 1 / 4), (3, 3 / 4)], [], [(0, 1 / 4), (1, -1 / 4), (4, 2 / 4)], [], [(u, 1 / 4) for u in range(4)]]
    check_against_oracle(module, X, 2, edges)


def check_against_oracle(module, X, n_steps, edges):
    with torch.no_grad():
        plain, found = module.base(X).numpy(), module(X).numpy()
    expected = np.array([oracle(module, row, n_steps, edges) for row in plain])
    np.testing.assert_allclose(found - plain, expected, rtol=1e-10, atol=1e-12)
    assert np.abs(expected).max() > 0.1


@pytest.mark.parametrize("graph", ["full", GRAPH], ids=["full", "sparse"])
def test_the_gradient_is_that_of_the_value(graph):
    module = trained(CategoryGNN(2, 3, graph=graph))
    names = [name for name, _ in module.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in module.parameters()]
    X = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)

    def logits(X, *values):
        return torch.func.functional_call(module, dict(zip(names, values)), (X,))

    assert torch.autograd.gradcheck(logits, (X, *values))


@pytest.mark.parametrize("graph", ["full", GRAPH], ids=["full", "sparse"])
def test_labels_have_no_order(graph):
    order = torch.tensor([3, 0, 4, 1, 2])
    mixed = graph if isinstance(graph, str) else graph[order][:, order]
    one, other = (trained(CategoryGNN(3, 4, graph=g)) for g in (graph, mixed))
    state = one.state_dict()
    of_labels = ("base.weight", "base.bias", "network.direction", "network.origin", "network.own_readout")
    with torch.no_grad():
        for name, tensor in other.named_parameters():
            tensor.copy_(state[name][order] if name in of_labels else state[name])
    X = torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(other(X), one(X)[:, order], rtol=1e-12, atol=1e-12)
    assert (other(X) - one(X)).abs().max() > 0.1


def test_a_label_hears_those_that_the_graph_names():
    chain = np.diag(np.ones(4), 1)  # label v hears v + 1
    for n_steps in (1, 2):
        module = trained(CategoryGNN(n_steps, 4, graph=chain))
        jacobian = torch.autograd.functional.jacobian(
            lambda x: module.network(x[None])[0],  # noqa: B023
            torch.randn(5, dtype=torch.float64),
        )
        heard = jacobian.abs().numpy() > 1e-9
        np.testing.assert_array_equal(heard, np.tri(5, k=n_steps, dtype=bool) & ~np.tri(5, k=-1, dtype=bool))


def test_companions_are_those_that_labels_are_seen_with():
    Y = np.array([[1, 1, 0, 1], [1, 1, -1, 0], [1, -1, 1, 0], [0, 1, 1, -1], [1, 1, 1, 0], [1, 0, 0, 0]])
    context = HeadContext(3, 4, labels=LabelMatrix.encode(Y))
    messages = CategoryGNN(graph="cooccurrence", n_neighbors=2).build(context).network.messages
    # Rows shared: 0 with 1 three, with 2 two, with 3 one; 1 with 2 two, with 3 one; 2 with 3 none.
    assert messages.neighbor.reshape(4, 2)[:3].tolist() == [[1, 2], [0, 2], [0, 1]]
    expected = np.array([[3 / 5, 2 / 5], [3 / 5, 2 / 5], [1 / 2, 1 / 2], [1 / 2, 1 / 2]])
    np.testing.assert_allclose(messages.strength.reshape(4, 2), expected, rtol=1e-6)
    said = torch.randn(4, 1, 2)
    torch.testing.assert_close(messages(said)[0], 3 / 5 * said[1] + 2 / 5 * said[2])
    alone = HeadContext(3, 4, labels=LabelMatrix.encode(np.eye(4, dtype=int)))
    with pytest.raises(ValueError, match="graph='cooccurrence' needs labels that are positive in the same"):
        CategoryGNN(graph="cooccurrence").build(alone)


def test_a_graph_with_names_is_put_in_order():
    pd = pytest.importorskip("pandas")
    names = list("abcde")
    frame = pd.DataFrame(GRAPH, index=names, columns=names)
    mixed = frame.loc[list("ecadb"), list("bdeac")]
    before = mixed.copy()
    found = [
        CategoryGNN(graph=graph).build(HeadContext(3, 5, label_names=names)).network.messages
        for graph in (GRAPH, mixed)
    ]
    for one, other in zip(found[0].buffers(), found[1].buffers()):
        torch.testing.assert_close(one, other)
    pd.testing.assert_frame_equal(mixed, before)
    with pytest.raises(ValueError, match=r"graph must name each label once.*'z' missing"):
        CategoryGNN(graph=frame).build(HeadContext(3, 5, label_names=list("abcdz")))


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"n_steps": 0}, "n_steps must be a whole number of at least 1, got 0"),
        ({"hidden_size": 0}, "hidden_size must be None or a whole number of at least 1, got 0"),
        ({"n_neighbors": 0}, "n_neighbors must be"),
        ({"learning_rate": -1}, "learning_rate must be a number of at least 0"),
        ({"penalty": -1}, "penalty must be a number of at least 0"),
        ({"base": "gnn"}, "base must be 'linear' or a skpartial.heads.Head, got 'gnn'"),
        ({"graph": "sparse"}, "graph must be 'full' or 'cooccurrence', got 'sparse'"),
        ({"graph": None}, "graph must be 'full', 'cooccurrence' or a matrix"),
        ({"graph": np.ones((4, 5))}, r"graph must have shape \(5, 5\), a row and a column per label"),
        ({"graph": np.full((5, 5), np.nan)}, "graph must hold finite numbers"),
        ({"graph": [["a"]]}, "graph must be a matrix of numbers"),
    ],
)
def test_what_is_out_of_range_is_refused(partial_data, parameters, message):
    with pytest.raises(ValueError, match=message):
        PartialLabelClassifier(head=CategoryGNN(**parameters), alpha=1e-3).fit(*partial_data)


def test_memory_is_bounded_and_nothing_else_changes(monkeypatch):
    module = trained(CategoryGNN(3, 4))
    X = torch.randn(11, 4, dtype=torch.float64)

    def gradients():
        module.zero_grad()
        logits = module(X)
        logits.square().sum().backward()
        return [logits.detach(), *(p.grad.clone() for p in module.parameters())]

    whole, sizes = gradients(), []
    correction = type(module.network)._correction

    def counted(network, logits):
        sizes.append(len(logits))
        return correction(network, logits)

    monkeypatch.setattr(type(module.network), "_correction", counted)
    monkeypatch.setattr(_gnn, "_WORKING_BYTES", 4 * 16 * 3 * 5 * 4 * 8)  # four rows
    for one, other in zip(whole, gradients()):
        torch.testing.assert_close(one, other)
    assert sorted(sizes) == [3, 3, 4, 4, 4, 4]  # once more for the gradients
    sizes.clear()
    with torch.no_grad():
        torch.testing.assert_close(module(X), whole[0])
    assert sizes == [4, 4, 3]


MEMORY = r"""
import re, sys
from pathlib import Path
import torch
from skpartial.heads import CategoryGNN, HeadContext
module = CategoryGNN(hidden_size=8).build(HeadContext(8, 5000))
features = torch.randn(128, 8)
module(features[:1]).sum().backward()
# Of this process alone: getrusage also counts the one that started it.
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
module(features).sum().backward()
Path(sys.argv[1]).write_text(str(peak() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory is read from /proc")
def test_five_thousand_labels_stay_within_the_memory_that_is_stated(tmp_path, interpreters):
    (tmp_path / "script.py").write_text(MEMORY)
    assert interpreters[0].run(tmp_path / "script.py", tmp_path / "mebibytes") == 0
    assert 0 < float((tmp_path / "mebibytes").read_text()) < 500  # as a whole they would keep 980


def test_a_fit_starts_as_the_linear_head(partial_data):
    X, Y = partial_data
    settings = {"alpha": 0.01, "random_state": 0}
    start = Minibatch(max_epochs=1, learning_rate=0.0)
    first, linear = (
        PartialLabelClassifier("iu", head=head, solver=start, **settings).fit(X, Y).decision_function(X)
        for head in ("gnn", "linear")
    )
    np.testing.assert_allclose(first, linear, rtol=1e-12, atol=1e-12)
    # And stays so if only the linear part learns, with the same penalty and rate.
    solver = Minibatch(max_epochs=5, learning_rate=0.1)
    still, linear, moved = (
        PartialLabelClassifier("iu", head=head, solver=solver, **settings).fit(X, Y).decision_function(X)
        for head in (CategoryGNN(learning_rate=0), "linear", "gnn")
    )
    np.testing.assert_allclose(still, linear, rtol=1e-8, atol=1e-8)
    assert np.abs(moved - linear).max() > 0.05


def test_units_of_the_features_are_not_seen(partial_data):
    X, Y = partial_data
    settings = {"head": "gnn", "random_state": 0, "solver": Minibatch(max_epochs=5)}
    plain = PartialLabelClassifier(alpha=0.01, **settings).fit(X, Y)
    scaled = PartialLabelClassifier(alpha=0.01 * 100**2, **settings).fit(100 * X, Y)
    np.testing.assert_allclose(scaled.decision_function(100 * X), plain.decision_function(X), rtol=1e-6, atol=1e-8)


@pytest.fixture(scope="module")
def dependent():
    """Digit scenes with a label more: whether exactly one of the first three digits is there."""
    scenes = make_digit_scenes(1000, random_state=0)
    one = np.where((scenes.target[:, :3] == 1).sum(axis=1) == 1, 1, -1)
    Y = np.column_stack([scenes.target, one])
    X = ((scenes.data - scenes.data.mean(0)) / (scenes.data.std(0) + 1e-6)).astype(np.float32)
    return X, np.asarray(drop_labels(Y, known=0.7, random_state=0)), Y


def test_it_learns_what_labels_say_of_each_other(dependent):
    X, Y, complete = dependent
    solver = Minibatch(max_epochs=25, batch_size=32)
    found = {}
    for head in ("linear", "gnn"):
        clf = PartialLabelClassifier("iu", head=head, solver=solver, alpha=1e-3, random_state=0).fit(X[:700], Y[:700])
        found[head] = average_precision_per_label(complete[700:], clf.decision_function(X[700:]))
    assert found["gnn"][10] > found["linear"][10] + 0.1
    assert found["gnn"][:10].mean() > found["linear"][:10].mean() - 0.03


def test_labels_that_cannot_be_fitted_have_constant_logits(partial_data):
    X, Y = partial_data
    Y = Y.copy()
    Y[:, 0], Y[:, 1] = np.abs(Y[:, 0]), 0
    with pytest.warns(UserWarning, match="2 of 5 labels cannot be fitted"):
        clf = PartialLabelClassifier("iu", head="gnn", alpha=0.01, random_state=0).fit(X, Y)
    proba = clf.predict_proba(X)
    assert np.ptp(proba[:, :2], axis=0).max() == 0
    assert np.ptp(proba[:, 2:], axis=0).min() > 0.1
    # What the others learned, they learned of the constant.
    assert not clf.head_parameters_["base.weight"][:2].any()


def test_it_is_cloned_pickled_and_searched(partial_data):
    X, Y = partial_data
    head = CategoryGNN(graph=sp.csr_array(GRAPH))
    clf = PartialLabelClassifier(head=head, alpha=0.01, solver=Minibatch(max_epochs=4), random_state=0).fit(X, Y)
    for copy in (clone(clf).fit(X, Y), pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(copy.decision_function(X), clf.decision_function(X))
    np.testing.assert_array_equal(head.graph.toarray(), GRAPH)
    named = PartialLabelClassifier(head="gnn", alpha=1e-4, solver=Minibatch(max_epochs=20), random_state=0)
    search = GridSearchCV(named, {"head__n_steps": [1, 3]}, cv=2, error_score="raise").fit(X, Y)
    assert len(set(search.cv_results_["mean_test_score"].round(8))) == 2
    assert search.best_estimator_.head.n_steps in (1, 3)
    with pytest.raises(ValueError, match=r"the head CategoryGNN.* is not linear. Use solver=Minibatch"):
        PartialLabelClassifier(head="gnn", alpha=0.01, solver=FullBatch()).fit(X, Y)


def test_sparse_features_are_the_same(partial_data):
    X, Y = partial_data
    X = np.where(X > 0, X, 0)
    dense, sparse = (
        PartialLabelClassifier(head="gnn", alpha=0.01, solver=Minibatch(max_epochs=3), random_state=0).fit(A, Y)
        for A in (X, sp.csr_array(X))
    )
    np.testing.assert_allclose(dense.decision_function(X), sparse.decision_function(sp.csr_array(X)), rtol=1e-6)


def test_a_stream_keeps_its_graph(partial_data):
    X, Y = partial_data
    Y = np.where(Y == 0, 1, Y)
    clf = PartialLabelClassifier("iu", head=CategoryGNN(graph="cooccurrence", n_neighbors=2), alpha=0.01)
    clf.partial_fit(X[:60], Y[:60], classes=list("abcde"))
    graph = clf.head_parameters_["network.messages.neighbor"]
    readout = clf.head_parameters_["network.readout"]
    clf.partial_fit(X[60:], -Y[60:])
    np.testing.assert_array_equal(clf.head_parameters_["network.messages.neighbor"], graph)
    assert np.abs(clf.head_parameters_["network.readout"] - readout).max() > 1e-6
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("base", [AveragePooling(), WeldonPooling(2)], ids=repr)
def test_it_refines_the_logits_of_maps(base):
    rng = np.random.default_rng(0)
    maps, Y = rng.random((60, 6, 3, 3)), rng.integers(-1, 2, size=(60, 4))
    settings = {"alpha": 0.01, "solver": Minibatch(max_epochs=3), "random_state": 0}
    clf = PartialLabelClassifier(head=CategoryGNN(base=base, learning_rate=0), **settings).fit(maps, Y)
    plain = PartialLabelClassifier(head=base, **settings).fit(maps, Y)
    np.testing.assert_allclose(clf.decision_function(maps), plain.decision_function(maps), rtol=1e-6, atol=1e-8)
    clf.set_params(head__learning_rate=1.0).fit(maps, Y)
    assert np.abs(clf.decision_function(maps) - plain.decision_function(maps)).max() > 1e-3
    average = (
        PartialLabelClassifier(head="gnn", **settings).fit(maps.mean((2, 3)), Y).decision_function(maps.mean((2, 3)))
    )
    if isinstance(base, AveragePooling):
        np.testing.assert_allclose(clf.decision_function(maps), average, rtol=1e-5, atol=1e-6)


class DroppedOut(Linear):
    """A linear head behind a dropout, of which PyTorch draws."""

    draws = True

    def build(self, context):
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(context.n_features, context.n_labels))

    def parameter_groups(self, module):
        return super(Linear, self).parameter_groups(module)


def test_the_base_may_drop_out_and_is_a_parameter(partial_data):
    X, Y = partial_data
    clf = PartialLabelClassifier(head=CategoryGNN(base=DroppedOut()), alpha=0.01, random_state=0)
    clf.set_params(solver=Minibatch(max_epochs=3))
    assert clf.head.draws
    assert not CategoryGNN().draws
    first, again = (clone(clf).fit(X, Y).decision_function(X) for _ in range(2))
    np.testing.assert_array_equal(first, again)


# ------------------------------------------------------------------------------------------------------- networks


def small_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def on_images(**more):
    backbone = Backbone(small_network(), image_size=32, finetune="linear_init")
    solver = Minibatch(learning_rate=1e-3, max_epochs=3, batch_size=20)
    return PartialLabelClassifier(
        "iu", head=CategoryGNN(penalty=0.1), backbone=backbone, solver=solver, alpha=0.01, random_state=0, **more
    )


@pytest.fixture(scope="module")
def images():
    scenes = make_digit_scenes(80, random_state=0)
    return scenes.images, np.asarray(drop_labels(scenes.target[:, :5], known=0.6, random_state=0))


def test_in_a_network_it_goes_on_from_the_head_alone(images, tmp_path, monkeypatch):
    X, Y = images
    clf = on_images().fit(X, Y)
    assert any(name.startswith("network.") for name in clf.head_parameters_)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.decision_function(X), clf.decision_function(X))
    # A second stage in which nothing moves ends with what the first one, of the head alone, has learned.
    frozen = on_images().set_params(solver__learning_rate=0.0, solver__max_epochs=1).fit(X, Y)
    assert np.abs(frozen.head_parameters_["network.own_readout"]).max() > 1e-3
    assert np.abs(frozen.decision_function(X) - clf.decision_function(X)).max() > 1e-3
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


SCRIPT = """
import os, signal, sys
import numpy as np
from skpartial import PartialLabelClassifier
from skpartial.heads import CategoryGNN
from skpartial.solvers import Minibatch
from skpartial.training._checkpoints import Checkpoint

folder, out, last = sys.argv[1:]
save, count = Checkpoint.save, 0

def counted(self, content):
    global count
    save(self, content)
    count += 1
    if count == int(last):
        os.kill(os.getpid(), signal.SIGKILL)

Checkpoint.save = counted
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(80, 6)), rng.integers(-1, 2, size=(80, 5))
head = CategoryGNN(graph="cooccurrence", n_neighbors=3)
solver = Minibatch(max_epochs=6, batch_size=20)
clf = PartialLabelClassifier(head=head, solver=solver, alpha=1e-2, random_state=0, checkpoint_dir=folder or None)
np.savez(out, **clf.fit(X, Y).head_parameters_)
"""


def test_it_is_killed_and_goes_on_to_equal_weights(tmp_path, interpreters):
    (tmp_path / "fit.py").write_text(SCRIPT)

    def fit(interpreter, folder, name, last=0):
        return interpreter.run(tmp_path / "fit.py", folder, tmp_path / name, last)

    one_day, another = interpreters
    assert fit(one_day, tmp_path / "checkpoints", "killed.npz", 3) == -signal.SIGKILL
    assert fit(another, tmp_path / "checkpoints", "killed.npz") == 0
    assert fit(one_day, "", "whole.npz") == 0
    with np.load(tmp_path / "whole.npz") as expected, np.load(tmp_path / "killed.npz") as found:
        assert sorted(found.files) == sorted(expected.files)
        assert np.abs(expected["network.own_readout"]).max() > 1e-3
        for name in expected.files:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
