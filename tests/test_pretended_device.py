"""What is fitted on a device equals what is fitted on the CPU, also where there is no device: one is pretended.

Its tensors are those of the CPU that say that they are on CUDA, and refuse to meet others. This shows that nothing
mixes devices, or reads a value past them, not that the kernels of CUDA do what those of the CPU do.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from skpartial import PartialLabelClassifier
from skpartial.heads import AveragePooling, WeldonPooling
from skpartial.losses import ROLE, WARP, AssumeNegative, ExpectedPositives, LargeLoss, PartialBCE
from skpartial.model_selection import BatchedGridSearchCV
from skpartial.regularizers import InteractiveSmoothness
from skpartial.relabeling import ClassDistribution, LabelSpreading, Propagation
from skpartial.solvers import FullBatch, Minibatch
from skpartial.solvers.gradient import _linear_pass

aten = torch.ops.aten
# Both may hold tensors of two devices: a copy between them, and indices that lie on the CPU.
MIXED = (aten.copy_.default, aten.index.Tensor, aten.index_put_.default, aten._index_put_impl_.default)


class OnDevice(torch.Tensor):
    """A tensor that says it is on CUDA."""

    device = property(lambda self: torch.device("cuda:0"))
    is_cuda = property(lambda self: True)

    @staticmethod
    def __new__(cls, inner):
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, device="cpu", **layout)

    def __init__(self, inner):
        self.inner = inner

    # PyTorch's modules ask for these where they move their parameters.
    def __tensor_flatten__(self):
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return OnDevice(inner["inner"])

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        self.inner = value.inner

    def numpy(self, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in MIXED:
            for x in tree_leaves((args, kwargs)):
                elsewhere = isinstance(x, torch.Tensor) and not isinstance(x, OnDevice)
                assert not elsewhere or x.ndim == 0, f"{func} meets tensors of two devices"
        elif not isinstance(args[0], OnDevice):
            raise AssertionError(f"{func} would take from, or write to, the CPU")
        plain = tree_map(lambda x: x.inner if isinstance(x, OnDevice) else x, (args, kwargs))
        out = func(*plain[0], **plain[1])
        if func is aten.copy_.default:
            return args[0]
        out = tree_map(lambda x: OnDevice(x) if isinstance(x, torch.Tensor) else x, out)
        return return_and_correct_aliasing(func, args, kwargs, out)


class _Move(torch.autograd.Function):
    """A copy on the other side."""

    @staticmethod
    def forward(ctx, x):
        return x.inner.clone() if isinstance(x, OnDevice) else OnDevice(x.clone())

    @staticmethod
    def backward(ctx, gradient):
        return _Move.apply(gradient)


def _device_type(value):
    if isinstance(value, torch.Tensor):
        return value.device.type
    if isinstance(value, torch.device) or (isinstance(value, str) and value.startswith(("cpu", "cuda"))):
        return torch.device(value).type
    return None


class PretendedDevice(TorchFunctionMode):
    """Tensors that are asked to be on CUDA are of the class above."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name in ("to", "cpu") and isinstance(args[0], torch.Tensor):
            x, *rest = args
            asked = "cpu" if name == "cpu" else _device_type(kwargs.pop("device", None))
            asked = asked or next(filter(None, map(_device_type, rest)), None)
            rest = [
                value for value in rest if isinstance(value, torch.dtype | torch.Tensor) and _device_type(value) is None
            ]
            kwargs = {key: value for key, value in kwargs.items() if value is not None}
            x = x if asked in (None, x.device.type) else _Move.apply(x)
            return x.to(*rest, **kwargs) if rest or kwargs else x
        if name == "_parse_to" or kwargs.get("device") is None:
            return func(*args, **kwargs)
        there = _device_type(kwargs.pop("device")) == "cuda"
        if args and isinstance(args[0], OnDevice) and not there:
            args = (_Move.apply(args[0]), *args[1:])
        out = func(*args, **kwargs)
        return OnDevice(out) if there and not isinstance(out, OnDevice) else out


@pytest.fixture
def on_device(monkeypatch):
    """Calls a function where device="auto" is a pretended one."""
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is at hand")

    class Recording:
        def __init__(self, work, device):
            self.play = work

    def call(function, *args, **kwargs):
        with monkeypatch.context() as patch, PretendedDevice():
            patch.setattr(_linear_pass, "Recording", Recording)
            # Optimisers ask PyTorch itself what CUDA is doing.
            accelerator = hasattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check")  # its name of late
            name = f"_{'accelerator' if accelerator else 'cuda'}_graph_capture_health_check"
            patch.setattr(torch.optim.Optimizer, name, lambda self: None)
            for name, value in {
                "is_available": True,
                "mem_get_info": (1 << 30, 1 << 30),
                "get_device_capability": (7, 0),
                "get_rng_state": torch.get_rng_state(),
                "set_rng_state": None,
                "empty_cache": None,
            }.items():
                patch.setattr(torch.cuda, name, lambda *args, _value=value, **kwargs: _value)
            return function(*args, **kwargs)

    return call


def assert_equal(found, expected, X, on_device):
    np.testing.assert_allclose(
        on_device(found.decision_function, X), expected.decision_function(X), rtol=1e-9, atol=1e-11
    )
    assert found.n_iter_ == expected.n_iter_
    for value in vars(found).values():
        assert not isinstance(value, torch.Tensor)


def test_the_pretended_device(on_device):
    """It refuses what CUDA refuses."""

    def check():
        x, y = torch.ones(3, device="cuda"), torch.ones(3)
        assert x.device.type == (x * 2)[1:].device.type == torch.zeros_like(x).device.type == "cuda"
        assert (x + y.to(x.device)).cpu().tolist() == [2, 2, 2]
        assert (x * torch.tensor(2.0)).sum().item() == 6
        with pytest.raises(AssertionError, match="two devices"):
            x + y
        with pytest.raises(AssertionError, match="the CPU"):
            y[x > 0]
        with pytest.raises(TypeError, match="to numpy"):
            x.numpy()
        z = torch.ones(3, requires_grad=True)
        (z.to("cuda") * x).sum().backward()
        assert z.grad.device.type == "cpu"

    on_device(check)


@pytest.mark.parametrize(
    ("loss", "solver"),
    [
        ("iu", FullBatch()),
        (PartialBCE(), FullBatch(max_resident_bytes=1000)),
        (LargeLoss(delta=0.1), FullBatch(rounds=3)),
        ("iu", Minibatch(batch_size=8, max_epochs=3)),
        (AssumeNegative(label_smoothing=0.1), Minibatch("sgd", batch_size=8, max_epochs=20)),
        (LargeLoss("correct_permanently", delta=0.1), Minibatch(max_epochs=3, clip_norm=0.1, schedule="cosine")),
        (ROLE(2.0), Minibatch(max_epochs=3)),
        (ROLE(2.0, estimator="factorized", rank=3), Minibatch("sgd", max_epochs=3)),
        (ExpectedPositives(2.0), Minibatch(max_epochs=3, max_resident_bytes=0)),
        (WARP(), Minibatch(max_epochs=3)),
    ],
    ids=str,
)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_solvers(partial_data, on_device, loss, solver, form):
    X, Y = partial_data
    X = form(X)
    clf = PartialLabelClassifier(loss, solver=solver, alpha=1e-3, random_state=0, class_weight="balanced")
    expected = PartialLabelClassifier(**clf.get_params(deep=False)).fit(X, Y)
    assert_equal(on_device(clf.fit, X, Y), expected, X, on_device)


@pytest.mark.parametrize(
    "relabeling", [Propagation(2, fill="entries"), Propagation(), LabelSpreading(5), ClassDistribution()], ids=str
)
@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(max_epochs=3)], ids=str)
def test_relabellings(partial_data, on_device, relabeling, solver):
    X, Y = partial_data
    Y = Y * (np.arange(len(Y)) % 3 > 0)[:, None]
    clf = PartialLabelClassifier("iu", relabeling=relabeling, solver=solver, alpha=1e-2, random_state=0)
    expected = PartialLabelClassifier(**clf.get_params(deep=False)).fit(X, Y)
    assert_equal(on_device(clf.fit, X, Y), expected, X, on_device)


@pytest.mark.parametrize("known", [1.0, 0.3, 0.04])
def test_many_features(on_device, known):
    """The sketch, rows that are known, and labels that few rows speak of."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 100))
    Y = np.where(X[:, :4] + rng.logistic(size=(500, 4)) > 0, 1, -1) * (rng.random((500, 4)) < known)
    clf = PartialLabelClassifier("iu", alpha=1e-2)
    expected = PartialLabelClassifier("iu", alpha=1e-2).fit(X, Y)
    assert_equal(on_device(clf.fit, X, Y), expected, X, on_device)
    there = on_device(torch.tensor(X).to, "cuda")
    assert_equal(on_device(clf.fit, there, Y), expected, X, on_device)


def test_validation_and_partial_fit(partial_data, on_device):
    X, Y = partial_data
    parameters = {"solver": Minibatch(max_epochs=5, patience=2), "validation_fraction": 0.2, "random_state": 0}
    clf, expected = (PartialLabelClassifier("role", **parameters) for _ in range(2))
    assert_equal(on_device(clf.fit, X, Y), expected.fit(X, Y), X, on_device)
    clf, expected = (PartialLabelClassifier("iu", solver=Minibatch(), random_state=0) for _ in range(2))
    for part in (slice(60), slice(60, 120)):
        on_device(clf.partial_fit, X[part], Y[part])
        expected.partial_fit(X[part], Y[part])
    assert_equal(clf, expected, X, on_device)


@pytest.mark.parametrize("loss", [ROLE(2.0), LargeLoss("correct_permanently", delta=0.1)], ids=str)
def test_states_are_pickled_for_machines_without_the_device(partial_data, on_device, loss):
    X, Y = partial_data
    clf, expected = (
        PartialLabelClassifier(loss, solver=Minibatch(max_epochs=2), warm_start=True, random_state=0) for _ in range(2)
    )
    on_device(clf.fit, X, Y)
    expected.fit(X, Y)
    assert all(isinstance(tensor, OnDevice) for tensor in clf._states["loss"].values())
    state = on_device(clf.__getstate__)
    assert all(type(tensor) is torch.Tensor for tensor in state["_states"]["loss"].values())
    elsewhere = PartialLabelClassifier()
    elsewhere.__setstate__(state)
    expected.fit(X, Y)
    np.testing.assert_allclose(elsewhere.fit(X, Y).coef_, expected.coef_, rtol=1e-9)
    # And back again.
    clf.__setstate__(state)
    assert_equal(on_device(clf.fit, X, Y), expected, X, on_device)


@pytest.mark.parametrize("head", [AveragePooling(), WeldonPooling(2, 1)], ids=str)
def test_heads_on_maps(on_device, head):
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 5, 3, 3)), rng.integers(-1, 2, size=(40, 3))
    clf, expected = (
        PartialLabelClassifier("iu", head=head, solver=Minibatch(max_epochs=2), random_state=0) for _ in range(2)
    )
    assert_equal(on_device(clf.fit, X, Y), expected.fit(X, Y), X, on_device)


@pytest.mark.parametrize("bank_size", [20, 1000])
def test_similarities(partial_data, on_device, bank_size):
    X, Y = partial_data
    smooth = InteractiveSmoothness(n_atoms=2, bank_size=bank_size, balance=bank_size == 20)
    clf, expected = (
        PartialLabelClassifier("iu", regularizer=smooth, alpha=0.1, solver=Minibatch(max_epochs=2), random_state=0)
        for _ in range(2)
    )
    assert_equal(on_device(clf.fit, X, Y), expected.fit(X, Y), X, on_device)
    np.testing.assert_allclose(clf.label_graph_, expected.label_graph_, rtol=1e-9)


@pytest.mark.parametrize("solver", [FullBatch(), Minibatch(batch_size=8, max_epochs=3)], ids=str)
def test_search(partial_data, on_device, solver):
    X, Y = partial_data
    grid = {"alpha": [1e-3, 1e-1], "loss__label_smoothing": [0.0, 0.1]}
    clf = PartialLabelClassifier(AssumeNegative(), solver=solver, random_state=0)
    found = on_device(BatchedGridSearchCV(clf, grid, cv=3).fit, X, Y)
    expected = BatchedGridSearchCV(clf, grid, cv=3).fit(X, Y)
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-9)
