"""Recorded steps end where steps end that are taken one by one.

Where there is no CUDA device, a tape stands in for its graphs: it calls the kernels of what it recorded again, on the
same tensors. It refuses what cannot be recorded, such as a look at a value.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skpartial import PartialLabelClassifier
from skpartial.features._choice import as_features
from skpartial.features._matrix import ResidentFeatures
from skpartial.features._moments import InputUnits
from skpartial.heads import Linear
from skpartial.losses import AssumeNegative, IgnoreUnknown, LargeLoss, PartialBCE, WeakAssumeNegative
from skpartial.relabeling import Relabeling
from skpartial.solvers import Minibatch
from skpartial.solvers._base import solve_tasks
from skpartial.solvers.gradient import _linear_pass
from skpartial.solvers.gradient._linear_pass import LinearPass
from skpartial.solvers.gradient._linear_steps import LinearSteps
from skpartial.training._checkpoints import Checkpoint

aten = torch.ops.aten


def tensors(*values):
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


class Tape(TorchDispatchMode):
    """As `Recording`, on the CPU."""

    #: Times that any tape was played, and how many were made.
    n_played = n_made = 0
    LOOKS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default)

    def __init__(self, work, device):
        super().__init__()
        Tape.n_made += 1
        self.calls, self.before = [], {}
        with self:
            work()
        # Work is not done while it is recorded.
        for tensor, was in self.before.values():
            tensor.copy_(was)
        del self.before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in self.LOOKS, f"{func} looks at a value"
        kwargs = kwargs or {}
        for tensor in tensors(args, kwargs):
            whole = tensor.new_empty(0).set_(tensor.untyped_storage())
            self.before.setdefault(whole.data_ptr(), (whole, whole.clone()))
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out

    def play(self):
        Tape.n_played += 1
        for func, args, kwargs, out in self.calls:
            for old, new in zip(tensors(out), tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def tape(monkeypatch):
    """Plays tapes from where a pass has had its first steps, three steps long; gives the class, to count with."""
    monkeypatch.setattr(_linear_pass, "can_record", lambda device: True)
    monkeypatch.setattr(_linear_pass, "Recording", Tape)
    monkeypatch.setattr(_linear_pass, "_RECORDED_STEPS", 3)
    monkeypatch.setattr(_linear_pass, "_PLAYS", 1)
    monkeypatch.setattr(Tape, "n_played", 0)
    monkeypatch.setattr(Tape, "n_made", 0)
    return Tape


@pytest.fixture
def untaped(monkeypatch):
    """Calls a function with no recordings."""

    def call(function, *args):
        with monkeypatch.context() as patch:
            patch.setattr(_linear_pass, "can_record", lambda device: False)
            return function(*args)

    return call


def assert_equal(found, expected):
    for name in ("coef_", "intercept_"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-11, atol=1e-14)
    for record, other in zip(found.history_, expected.history_, strict=True):
        assert record["loss"] == pytest.approx(other["loss"], rel=1e-12)


def classifier(loss="iu", **parameters):
    return PartialLabelClassifier(
        loss, solver=Minibatch(**{"batch_size": 8, "max_epochs": 4, **parameters}), alpha=1e-3, random_state=0
    )


def test_a_tape_plays_what_it_recorded():
    """The stand-in itself: work is done when it is played, on what its tensors hold then, and looks are refused."""
    x, total = torch.ones(3), torch.zeros(3)

    def work():
        total.add_((2 * x)[1:].sum())

    tape = Tape(work, x.device)
    assert total.tolist() == [0, 0, 0]
    tape.play()
    assert total.tolist() == [4, 4, 4]
    x.fill_(10)
    tape.play()
    assert total.tolist() == [44, 44, 44]
    with pytest.raises(AssertionError, match="looks at a value"):
        Tape(lambda: float(x[0]), x.device)


@pytest.mark.parametrize("weights", [None, "rows", "entries"])
@pytest.mark.parametrize(
    "loss",
    [IgnoreUnknown(), PartialBCE(), AssumeNegative(label_smoothing=0.1), WeakAssumeNegative()],
    ids=str,
)
def test_losses_with_fixed_targets(partial_data, tape, untaped, loss, weights):
    X, Y = partial_data
    rng = np.random.default_rng(0)
    weight = None if weights is None else rng.exponential(size=len(X) if weights == "rows" else Y.shape)
    found = classifier(loss).fit(X, Y, sample_weight=weight)
    # Of 15 batches a pass has five chunks of three; the first of all is taken step by step.
    assert (tape.n_made, tape.n_played) == (1, 4 * 5 - 1)
    assert_equal(found, untaped(classifier(loss).fit, X, Y, weight))


@pytest.mark.parametrize(
    "parameters",
    [
        {"optimizer": "adamw"},
        {"optimizer": "sgd"},
        {"optimizer": "sgd", "momentum": 0.0},
        {"clip_norm": 1e-3},
        {"shuffle": False},
        {"batch_size": 7},
        {"max_resident_bytes": 0},
        {"patience": 2, "tol": 0.5},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_settings(partial_data, tape, untaped, parameters):
    X, Y = partial_data
    found = classifier(**parameters).fit(5 * X + 1, Y)
    assert tape.n_played > 5
    assert_equal(found, untaped(classifier(**parameters).fit, 5 * X + 1, Y))


def test_batches_that_fill_no_chunk(partial_data, tape, untaped):
    """120 rows are 17 batches of 7, and one row: chunks are of two batches, and what is left is taken step by step."""
    X, Y = partial_data
    found = classifier(batch_size=7, max_epochs=3).fit(X, Y)
    assert tape.n_played == 3 * 8 - 1
    assert_equal(found, untaped(classifier(batch_size=7, max_epochs=3).fit, X, Y))


@pytest.mark.parametrize(
    ("loss", "parameters"),
    [
        ("iu", {"schedule": "cosine"}),
        ("iu", {"warm_up": 0.5}),
        (LargeLoss(delta=0.05), {}),
        ("role", {}),
        ("iu", {"batch_size": 200}),
        ("iu", {"max_epochs": 1}),
    ],
)
def test_what_is_not_recorded(partial_data, tape, monkeypatch, loss, parameters):
    """Steps that change in size or look at their logits, and those that would be played too seldom."""
    monkeypatch.setattr(_linear_pass, "_PLAYS", 6)
    classifier(loss, **parameters).fit(*partial_data)
    assert tape.n_made == 0


def test_long_rows_shorten_a_recording(partial_data, tape, monkeypatch):
    X, Y = partial_data
    # A batch of 8 rows holds 8 x (6 features + 4 x 5 logits) numbers of 8 bytes.
    for n_steps, n_played in ((2, 7 * 2 - 1), (1, 15 * 2 - 1), (0, 0)):
        monkeypatch.setattr(_linear_pass, "_RECORDED_BYTES", n_steps * 8 * 26 * 8)
        monkeypatch.setattr(Tape, "n_played", 0)
        classifier(max_epochs=2).fit(X, Y)
        assert tape.n_played == n_played


class Swap(Relabeling):
    """Other labels from the second pass on: some that weigh less than others."""

    def relabel(self, context):
        given = context.given.labels.toarray()
        return np.where((np.arange(len(given)) % 3 == 0)[:, None], 0, given)


def test_labels_may_change_between_passes(partial_data, tape, untaped):
    X, Y = partial_data

    def fit():
        return classifier().set_params(relabeling=Swap()).fit(X, Y)

    found = fit()
    assert tape.n_made == 1
    assert_equal(found, untaped(fit))


def test_a_checkpoint_is_gone_on_from(partial_data, tape, untaped, tmp_path, monkeypatch):
    X, Y = partial_data
    expected = untaped(classifier().fit, X, Y)
    clf = classifier().set_params(checkpoint_dir=tmp_path)
    save = Checkpoint.save

    def save_and_die(self, content):
        save(self, content)
        if content["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, Y)
    assert_equal(clf.fit(X, Y), expected)
    assert tape.n_made == 2


def test_going_back_within_training(partial_data, tape, make_problem):
    """The optimiser then has other moments, which a recording made before would not know of."""
    X, Y = partial_data
    features = as_features(5 * X + 1, dtype=torch.float64, device=torch.device("cpu"))
    problem = make_problem(features, Y, IgnoreUnknown())
    learner = LinearSteps(problem, Minibatch(batch_size=8, max_epochs=4).plan(problem))
    learner.run(1, report=lambda numbers, parameters: False)
    saved, ends = copy.deepcopy(learner.state_dict()), []
    for _ in range(2):
        learner.run(2, report=lambda numbers, parameters: False)
        ends.append(learner.parameters()["weight"])
        learner.load_state_dict(saved)
    np.testing.assert_allclose(*ends, rtol=1e-12)
    learner.run(2, report=lambda numbers, parameters: False)
    assert learner.state_dict()["n_steps"] == 2 * 15
    learner.finish()
    assert learner._alone is None  # nor is the memory of recordings kept


@pytest.mark.parametrize("stops", [None, 2])
def test_candidates_side_by_side(partial_data, tape, untaped, make_problem, stops):
    """Also where one of them stops, and the others go on."""
    X, Y = partial_data
    features = as_features(5 * X + 1, dtype=torch.float64, device=torch.device("cpu"))

    def tasks():
        for rate in (0.01, 0.03, 0.1):
            problem = make_problem(features, Y, AssumeNegative(label_smoothing=rate), alpha=rate)
            if rate == 0.03 and stops:
                problem = replace(problem, monitor=lambda record, parameters: record["epoch"] == stops)
            yield Minibatch("adam", rate, batch_size=8, max_epochs=4), problem

    found, expected = solve_tasks(list(tasks())), untaped(solve_tasks, list(tasks()))
    assert tape.n_made == (2 if stops else 1)
    for one, other in zip(found, expected, strict=True):
        assert one.n_iter == other.n_iter
        np.testing.assert_allclose(one.parameters["weight"], other.parameters["weight"], rtol=1e-10, atol=1e-13)
        for record, wanted in zip(one.history, other.history, strict=True):
            assert record["loss"] == pytest.approx(wanted["loss"], rel=1e-12)


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_steps_on_cuda_neither_wait_nor_mix_devices(partial_data, make_problem, monkeypatch, optimizer, clip_norm):
    """With tensors that have a device and a shape, but no values: there is none to look at, nor a kernel to run.

    PyTorch has no shapes for its fused step of gradient descent.
    """
    _, Y = partial_data
    device, works = torch.device("cuda:0"), []
    monkeypatch.setattr(_linear_pass, "Recording", lambda work, device: works.append(work) or Done())
    monkeypatch.setattr(_linear_pass, "_PLAYS", 1)
    # The first steps that are played are compared with others once, and looked at.
    monkeypatch.setattr(_linear_pass, "same_moves", lambda before, found, expected: True)
    # Parameters without values cannot change their device: they are made there.
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *args, **kwargs: self)

    class Done:
        def play(self):
            works[-1]()

    class OnDevice(Linear):
        def build(self, context):
            with device:
                return super().build(context)

    with FakeTensorMode():
        try:
            torch.zeros(2, device=device)[:1]
        except RuntimeError:
            pytest.skip("this version of PyTorch asks CUDA itself about tensors without values")
        features = ResidentFeatures(torch.zeros(120, 6, device=device))
        problem = make_problem(features, Y, AssumeNegative(label_smoothing=0.1), head=OnDevice())
        plan = Minibatch(optimizer, 0.1, batch_size=8, max_epochs=3, clip_norm=clip_norm).plan(problem)
        units = InputUnits(1.0, torch.zeros(6, device=device))
        together = LinearPass([LinearSteps(problem, plan, units) for _ in range(2)])
        for epoch in (1, 2):
            assert together.run(torch.arange(120), epoch).device == device
    assert len(works) == 1


@pytest.mark.cuda
@pytest.mark.parametrize("form", ["host", "device", "streamed", "sparse"])
@pytest.mark.parametrize("parameters", [{}, {"optimizer": "sgd"}, {"clip_norm": 1e-2}], ids=str)
def test_graphs_equal_steps_on_the_cpu(partial_data, monkeypatch, parameters, form):
    X, Y = partial_data
    monkeypatch.setattr(_linear_pass, "_PLAYS", 1)
    made = []
    record = _linear_pass.Recording
    monkeypatch.setattr(_linear_pass, "Recording", lambda *args: made.append(args) or record(*args))
    forms = {"host": X, "device": torch.tensor(X, device="cuda"), "streamed": X, "sparse": sp.csr_array(X)}
    limit = 1000 if form == "streamed" else None
    found = classifier(**parameters, max_resident_bytes=limit).set_params(device="cuda").fit(forms[form], Y)
    assert made
    expected = classifier(**parameters).set_params(device="cpu").fit(X, Y)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-9, atol=1e-11)
